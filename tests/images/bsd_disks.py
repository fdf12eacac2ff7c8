# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of BSD systems as their projects publish them, but small: FFS by makefs(8), labels by images.bsd_labels.

They do not boot. What lies where, and its source:
FreeBSD 13 to 15: release/tools/vmimage.subr (mkimg -s gpt, nothing aligned, the root last, named rootfs).
NetBSD: distrib/common/bootimage (MBR at 2048, the root at the begin of its partition, 64 heads of 32 sectors), with
the swap in front as sysinst has it when asked, or behind as in the live image.
OpenBSD: fdisk -iy (MBR, a6 from 64 to the end) or fdisk -gy (GPT, EFI first, its area as number 4); disklabel -A.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from images.bsd_labels import FFS, SWAP, Label, Slice, System, decode
from images.file_systems import copy_into
from images.inspection import partition_table
from images.partitions import MIB, SECTOR, SECTORS_PER_MIB
from images.ufs2 import GROWTH, as_ufs2
from snf_image_shared.process import run

FREEBSD_BOOT = "83BD6B9D-7F41-11DC-BE0B-001560B84F0F"
FREEBSD_SWAP = "516E7CB5-6ECF-11D6-8FF8-00022D09712B"
FREEBSD_UFS = "516E7CB6-6ECF-11D6-8FF8-00022D09712B"
FREEBSD_ZFS = "516E7CBA-6ECF-11D6-8FF8-00022D09712B"
NETBSD_SWAP = "49F48D32-B10E-11DC-B99B-0019D1879648"
NETBSD_FFS = "49F48D5A-B10E-11DC-B99B-0019D1879648"
OPENBSD_DATA = "824CC7A0-36A8-11E3-890A-952519AD3F61"
EFI = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
DUID = "0f1e2d3c4b5a6978"
_ROOM = 24 * SECTORS_PER_MIB  # of a file system


@dataclass(frozen=True)
class Piece:
    """A partition of the table: `kind` as sfdisk takes it, `start` and `size` in sectors."""

    number: int
    start: int
    size: int
    kind: str
    name: str = ""


@dataclass(frozen=True)
class Volume:
    """An FFS: what its own system calls its device, and where it lies. `number` is what the helper calls it."""

    device: str
    mount_point: str
    start: int
    size: int
    number: int


@dataclass(frozen=True)
class BsdLayout:
    """`volumes` has the root first, `version` is that of their FFS; the label lies in the partition `labelled`."""

    system: System
    table: str
    mib: int
    pieces: tuple[Piece, ...]
    volumes: tuple[Volume, ...]
    swap: str = ""
    version: int = 2
    label: Label | None = None
    labelled: int = 0
    vfat: dict[int, str] = field(default_factory=dict)

    @property
    def root(self) -> Volume:
        return self.volumes[0]

    def fstab(self) -> str:
        """The guest's whole /etc/fstab."""
        kind = "ufs" if self.system is System.FREEBSD else "ffs"
        lines = [
            f"{volume.device}\t{volume.mount_point}\t{kind}\trw\t1\t{1 if volume.mount_point == '/' else 2}"
            for volume in self.volumes
        ]
        return "".join(f"{line}\n" for line in [*lines, *([f"{self.swap}\tnone\tswap\tsw\t0\t0"] if self.swap else [])])

    def script(self) -> str:
        """The input of sfdisk(8) that makes the table."""
        lines = [f"label: {self.table}", "label-id: " + _IDENTITY[self.table], "unit: sectors"]
        lines += ["first-lba: 34"] if self.table == "gpt" else []
        for piece in self.pieces:
            name = f', name="{piece.name}"' if piece.name else ""
            uuid = f", uuid=B5D05EED-0000-4000-8000-{piece.number:012d}" if self.table == "gpt" else ""
            lines.append(f"{piece.number} : start={piece.start}, size={piece.size}, type={piece.kind}{uuid}{name}")
        return "\n".join(lines) + "\n"


_IDENTITY = {"gpt": "B5D0B5D0-7B5A-4E3A-9E55-3C2B6A9D1302", "dos": "0xb5d0b5d0"}


