# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian as a provider would publish it: a raw disk that boots, with everything on it that customisation must change.

What shows the template's own identity is fixed (host name, machine-id, UUIDs), so that a test can tell that it
changed. What only costs start-up time under emulation is masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from images import grub
from images.bootstrap import Recipe, bootstrap, in_root
from images.cache import cached
from images.file_systems import Content, FileSystem, Kind, write_file_system
from images.partitions import SECTORS_PER_MIB, Partition, Table, TableType, Type, create_disk, last_size

HOSTNAME = "template"
MACHINE_ID = "5e1f0c0ffee04badbe11ab1edecade01"
ROOT_UUID = "7f3a9f7e-2c52-4d5c-9c7b-1d1f4b8f0a01"
ESP_UUID = "5EED-0E5F"
# An address file that no test's NIC uses: customisation must supersede it, not merely add to it.
NETWORKD_TEMPLATE = "/etc/systemd/network/80-template-dhcp.network"

_MIB = 1280
_ROOT_START = 128 * SECTORS_PER_MIB
_PACKAGES = (
    *("systemd-sysv", "udev", "dbus", "libpam-systemd", "kmod", "iproute2", "e2fsprogs", "openssh-server"),
    *("linux-image-cloud-amd64", "initramfs-tools", "lz4", "login", "procps"),
)
# The initrd is made while the kernel is configured, so its settings come before.
_INITRD_HOOK = (
    'mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"'
    ' && printf "MODULES=list\\nCOMPRESS=lz4\\n" >"$1/etc/initramfs-tools/conf.d/template"'
    ' && printf "%s\\n" virtio_pci virtio_blk {} >"$1/usr/share/initramfs-tools/modules.d/template"'
)
MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "man-db.timer", "fstrim.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "systemd-networkd-wait-online.service", "modprobe@drm.service"),
    *("systemd-pcrphase.service", "systemd-pcrphase-sysinit.service", "sys-kernel-debug.mount", "dev-hugepages.mount"),
    *("sys-kernel-tracing.mount", "systemd-tmpfiles-clean.timer", "kmod-static-nodes.service", "ldconfig.service"),
)
# An emulated guest beside three others finds its disk's partitions late: after more than systemd's 90 seconds.
PATIENCE_FILE = "/etc/systemd/system.conf.d/patience.conf"
PATIENCE = "[Manager]\nDefaultDeviceTimeoutSec=20min\nDefaultTimeoutStartSec=20min\n"
_CMDLINE = "console=tty0 console=ttyS0,115200 quiet"


@dataclass(frozen=True)
class Distribution:
    """`core` is where GRUB's core image lies; `files` are extra files, path within the root -> text."""

    suite: str
    packages: tuple[str, ...]
    table: Table
    core: grub.Gap
    files: dict[str, str]
    enabled: tuple[str, ...] = ()

    @property
    def root(self) -> Partition:
        """The last partition on the disk."""
        return self.table.partition(1)

    @property
    def esp(self) -> Partition | None:
        """The EFI system partition, which only GPT images have."""
        return next((part for part in self.table.partitions if part.type is Type.ESP), None)


TRIXIE = Distribution(
    suite="trixie",
    packages=_PACKAGES,
    # The numbers of Debian's own cloud images: the root is 1 and lies last.
    table=Table(
        TableType.GPT,
        "6D1C0B52-7B5A-4E3A-9E55-3C2B6A9D1301",
        _MIB,
        (
            Partition(14, 2048, 3 * SECTORS_PER_MIB, Type.BIOS_BOOT),
            Partition(15, 4 * SECTORS_PER_MIB, 124 * SECTORS_PER_MIB, Type.ESP),
            Partition(1, _ROOT_START, last_size(TableType.GPT, _MIB, _ROOT_START), Type.LINUX_ROOT),
        ),
    ),
    core=grub.Gap(2048, 3 * SECTORS_PER_MIB),
    files={NETWORKD_TEMPLATE: "[Match]\nName=en*\n\n[Network]\nDHCP=yes\n"},
    enabled=("systemd-networkd.service",),
)
DISTRIBUTIONS = {distribution.suite: distribution for distribution in (TRIXIE,)}


