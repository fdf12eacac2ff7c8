# SPDX-License-Identifier: GPL-2.0-or-later
"""Small images, one for each way a guest can lie on a disk. They do not boot: the tests look at them from outside.

All hold the same tree, a real Debian with an ssh server and ifupdown but without kernel and init. Its identity is
fixed where a test must see that it changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from images.bootstrap import CONFINED, Recipe, bootstrap, in_root
from images.cache import cached
from images.file_systems import Content, FileSystem, Kind, write_file_system
from images.inspection import Where, extent
from images.logical_volumes import Extent, create_group
from images.partitions import SECTOR, SECTORS_PER_MIB, Partition, Table, TableType, Type, create_disk, last_size
from snf_image_shared.process import run

HOSTNAME = "template"
MACHINE_ID = "5e1f0c0ffee04badbe11ab1edecade02"
# An ordinary user of every guest, uid and gid 1000.
USER = "debian"
_SUITE = "trixie"
_PACKAGES = ("passwd", "login", "openssh-server", "ifupdown")
_DISK_ID = {TableType.GPT: "6D1C0B52-7B5A-4E3A-9E55-3C2B6A9D1302", TableType.MBR: "0x5eed0002"}
_INTERFACES = "source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n"


@dataclass(frozen=True)
class Volume:
    """One file system, and the name by which fstab calls it (`UUID=` when `source` is empty)."""

    partition: int
    kind: Kind
    mount_point: str
    label: str = ""
    source: str = ""
    # Mount point -> subvolume, instead of everything lying at the top of the file system.
    subvolumes: dict[str, str] = field(default_factory=dict)
    # The logical volume on the partition that it lies on, "group/name".
    logical: str = ""
    options: tuple[str, ...] = ()

    @property
    def where(self) -> Where:
        """As images.inspection calls its place."""
        return f"{self.partition}:{self.logical}" if self.logical else self.partition

    @property
    def uuid(self) -> str:
        """Fixed by the partition's number, in the form that belongs to the file system."""
        if self.kind is Kind.VFAT:
            return f"5EED-{self.partition:04d}"
        return f"7f3a9f7e-2c52-4d5c-9c7b-1d1f4b8f{len(self.logical) or 2:02x}{self.partition:02d}"

    def fstab(self) -> list[str]:
        """Give its lines of fstab(5)."""
        source = self.source or f"UUID={self.uuid}"
        if self.subvolumes:
            return [
                f"{source}\t{at}\t{self.kind}\tdefaults,subvol={name}\t0\t0" for at, name in self.subvolumes.items()
            ]
        return [f"{source}\t{self.mount_point}\t{self.kind}\tdefaults\t0\t{1 if self.mount_point == '/' else 2}"]


@dataclass(frozen=True)
class Layout:
    """A disk: `volumes` has the root first; `fstab_extra` are lines of fstab that name no volume of it.

    `logical` are the sizes in MiB of the logical volumes "group/name" on the last partition, in their order.
    """

    table: Table
    volumes: tuple[Volume, ...]
    fstab_extra: tuple[str, ...] = ()
    logical: dict[str, int] = field(default_factory=dict)

    @property
    def root(self) -> int:
        """Number of the root partition."""
        return self.volumes[0].partition

    @property
    def root_place(self) -> Where:
        """Where the root lies."""
        return self.volumes[0].where

    @property
    def kind(self) -> Kind:
        """File system of the root."""
        return self.volumes[0].kind

    @property
    def table_type(self) -> TableType:
        return self.table.type

    @property
    def subvolume(self) -> str:
        """The subvolume that holds the root, empty when there is none."""
        return self.volumes[0].subvolumes.get("/", "")

    @property
    def mib(self) -> int:
        """Size of the image in MiB."""
        return self.table.mib

    def fstab(self) -> str:
        """Give the guest's whole /etc/fstab."""
        lines = [line for volume in self.volumes for line in volume.fstab()]
        return "\n".join(["# written for the tests", *lines, *self.fstab_extra]) + "\n"


