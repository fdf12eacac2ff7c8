# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian tree with every boot loader but GRUB 2: EXTLINUX, GRUB before 2 and systemd-boot, all of Debian 12."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from pathlib import Path

from images.bootstrap import Recipe, bootstrap, in_root
from images.cache import cached
from images.distribution import MASKED, initrd_hook

_PACKAGES = (
    *("systemd-sysv", "udev", "dbus", "kmod", "iproute2", "ifupdown", "e2fsprogs", "login", "passwd", "procps"),
    *("linux-image-cloud-amd64", "initramfs-tools", "lz4", "extlinux", "grub-legacy", "systemd-boot"),
)
# grub-legacy's hook for new kernels fails where it is not installed yet.
_NO_MENU = 'echo "path-exclude=/etc/kernel/*/zz-update-grub" >"$1/etc/dpkg/dpkg.cfg.d/template"'
# What makes each of them one that the guest has.
PROGRAMS = {
    "extlinux": ("./usr/bin/extlinux",),
    "grub-legacy": ("./usr/sbin/grub",),
    "systemd-boot": ("./usr/lib/systemd/boot/efi/systemd-bootx64.efi",),
}


def small_loaders_tarball(cache: Path) -> Path:
    """A tar archive, not compressed, made once. Root's password is locked. Raises ProcessError."""
    modules = ("small_loaders", "bootstrap", "distribution")
    return cached(cache, "tarball-small-loaders", modules, _build)


def without(tarball: Path, names: Iterable[str], to: Path) -> Path:
    """A copy of the archive without these members."""
    left_out = frozenset(names)
    with tarfile.open(tarball) as old, tarfile.open(to, "w", format=tarfile.PAX_FORMAT) as new:
        for member in old:
            if member.name not in left_out:
                new.addfile(member, old.extractfile(member) if member.isreg() else None)
    return to


def _build(scratch: Path) -> Path:
    root, tarball = scratch / "root", scratch / "guest.tar"
    bootstrap(Recipe("bookworm", "minbase", _PACKAGES, (initrd_hook("ext4"), _NO_MENU)), root)
    (root / "etc/hostname").write_text("template\n")
    in_root(root, "passwd", "--lock", "root")
    in_root(root, "systemctl", "--quiet", "mask", *MASKED)
    with tarfile.open(tarball, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(root, ".")
    return tarball