def make_bsd_disk(layout: BsdLayout, tree: Path, disk: Path) -> None:
    """Make `disk` a new sparse file with the directory `tree` as its root; owners and modes are taken over.

    The other volumes are empty. Raises ProcessError.
    """
    with disk.open("xb") as file:
        file.truncate(layout.mib * MIB)
    run(["sfdisk", "--quiet", str(disk)], stdin=layout.script().encode())
    with TemporaryDirectory(dir=disk.parent) as scratch:
        empty = Path(scratch, "empty")
        empty.mkdir(mode=0o755)
        for volume in layout.volumes:
            made = Path(scratch, "ffs")
            make_ffs(tree if volume is layout.root else empty, made, volume.size * SECTOR, layout.version)
            copy_into(made, disk, volume.start * SECTOR)
            made.unlink()
        for number, label in layout.vfat.items():
            piece = next(piece for piece in layout.pieces if piece.number == number)
            made = Path(scratch, "vfat")
            with made.open("xb") as file:
                file.truncate(piece.size * SECTOR)
            run(["mkfs.vfat", "-n", label, str(made)])
            copy_into(made, disk, piece.start * SECTOR)
            made.unlink()
    if layout.label:  # after the FFS, which leaves it room and is copied with its zeros
        start = next(piece.start for piece in layout.pieces if piece.number == layout.labelled)
        with disk.open("r+b") as file:
            file.seek((start + 1) * SECTOR)
            file.write(layout.label.encode())


def make_ffs(tree: Path, image: Path, size: int, version: int = 2) -> None:
    """Make an FFS of `size` bytes as the releases do, with many i-nodes for its size. Raises ProcessError."""
    options = f"version={version},bsize=16384,fsize=2048,density=8192"
    if version == 2:
        size -= GROWTH
    run(["makefs", "-t", "ffs", "-B", "le", "-s", str(size), "-o", options, str(image), str(tree)])
    if version == 2:
        as_ufs2(image)


def read_label(disk: Path, number: int, system: System) -> Label:
    """The label in a partition of the table, by the tests' own decoder. Raises AssertionError for a wrong one."""
    start = partition_table(disk).partition(number).start
    with disk.open("rb") as file:
        file.seek((start + 1) * SECTOR)
        return decode(file.read(3 * SECTOR), system)


def _freebsd_gpt(kind: str = FREEBSD_UFS, version: int = 2) -> BsdLayout:
    boot, esp, swap, mib = 237, 4096, 8192, 32
    starts = (34, 34 + boot, 34 + boot + esp, 34 + boot + esp + swap)
    size = (mib * SECTORS_PER_MIB - 34 - starts[3]) & ~31
    pieces = (
        Piece(1, starts[0], boot, FREEBSD_BOOT, "bootfs"),
        Piece(2, starts[1], esp, EFI, "efiesp"),
        Piece(3, starts[2], swap, FREEBSD_SWAP, "swapfs"),
        Piece(4, starts[3], size, kind, "rootfs"),
    )
    volumes = (Volume("/dev/gpt/rootfs", "/", starts[3], size, 4),) if kind == FREEBSD_UFS else ()
    return BsdLayout(System.FREEBSD, "gpt", mib, pieces, volumes, "/dev/gpt/swapfs", version, vfat={2: "EFISYS"})


def _freebsd_data() -> BsdLayout:
    """As the official image, with a file system of data before the root."""
    only, data, mib = _freebsd_gpt(), 16 * SECTORS_PER_MIB, 48
    start = only.root.start
    root = Volume("/dev/gpt/rootfs", "/", start + data, only.root.size, 5)
    pieces = (
        *only.pieces[:3],
        Piece(4, start, data, FREEBSD_UFS, "datafs"),
        Piece(5, root.start, root.size, FREEBSD_UFS, "rootfs"),
    )
    return replace(only, mib=mib, pieces=pieces, volumes=(root, Volume("/dev/gpt/datafs", "/data", start, data, 4)))