def _mbr(mib: int, *partitions: Partition) -> Table:
    return Table(TableType.MBR, _DISK_ID[TableType.MBR], mib, partitions)


def _gpt(mib: int, *partitions: Partition) -> Table:
    return Table(TableType.GPT, _DISK_ID[TableType.GPT], mib, partitions)


def _bare(mib: int) -> Table:
    return Table(TableType.NONE, "", mib, ())


def _part(number: int, start_mib: int, size_mib: int, kind: Type) -> Partition:
    gpt = len(kind) > 2
    return Partition(
        number,
        start_mib * SECTORS_PER_MIB,
        size_mib * SECTORS_PER_MIB,
        kind,
        uuid=f"0B5E55ED-0000-4000-8000-00000000000{number}" if gpt else "",
        name=f"part{number}" if gpt else "",
    )


def _last(number: int, start_mib: int, mib: int, kind: Type) -> Partition:
    table = TableType.GPT if len(kind) > 2 else TableType.MBR
    return _part(number, start_mib, last_size(table, mib, start_mib * SECTORS_PER_MIB) // SECTORS_PER_MIB, kind)


def _whole(kind: Kind, mib: int, subvolumes: dict[str, str] | None = None) -> Layout:
    volume = Volume(1, kind, "/", subvolumes=subvolumes or {})
    return Layout(_gpt(mib, _last(1, 1, mib, Type.LINUX)), (volume,))


# All guests have host keys for new ones to take their place. To make one of this type takes the helper VM some seconds
# under emulation, so this layout alone has one.
WITH_RSA_KEY = "boot-esp-gpt"
_EXT = 512
_LARGE = 640
LAYOUTS = {
    "ext4-mbr-primary": Layout(
        _mbr(_EXT, _last(1, 1, _EXT, Type.MBR_LINUX)),
        (Volume(1, Kind.EXT4, "/"),),
    ),
    "ext4-mbr-logical": Layout(
        _mbr(
            _EXT,
            _part(1, 1, 16, Type.MBR_LINUX),
            _last(2, 17, _EXT, Type.MBR_EXTENDED),
            _last(5, 18, _EXT, Type.MBR_LINUX),
        ),
        (Volume(5, Kind.EXT4, "/"), Volume(1, Kind.EXT4, "/boot")),
    ),
    # A primary with a higher number than the extended partition that lies last: upstream grew the wrong one.
    "ext4-mbr-logical-low-extended": Layout(
        _mbr(
            _EXT,
            _part(1, 1, 16, Type.MBR_LINUX),
            _last(2, 33, _EXT, Type.MBR_EXTENDED),
            _part(3, 17, 16, Type.MBR_LINUX),
            _last(5, 34, _EXT, Type.MBR_LINUX),
        ),
        (Volume(5, Kind.EXT4, "/"), Volume(1, Kind.EXT4, "/boot"), Volume(3, Kind.EXT4, "/srv")),
    ),
    "ext4-mbr-primary-after-extended": Layout(
        _mbr(
            _EXT,
            _part(1, 1, 16, Type.MBR_LINUX),
            _part(2, 17, 17, Type.MBR_EXTENDED),
            _last(3, 34, _EXT, Type.MBR_LINUX),
            _part(5, 18, 16, Type.MBR_LINUX),
        ),
        (Volume(3, Kind.EXT4, "/"), Volume(1, Kind.EXT4, "/boot"), Volume(5, Kind.EXT4, "/srv")),
    ),
    # Ubuntu's numbers: 14 and 15 lie in front, and 1 is the last.
    "ext3-gpt-14-15-1": Layout(
        _gpt(
            _LARGE,
            _last(1, 41, _LARGE, Type.LINUX),
            replace(_part(4, 1, 4, Type.BIOS_BOOT), number=14),
            replace(_part(5, 5, 36, Type.ESP), number=15),
        ),
        (Volume(1, Kind.EXT3, "/"), Volume(15, Kind.VFAT, "/boot/efi", label="ESP")),
    ),
    "ext4-gpt": _whole(Kind.EXT4, _EXT),
    "xfs-gpt": _whole(Kind.XFS, _LARGE),
    # As Ubuntu does it: the default subvolume is the top, which holds nothing but the two.
    "btrfs-gpt": _whole(Kind.BTRFS, _LARGE, subvolumes={"/": "@", "/home": "@home"}),
    "btrfs-gpt-plain": _whole(Kind.BTRFS, _LARGE),
    # Every way of naming a file system, and entries that must not be mounted or must not be missed.
    "boot-esp-gpt": Layout(
        _gpt(
            _LARGE,
            _part(1, 1, 40, Type.ESP),
            _part(2, 41, 32, Type.LINUX),
            _part(4, 73, 16, Type.LINUX),
            _last(3, 89, _LARGE, Type.LINUX_ROOT),
        ),
        (
            Volume(3, Kind.EXT4, "/", source="PARTUUID=0b5e55ed-0000-4000-8000-000000000003"),
            Volume(2, Kind.EXT4, "/boot", label="boot", source="LABEL=boot"),
            Volume(1, Kind.VFAT, "/boot/efi", label="ESP"),
            Volume(4, Kind.EXT4, "/srv", source="/dev/disk/by-uuid/7f3a9f7e-2c52-4d5c-9c7b-1d1f4b8f0204"),
        ),
        (
            "/dev/sr0\t/media/cdrom0\tudf,iso9660\tuser,noauto\t0\t0",
            "UUID=00000000-dead-4bad-8000-000000000000\t/mnt/backup\text4\tdefaults,nofail\t0\t2",
            "tmpfs\t/tmp\ttmpfs\tdefaults\t0\t0",
        ),
    ),
}


# What the tests of the matrix cannot ask for swap on, or cannot read from outside.
UNUSUAL = {
    # Names with hyphens, which are doubled below /dev/mapper; both ways of writing a volume.
    "lvm-ext4": Layout(
        _gpt(704, _part(1, 1, 32, Type.LINUX), _last(2, 33, 704, Type.LINUX_LVM)),
        (
            Volume(2, Kind.EXT4, "/", source="/dev/mapper/the--group-the--root", logical="the-group/the-root"),
            Volume(2, Kind.EXT4, "/srv", source="/dev/the-group/data", logical="the-group/data"),
            Volume(1, Kind.EXT2, "/boot"),
        ),
        ("/dev/mapper/the--group-swap\tnone\tswap\tsw\t0\t0",),
        {"the-group/swap": 32, "the-group/data": 64, "the-group/the-root": 512},
    ),
    "lvm-xfs": Layout(
        _mbr(704, _part(1, 1, 32, Type.MBR_LINUX), _last(2, 33, 704, Type.MBR_LVM)),
        (
            Volume(2, Kind.XFS, "/", source="/dev/mapper/rl-root", logical="rl/root"),
            Volume(1, Kind.EXT4, "/boot"),
        ),
        logical={"rl/root": 600},
    ),
    "f2fs-gpt": _whole(Kind.F2FS, _LARGE),
    # The features that today's mke2fs sets, by name: the one of Debian 12 does not set both.
    "ext4-whole-disk": Layout(
        _bare(_EXT),
        (Volume(0, Kind.EXT4, "/", options=("-O", "orphan_file,metadata_csum_seed,metadata_csum")),),
    ),
    "xfs-whole-disk": Layout(_bare(_LARGE), (Volume(0, Kind.XFS, "/"),)),
    "ext2-esp-last": Layout(
        _gpt(_LARGE, _part(1, 1, 580, Type.LINUX), _last(2, 581, _LARGE, Type.ESP)),
        (Volume(1, Kind.EXT2, "/"), Volume(2, Kind.VFAT, "/boot/efi", label="ESP")),
    ),
}


def layout(name: str, cache: Path) -> Path:
    """Give the read-only raw image of that name in LAYOUTS, building it on the first call. Raises ProcessError."""
    recipe = ("layouts", "bootstrap", "file_systems", "partitions", "logical_volumes")
    return cached(cache, f"layout-{name}", recipe, lambda scratch: _build(name, guest_tree(cache), scratch))


def guest_tree(cache: Path) -> Path:
    """Give the tar archive of the tree that all layouts hold; building it takes the mirror. Raises ProcessError."""
    return cached(cache, "guest-tree", ("layouts", "bootstrap"), _build_tree)


def _build_tree(scratch: Path) -> Path:
    root, archive = scratch / "root", scratch / "tree.tar"
    bootstrap(Recipe(_SUITE, "essential", _PACKAGES), root)
    in_root(root, "useradd", "--create-home", "--shell", "/bin/bash", "--uid", "1000", USER)
    in_root(root, "passwd", "--quiet", "--lock", "root")
    files = {
        "etc/hostname": f"{HOSTNAME}\n",
        "etc/hosts": f"127.0.0.1\tlocalhost\n127.0.1.1\t{HOSTNAME}\n",
        "etc/machine-id": f"{MACHINE_ID}\n",
        "etc/network/interfaces": _INTERFACES,
        "boot/efi/EFI/debian/grub.cfg": "# on the ESP\n",
        "boot/config-template": "# on /boot\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "var/lib/dbus").mkdir()
    (root / "var/lib/dbus/machine-id").symlink_to("/etc/machine-id")
    _tar(archive, root, "--create", ".")
    return archive


def lay_out(wanted: Layout, root: Path, disk: Path) -> None:
    """Make `disk` with the table and the volumes, into which the tree `root` goes; `root` is spent. ProcessError."""
    create_disk(disk, wanted.table)
    if wanted.logical:
        group = next(iter(wanted.logical)).partition("/")[0]
        volumes = {name.partition("/")[2]: mib for name, mib in wanted.logical.items()}
        last = wanted.table.partition(wanted.root)
        create_group(disk, Extent(last.offset, last.length), group, volumes)
    # The deepest mount point first: what lies below it leaves the tree before its parent is written.
    for volume in sorted(
        wanted.volumes, key=lambda each: each.mount_point.count("/") + len(each.mount_point), reverse=True
    ):
        content = _contents(volume, root, root.parent)
        system = FileSystem(volume.kind, volume.uuid, content, volume.label, volume.options)
        place = extent(disk, volume.where)
        piece = Partition(volume.partition, place.offset // SECTOR, place.length // SECTOR, Type.LINUX)
        write_file_system(disk, piece, system, root.parent)


def _build(name: str, archive: Path, scratch: Path) -> Path:
    wanted, root, disk = (LAYOUTS | UNUSUAL)[name], scratch / "root", scratch / "disk.raw"
    root.mkdir()
    _tar(archive, root, "--extract")
    if name != WITH_RSA_KEY:
        for key in (root / "etc/ssh").glob("ssh_host_rsa_key*"):
            key.unlink()
    (root / "etc/fstab").write_text(wanted.fstab())
    lay_out(wanted, root, disk)
    return disk


def _contents(volume: Volume, root: Path, scratch: Path) -> tuple[Content, ...]:
    if not volume.subvolumes:
        return (Content(_taken_out(volume.mount_point, root, scratch)),)
    below_first = sorted(volume.subvolumes.items(), reverse=True)
    return tuple(Content(_taken_out(at, root, scratch), name) for at, name in below_first)


def _taken_out(mount_point: str, root: Path, scratch: Path) -> Path:
    """Give the directory with what belongs on `mount_point`, leaving an empty one in the tree."""
    if mount_point == "/":
        return root
    inside, outside = root / mount_point.removeprefix("/"), scratch / f"volume{mount_point.replace('/', '-')}"
    inside.rename(outside)
    inside.mkdir(mode=0o755)
    return outside


def _tar(archive: Path, root: Path, *mode: str) -> None:
    keep = ("--numeric-owner", "--xattrs", "--xattrs-include=*", "--one-file-system", "--preserve-permissions")
    run([*CONFINED, "tar", "--file", str(archive), "--directory", str(root), *keep, *mode])