def debian(suite: str, cache: Path) -> Path:
    """Give the read-only raw image of the Debian `suite` (a key of DISTRIBUTIONS), building it on the first call.

    Building takes root, the mirror and about a minute. Raises ProcessError.
    """
    distribution = DISTRIBUTIONS[suite]
    recipe = ("distribution", "bootstrap", "file_systems", "grub", "partitions")
    return cached(cache, f"debian-{suite}", recipe, lambda scratch: _build(distribution, scratch))


def initrd_hook(*modules: str) -> str:
    """Give the hook that makes the initrd a small and quick one, with these kernel modules beside those of the disk."""
    return _INITRD_HOOK.format(" ".join(modules))


def _build(distribution: Distribution, scratch: Path) -> Path:
    root, disk = scratch / "root", scratch / "disk.raw"
    bootstrap(Recipe(distribution.suite, "minbase", distribution.packages, (initrd_hook("ext4"),)), root)
    _dress(distribution, root)
    create_disk(disk, distribution.table)
    write_file_system(disk, distribution.root, _make_root(root), scratch)
    if distribution.esp:
        write_file_system(disk, distribution.esp, _make_esp(scratch), scratch)
    grub.install_bios(disk, distribution.core, grub.Home(ROOT_UUID), scratch)
    return disk


def _dress(distribution: Distribution, root: Path) -> None:
    files = {
        "/etc/hostname": f"{HOSTNAME}\n",
        "/etc/hosts": f"127.0.0.1\tlocalhost\n127.0.1.1\t{HOSTNAME}\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        "/etc/machine-id": f"{MACHINE_ID}\n",
        "/etc/fstab": _fstab(distribution),
        "/etc/systemd/journald.conf.d/template.conf": "[Journal]\nStorage=volatile\n",
        PATIENCE_FILE: PATIENCE,
        "/boot/grub/grub.cfg": _grub_cfg(),
        **distribution.files,
    }
    for name, text in files.items():
        path = root / name.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "boot/efi").mkdir()
    in_root(root, "passwd", "--lock", "root")
    in_root(root, "systemctl", "--quiet", "mask", *MASKED)
    if distribution.enabled:
        in_root(root, "systemctl", "--quiet", "enable", *distribution.enabled)


def _fstab(distribution: Distribution) -> str:
    lines = ["# <file system> <mount point> <type> <options> <dump> <pass>"]
    lines.append(f"UUID={ROOT_UUID} / ext4 rw,discard,errors=remount-ro 0 1")
    if distribution.esp:
        lines.append(f"UUID={ESP_UUID} /boot/efi vfat defaults 0 0")
    return "\n".join(lines) + "\n"


def _grub_cfg() -> str:
    return (
        "set timeout=0\n"
        "serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\n"
        f"menuentry 'Debian GNU/Linux' {{\n"
        f"  linux /vmlinuz root=UUID={ROOT_UUID} ro {_CMDLINE}\n  initrd /initrd.img\n}}\n"
    )


def _make_root(root: Path) -> FileSystem:
    # Both features are newer than the GRUB of Debian 12, which may be the one that reads this.
    features = ("-O", "^metadata_csum_seed,^orphan_file")
    return FileSystem(Kind.EXT4, ROOT_UUID, (Content(root),), options=features)


def _make_esp(scratch: Path) -> FileSystem:
    loader = scratch / "esp/EFI/BOOT/BOOTX64.EFI"
    loader.parent.mkdir(parents=True)
    loader.write_bytes(grub.uefi_loader(grub.Home(ROOT_UUID), scratch))
    return FileSystem(Kind.VFAT, ESP_UUID, (Content(scratch / "esp"),), label="ESP")
