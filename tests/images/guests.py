# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that boot: the stacks of `stacks` on disks that boot each in a way of its own, as templates of a provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from images import grub
from images.bootstrap import Recipe, bootstrap, in_root
from images.cache import cached
from images.distribution import MASKED, PATIENCE, PATIENCE_FILE, initrd_hook
from images.file_systems import Kind
from images.layouts import Layout, Volume, lay_out
from images.partitions import SECTORS_PER_MIB, Partition, Table, TableType, Type, last_size
from images.stacks import STACKS, Stack

HOSTNAME = "template"
MACHINE_ID = "5e1f0c0ffee04badbe11ab1edecade03"
# An ordinary user, uid and gid 1000, whose password is locked; where there is cloud-init, that makes the user.
USER = "debian"
REMOVABLE = "EFI/BOOT/BOOTX64.EFI"
SERIAL = "console=tty0 console=ttyS0,115200"
_VENDOR = "EFI/debian/grubx64.efi"
_MIB = 1536
_PACKAGES = ("udev", "dbus", "kmod", "iproute2", "iputils-ping", "e2fsprogs", "openssh-server", "tzdata", "login")
_KERNEL = ("linux-image-cloud-amd64", "initramfs-tools", "lz4", "procps")
_TOOLS = {Kind.EXT4: (), Kind.XFS: ("xfsprogs",), Kind.BTRFS: ("btrfs-progs",)}
_GRUB_MODULES = {Kind.EXT4: "ext2", Kind.XFS: "xfs", Kind.BTRFS: "btrfs"}
_DEFAULT_GRUB = """GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=`( . /etc/os-release && echo ${{NAME}} )`
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX="{}"
"""


@dataclass(frozen=True)
class Disk:
    """`core` is where GRUB's core image lies, if the disk boots by BIOS.

    `loaders` are the files of the EFI system partition that hold GRUB for UEFI.
    """

    layout: Layout
    core: grub.Gap | None = None
    loaders: tuple[str, ...] = ()

    @property
    def root(self) -> Volume:
        return self.layout.volumes[0]

    @property
    def boot(self) -> Volume:
        """What holds /boot."""
        return next((volume for volume in self.layout.volumes if volume.mount_point == "/boot"), self.root)


@dataclass(frozen=True)
class Image:
    """A name of `stacks.STACKS` and of DISKS; `serial` is whether the template has a console on the serial port."""

    stack: str
    disk: str
    serial: bool = True


def _gpt(*partitions: Partition) -> Table:
    return Table(TableType.GPT, "6D1C0B52-7B5A-4E3A-9E55-3C2B6A9D1303", _MIB, partitions)


def _part(number: int, start_mib: int, size_mib: int, kind: Type) -> Partition:
    return Partition(number, start_mib * SECTORS_PER_MIB, size_mib * SECTORS_PER_MIB, kind)


def _last(number: int, start_mib: int, kind: Type, table: TableType = TableType.GPT) -> Partition:
    start = start_mib * SECTORS_PER_MIB
    return Partition(number, start, last_size(table, _MIB, start), kind, bootable=table is TableType.MBR)


def _ext4(number: int, at: str = "/", source: str = "", logical: str = "") -> Volume:
    # Both features are newer than the GRUB of Debian 12, which may be the one that reads this.
    older = ("-O", "^metadata_csum_seed,^orphan_file")
    return Volume(number, Kind.EXT4, at, source=source, logical=logical, options=older)


def _esp(number: int) -> Volume:
    return Volume(number, Kind.VFAT, "/boot/efi", label="ESP")


_IN_BIOS_BOOT = grub.Gap(SECTORS_PER_MIB, 3 * SECTORS_PER_MIB)
_UEFI = Layout(_gpt(_part(1, 1, 124, Type.ESP), _last(2, 125, Type.LINUX_ROOT)), (Volume(2, Kind.XFS, "/"), _esp(1)))
DISKS = {
    "bios-mbr-ext4": Disk(
        Layout(Table(TableType.MBR, "0x5eed0013", _MIB, (_last(1, 1, Type.MBR_LINUX, TableType.MBR),)), (_ext4(1),)),
        core=grub.Gap(1, 2047),
    ),
    # The numbers of Debian's own cloud images: the root is 1 and lies last.
    "bios-gpt-ext4": Disk(
        Layout(
            _gpt(_part(14, 1, 3, Type.BIOS_BOOT), _part(15, 4, 124, Type.ESP), _last(1, 128, Type.LINUX_ROOT)),
            (_ext4(1), _esp(15)),
        ),
        core=_IN_BIOS_BOOT,
        loaders=(REMOVABLE, _VENDOR),
    ),
    "bios-gpt-btrfs": Disk(
        Layout(
            _gpt(_part(1, 1, 3, Type.BIOS_BOOT), _last(2, 4, Type.LINUX)),
            (Volume(2, Kind.BTRFS, "/", subvolumes={"/": "@", "/home": "@home"}),),
        ),
        core=_IN_BIOS_BOOT,
    ),
    "uefi-gpt-xfs": Disk(_UEFI, loaders=(REMOVABLE, _VENDOR)),
    # Boots only where the firmware remembers what an installer told it, which no clone's firmware does.
    "uefi-gpt-xfs-vendor": Disk(_UEFI, loaders=(_VENDOR,)),
    "bios-gpt-lvm": Disk(
        Layout(
            _gpt(_part(1, 1, 3, Type.BIOS_BOOT), _part(2, 4, 192, Type.LINUX), _last(3, 196, Type.LINUX_LVM)),
            (_ext4(3, source="/dev/mapper/template-root", logical="template/root"), _ext4(2, "/boot")),
            logical={"template/root": 1328},
        ),
        core=_IN_BIOS_BOOT,
    ),
}
IMAGES: Mapping[str, Image] = {
    "ifupdown": Image("ifupdown", "bios-mbr-ext4"),
    "sysvinit": Image("sysvinit", "bios-mbr-ext4", serial=False),
    "networkd": Image("networkd", "uefi-gpt-xfs"),
    "netplan-networkd": Image("netplan-networkd", "bios-gpt-lvm"),
    "netplan-networkmanager": Image("netplan-networkmanager", "bios-gpt-btrfs"),
    "networkmanager": Image("networkmanager", "uefi-gpt-xfs-vendor", serial=False),
    "cloud-init": Image("cloud-init", "bios-gpt-ext4"),
}


