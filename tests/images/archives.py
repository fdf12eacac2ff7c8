# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests as archives: trees of Debian with kernels and every boot loader, for the layouts that the helper makes."""

from __future__ import annotations

import tarfile
from pathlib import Path

from images.bootstrap import Recipe, bootstrap, in_root
from images.cache import cached
from images.distribution import MASKED, PATIENCE, PATIENCE_FILE, initrd_hook

HOSTNAME = "template"
_PACKAGES = ("udev", "dbus", "kmod", "iproute2", "ifupdown", "e2fsprogs", "xfsprogs", "btrfs-progs", "login", "acl")
_KERNEL = ("linux-image-cloud-amd64", "initramfs-tools", "procps", "systemd-sysv", "openssh-server", "passwd")
_LOADERS = ("grub2-common", "grub-pc-bin", "grub-efi-amd64-bin")
_MODULES = ("ext4", "xfs", "btrfs")


def guest_tarball(suite: str, cache: Path) -> Path:
    """A tar archive, not compressed, of a Debian that can be booted from any of the file systems, made once.

    Root's password is locked. Raises ProcessError.
    """
    return cached(cache, f"tarball-{suite}", ("archives", "bootstrap", "distribution"), lambda at: _tarball(suite, at))


def _tarball(suite: str, scratch: Path) -> Path:
    root, tarball = scratch / "root", scratch / "guest.tar"
    packages = (*_PACKAGES, *_KERNEL, *_LOADERS)
    bootstrap(Recipe(suite, "minbase", packages, (initrd_hook(*_MODULES),)), root)
    (root / "etc/hostname").write_text(f"{HOSTNAME}\n")
    in_root(root, "passwd", "--lock", "root")
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    settings = root / PATIENCE_FILE.removeprefix("/")
    settings.parent.mkdir()
    settings.write_text(PATIENCE)
    with tarfile.open(tarball, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(root, ".")
    return tarball