def _freebsd_mbr() -> BsdLayout:
    start, mib = 63, 32
    size = mib * SECTORS_PER_MIB - start
    first, swap = 16, 4096
    root = (size - first - swap) & ~31
    slices = {
        "a": Slice(first + swap, root, FFS),
        "b": Slice(first, swap, SWAP),
        "c": Slice(0, size, 0),
    }
    label = Label(System.FREEBSD, size, slices, 255, 63, size // 16065, 8)
    volume = Volume("/dev/ada0s1a", "/", start + first + swap, root, 5)
    return BsdLayout(System.FREEBSD, "dos", mib, (Piece(1, start, size, "a5"),), (volume,), "/dev/ada0s1b", 2, label, 1)


def _netbsd_mbr(*, swap_last: bool = False) -> BsdLayout:
    start, mib, swap = 2048, 32, 4096
    total = mib * SECTORS_PER_MIB
    size = total - start
    root = Slice(start, size - swap, FFS) if swap_last else Slice(start + swap, size - swap, FFS)
    slices = {
        "a": root,
        "b": Slice(start + root.size if swap_last else start, swap, SWAP),
        "c": Slice(start, size, 0),
        "d": Slice(0, total, 0),
    }
    label = Label(System.NETBSD, total, slices, 64, 32, total // 2048)
    volume = Volume("/dev/wd0a", "/", root.start, root.size, 5)
    return BsdLayout(System.NETBSD, "dos", mib, (Piece(1, start, size, "a9"),), (volume,), "/dev/wd0b", 1, label, 1)


def _netbsd_gpt() -> BsdLayout:
    mib, start = 32, 2048 + 4096 + 4096
    size = mib * SECTORS_PER_MIB - 2048 - start
    pieces = (
        Piece(1, 2048, 4096, EFI, "EFI system"),
        Piece(2, 2048 + 4096, 4096, NETBSD_SWAP, "netbsd-swap"),
        Piece(3, start, size, NETBSD_FFS, "netbsd-root"),
    )
    volume = Volume("NAME=netbsd-root", "/", start, size, 3)
    return BsdLayout(System.NETBSD, "gpt", mib, pieces, (volume,), "NAME=netbsd-swap", vfat={1: "EFI"})


def _openbsd_label(begin: int, end: int, total: int, slices: dict[str, Slice]) -> Label:
    whole = {**slices, "c": Slice(0, total, 0, 0, 0)}
    return Label(System.OPENBSD, total, whole, 255, 63, total // 16065, 16, begin, end, DUID)


def _openbsd_mbr() -> BsdLayout:
    """Root, swap and /home, as disklabel's own layout begins and ends: what grows is /home."""
    start, mib, swap = 64, 64, 4096
    total = mib * SECTORS_PER_MIB
    slices = {
        "a": Slice(start, _ROOM, FFS),
        "b": Slice(start + _ROOM, swap, SWAP),
        "d": Slice(start + _ROOM + swap, (total - start - _ROOM - swap) & ~31, FFS),
    }
    volumes = (
        Volume(f"{DUID}.a", "/", slices["a"].start, slices["a"].size, 5),
        Volume(f"{DUID}.d", "/home", slices["d"].start, slices["d"].size, 7),
    )
    label = _openbsd_label(start, total, total, slices)
    pieces = (Piece(4, start, total - start, "a6"),)
    return BsdLayout(System.OPENBSD, "dos", mib, pieces, volumes, f"{DUID}.b", 2, label, 4)


def _openbsd_gpt() -> BsdLayout:
    mib, start, swap = 32, 64 + 960, 4096
    total = mib * SECTORS_PER_MIB
    end = total - 2048
    first = start + 64
    slices = {
        "a": Slice(first + swap, (end - first - swap) & ~31, FFS),
        "b": Slice(first, swap, SWAP),
        "i": Slice(64, 960, 8, 0, 0),
    }
    label = _openbsd_label(start, end, total, slices)
    pieces = (Piece(1, 64, 960, EFI, "EFI System Area"), Piece(4, start, end - start, OPENBSD_DATA, "OpenBSD Area"))
    volume = Volume(f"{DUID}.a", "/", slices["a"].start, slices["a"].size, 5)
    return BsdLayout(System.OPENBSD, "gpt", mib, pieces, (volume,), f"{DUID}.b", 2, label, 4, vfat={1: "EFI"})


BSD_LAYOUTS = {
    "freebsd-gpt": _freebsd_gpt(),
    "freebsd-gpt-data": _freebsd_data(),
    "freebsd-zfs": _freebsd_gpt(FREEBSD_ZFS),
    "freebsd-mbr": _freebsd_mbr(),
    "netbsd-mbr": _netbsd_mbr(),
    "netbsd-mbr-live": _netbsd_mbr(swap_last=True),
    "netbsd-gpt": _netbsd_gpt(),
    "openbsd-mbr": _openbsd_mbr(),
    "openbsd-gpt": _openbsd_gpt(),
}