def guest_image(name: str, cache: Path) -> Path:
    """Give the read-only raw image of that name in IMAGES, building it on the first call.

    Building takes root, the mirror and one to two minutes. Raises ProcessError.
    """
    recipe = ("guests", "stacks", "distribution", "bootstrap", "file_systems", "grub", "layouts", "logical_volumes")
    return cached(cache, f"guest-{name}", (*recipe, "partitions"), lambda scratch: _build(IMAGES[name], scratch))


@dataclass(frozen=True)
class _Tree:
    """A bootstrapped root that becomes an image; `kernel` is the version of its only one."""

    root: Path
    stack: Stack
    disk: Disk
    kernel: str
    serial: bool


def _build(image: Image, scratch: Path) -> Path:
    stack, disk = STACKS[image.stack], DISKS[image.disk]
    root, file = scratch / "root", scratch / "disk.raw"
    logical = bool(disk.layout.logical)
    tools = (*_TOOLS[disk.root.kind], *(("lvm2",) if logical else ()))
    modules = (disk.root.kind, *(("dm_mod",) if logical else ()))
    packages = (*_PACKAGES, *stack.init, *_KERNEL, *stack.packages, *tools)
    bootstrap(Recipe(stack.suite, "minbase", packages, (initrd_hook(*modules),)), root)
    (kernel,) = (path.name for path in (root / "lib/modules").iterdir())
    _dress(_Tree(root, stack, disk, kernel, image.serial))
    _write_esp_files(disk, root, scratch)
    lay_out(disk.layout, root, file)
    if disk.core:
        grub.install_bios(file, disk.core, _home(disk), scratch)
    return file


def _write_esp_files(disk: Disk, root: Path, scratch: Path) -> None:
    for loader in disk.loaders:
        path = root / "boot/efi" / loader
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(grub.uefi_loader(_home(disk), scratch))


def _home(disk: Disk) -> grub.Home:
    return grub.Home(disk.boot.uuid, _GRUB_MODULES[disk.boot.kind], f"{_from_the_top(disk)}/grub")


def _from_the_top(disk: Disk) -> str:
    """The directory /boot as GRUB sees it."""
    subvolume = disk.boot.subvolumes.get("/", "")
    return "" if disk.boot.mount_point == "/boot" else f"{f'/{subvolume}' if subvolume else ''}/boot"


def _dress(tree: _Tree) -> None:
    stack, root = tree.stack, tree.root
    files = {
        "/etc/hostname": f"{HOSTNAME}\n",
        "/etc/hosts": f"127.0.0.1\tlocalhost\n127.0.1.1\t{HOSTNAME}\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        "/etc/machine-id": f"{MACHINE_ID}\n",
        "/etc/fstab": tree.disk.layout.fstab(),
        "/etc/default/grub": _DEFAULT_GRUB.format(SERIAL if tree.serial else ""),
        "/boot/grub/grub.cfg": _grub_cfg(tree),
        "/etc/systemd/journald.conf.d/template.conf": "[Journal]\nStorage=volatile\n",
        PATIENCE_FILE: PATIENCE,
        **stack.files,
        **stack.traces,
    }
    links = {"/var/lib/dbus/machine-id": "/etc/machine-id", "/etc/resolv.conf": "", **stack.links}
    if "cloud-init" not in stack.packages:
        in_root(root, "useradd", "--create-home", "--shell", "/bin/bash", "--uid", "1000", USER)
    in_root(root, "passwd", "--quiet", "--lock", "root")
    for name in (*files, *links):
        path = root / name.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if name in files:
            path.write_text(files[name])
            path.chmod(0o600 if "netplan" in name or "NetworkManager" in name else 0o644)
        elif links[name]:
            path.symlink_to(links[name])
    (root / "boot/efi").mkdir(exist_ok=True)
    if stack.systemd:
        in_root(root, "systemctl", "--quiet", "mask", *MASKED)
        if stack.enabled:
            in_root(root, "systemctl", "--quiet", "enable", *stack.enabled)


def _grub_cfg(tree: _Tree) -> str:
    disk, boot = tree.disk, _from_the_top(tree.disk)
    root = disk.root.source or f"UUID={disk.root.uuid}"
    subvolume = disk.layout.subvolume
    words = [f"root={root}", "ro", *([f"rootflags=subvol={subvolume}"] if subvolume else ())]
    arguments = " ".join([*words, *([SERIAL] if tree.serial else ()), "quiet"])
    return (
        "set timeout=0\n"
        "serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\n"
        f"menuentry 'Debian GNU/Linux' {{\n"
        f"  search --no-floppy --fs-uuid --set=root {disk.boot.uuid}\n"
        f"  linux {boot}/vmlinuz-{tree.kernel} {arguments}\n  initrd {boot}/initrd.img-{tree.kernel}\n}}\n"
    )
