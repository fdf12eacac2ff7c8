# SPDX-License-Identifier: GPL-2.0-or-later
"""Look at a deployed disk from outside, with other people's tools, and leave nothing behind.

ext is read by debugfs, vfat by mtools; xfs and btrfs are mounted read-only in a name space of their own. A `disk` is
a raw file or a block device. A `path` is absolute within its file system, and its last part is never followed. What is
called a `partition` is the number of one, 0 for the whole disk, or "2:group/name" for a logical volume of LVM on 2.
"""

from __future__ import annotations

import json
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from images.bootstrap import CONFINED
from images.file_systems import EXT, Kind
from images.logical_volumes import Extent, volume_extent
from images.partitions import MIB, SECTOR
from snf_image_shared.process import Finished, Limits, ProcessError, run

# $1 options, $2 the disk, $3 where to mount it; the rest is the command to run there.
_LOOK = 'mount -o "$1" "$2" "$3"; cd "$3"; shift 3; "$@"'
_LIMITS = Limits(timeout=300)
_FORMATS = {"regular": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}


Where = int | str


class FaultyDiskError(Exception):
    """A checker found the disk wrong; the text is what it said."""


@dataclass(frozen=True)
class FoundPartition:
    """`start` and `size` in sectors; `type`, `uuid`, `name` as sfdisk shows them, empty where there are none."""

    number: int
    start: int
    size: int
    type: str
    uuid: str
    name: str
    bootable: bool

    @property
    def end(self) -> int:
        """The last sector."""
        return self.start + self.size - 1

    @property
    def offset(self) -> int:
        """Bytes from the start of the disk."""
        return self.start * SECTOR

    @property
    def length(self) -> int:
        """Bytes."""
        return self.size * SECTOR


@dataclass(frozen=True)
class FoundTable:
    """`label` is `gpt` or `dos`; `partitions` lie in the table's own order."""

    label: str
    identity: str
    partitions: tuple[FoundPartition, ...]

    def partition(self, number: int) -> FoundPartition:
        """Raises KeyError when the table has none of that number."""
        return {partition.number: partition for partition in self.partitions}[number]


@dataclass(frozen=True)
class Probe:
    """What blkid sees in a partition; all empty when it knows nothing of it."""

    type: str
    uuid: str
    label: str


@dataclass(frozen=True)
class FileStat:
    """`mode` has the file's type as well, as in stat(2); `permissions` are its lower 12 bits; `size` in bytes."""

    uid: int
    gid: int
    mode: int
    size: int

    @property
    def permissions(self) -> int:
        return stat.S_IMODE(self.mode)


@dataclass(frozen=True)
class Tree:
    """A file system to read from. `subvolume` only exists on btrfs, where empty means the default one."""

    disk: Path
    partition: Where
    subvolume: str = ""


def partition_table(disk: Path) -> FoundTable:
    """Read the table with sfdisk(8). Raises ProcessError when there is none."""
    table = json.loads(run(["sfdisk", "--json", str(disk)]).stdout)["partitiontable"]
    return FoundTable(table["label"], table["id"], tuple(_found(entry) for entry in table["partitions"]))


def check_table(disk: Path) -> None:
    """Raise FaultyDiskError unless sgdisk, for a GPT, or sfdisk, for an MBR, finds nothing wrong with the table."""
    if partition_table(disk).label == "gpt":
        said = run(["sgdisk", "--verify", str(disk)], limits=Limits(accept=frozenset(range(256))))
        # A damaged header is only a warning to it: "No problems found" all the same, and status 0.
        if said.status != 0 or said.stderr.strip() or "No problems found" not in said.stdout:
            raise FaultyDiskError(said.stdout + said.stderr)
    else:
        _checked(["sfdisk", "--verify", "--lock=no", str(disk)])


def fsck(disk: Path, partition: Where) -> None:
    """Raise FaultyDiskError unless the file system's own checker, changing nothing, finds nothing wrong with it."""
    kind = probe(disk, partition).type
    checkers = {
        Kind.EXT2: ["e2fsck", "-f", "-n"],
        Kind.EXT3: ["e2fsck", "-f", "-n"],
        Kind.EXT4: ["e2fsck", "-f", "-n"],
        Kind.F2FS: ["fsck.f2fs", "--dry-run"],
        Kind.XFS: ["xfs_repair", "-n"],
        Kind.BTRFS: ["btrfs", "check", "--readonly"],
        Kind.VFAT: ["fsck.vfat", "-n"],
    }
    with _extracted(disk, partition) as copy:
        _checked([*checkers[Kind(kind)], str(copy)])


def probe(disk: Path, partition: Where) -> Probe:
    """Ask blkid what the partition holds: a file system, swap, or nothing."""
    found = extent(disk, partition)
    argv = ["blkid", "--probe", "--output", "export", "--offset", str(found.offset), "--size", str(found.length)]
    said = run([*argv, str(disk)], limits=Limits(accept=frozenset({0, 2}))).stdout
    values = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    return Probe(values.get("TYPE", ""), values.get("UUID", ""), values.get("LABEL", ""))


def filesystem_size(disk: Path, partition: Where) -> int:
    """Give the bytes that the file system believes to have, from its superblock."""
    with disk.open("rb") as file:
        file.seek(extent(disk, partition).offset)
        head = file.read(128 * 1024)
    match Kind(probe(disk, partition).type):
        case Kind.EXT2 | Kind.EXT3 | Kind.EXT4:
            # The upper half of the count exists only with the feature "64bit".
            low, high = struct.unpack_from("<I", head, 0x404)[0], struct.unpack_from("<I", head, 0x550)[0]
            size = (high << 32 | low) * (1024 << struct.unpack_from("<I", head, 0x418)[0])
        case Kind.XFS:
            block, blocks = struct.unpack_from(">IQ", head, 4)
            size = block * blocks
        case Kind.F2FS:
            (blocks,) = struct.unpack_from("<Q", head, 0x400 + 36)  # struct f2fs_super_block: block_count
            size = blocks * 4096
        case Kind.BTRFS:
            (size,) = struct.unpack_from("<Q", head, 0x10000 + 0x70)
        case Kind.VFAT:
            (size,) = struct.unpack_from("<I", head, 32)
            size *= SECTOR
    return int(size)


def extent(disk: Path, partition: Where) -> Extent:
    """Where it lies. Raises FaultyDiskError for a logical volume in several pieces: no test makes one."""
    if partition == 0:
        with disk.open("rb") as file:
            return Extent(0, file.seek(0, os.SEEK_END))
    number, _, volume = str(partition).partition(":")
    found = partition_table(disk).partition(int(number))
    if not volume:
        return Extent(found.offset, found.length)
    inside = volume_extent(disk, Extent(found.offset, found.length), volume)
    return Extent(found.offset + inside.offset, inside.length)


def read_file(tree: Tree, path: str) -> bytes:
    """Give a regular file's content. Raises FileNotFoundError; ProcessError when it is no regular file."""
    with TemporaryDirectory() as scratch:
        out = Path(scratch) / "content"
        match Kind(probe(tree.disk, tree.partition).type):
            case Kind.EXT2 | Kind.EXT3 | Kind.EXT4:
                if not stat.S_ISREG(_stat_ext(tree, path).mode):
                    raise ProcessError("debugfs", f"finds no regular file {path}")
                _debugfs(tree, f'dump "{path}" "{out}"')
            case Kind.VFAT:
                _mtools(tree, "mcopy", path, str(out))
            case _:
                _look(tree, "stat", path)
                _look(tree, "dd", path, "status=none", "iflag=nofollow", f"of={out}")
        return out.read_bytes()


def stat_file(tree: Tree, path: str) -> FileStat:
    """Give what stat(2) says of it. Raises FileNotFoundError; vfat has no owners to ask for."""
    if probe(tree.disk, tree.partition).type in EXT:
        return _stat_ext(tree, path)
    uid, gid, mode, size = _look(tree, "stat", path, "--format=%u %g %f %s").stdout.split()
    return FileStat(int(uid), int(gid), int(mode, 16), int(size))


def exists(tree: Tree, path: str) -> bool:
    """Whether there is anything of that name, a dangling link included."""
    try:
        if probe(tree.disk, tree.partition).type == Kind.VFAT:
            _mtools(tree, "mattrib", path)
        else:
            stat_file(tree, path)
    except FileNotFoundError:
        return False
    return True


def list_directory(tree: Tree, path: str) -> list[str]:
    """Give the names in a directory of ext, xfs or btrfs, sorted. Raises FileNotFoundError."""
    if probe(tree.disk, tree.partition).type in EXT:
        _stat_ext(tree, path)
        rows = [line.split("/") for line in _debugfs(tree, f'ls -p "{path}"').stdout.splitlines() if line]
        # An entry that was removed is still listed, as inode 0.
        names = [row[5] for row in rows if row[1] != "0"]
    else:
        names = _look(tree, "ls", path, "-a").stdout.splitlines()
    return sorted(name for name in names if name not in {".", ".."})


def _found(entry: dict[str, str | int | bool]) -> FoundPartition:
    number = re.fullmatch(r".*?(\d+)", str(entry["node"]))
    if not number:
        raise ValueError(f"sfdisk names a partition {entry['node']}")
    type_, uuid, name = (str(entry.get(key, "")) for key in ("type", "uuid", "name"))
    start, size = int(entry["start"]), int(entry["size"])
    return FoundPartition(int(number[1]), start, size, type_, uuid, name, bool(entry.get("bootable")))


def _checked(argv: list[str]) -> None:
    try:
        run(argv, limits=_LIMITS)
    except ProcessError as error:
        raise FaultyDiskError("\n".join([str(error), *error.stderr_tail])) from error


@contextmanager
def _extracted(disk: Path, partition: Where) -> Iterator[Path]:
    """A sparse copy of the partition, for programs that know of no offset."""
    found = extent(disk, partition)
    with TemporaryDirectory(dir="/var/tmp") as scratch:
        copy = Path(scratch) / "partition"
        with disk.open("rb") as reader, copy.open("wb") as writer:
            writer.truncate(found.length)
            for start, end in _data(reader.fileno(), found.offset, found.offset + found.length):
                reader.seek(start)
                writer.seek(start - found.offset)
                for position in range(start, end, MIB):
                    writer.write(reader.read(min(MIB, end - position)))
        yield copy


def _data(descriptor: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The extents between two offsets that are no holes; a block device is one extent."""
    if stat.S_ISBLK(os.fstat(descriptor).st_mode):
        yield start, end
        return
    while start < end:
        try:
            begin = os.lseek(descriptor, start, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        start = os.lseek(descriptor, begin, os.SEEK_HOLE)
        if begin < end:
            yield begin, min(start, end)


def _debugfs(tree: Tree, request: str) -> Finished:
    offset = extent(tree.disk, tree.partition).offset
    return run(["debugfs", "-R", request, f"{tree.disk}?offset={offset}"])


def _stat_ext(tree: Tree, path: str) -> FileStat:
    said = _debugfs(tree, f'stat "{path}"')
    found = re.search(r"Type: (\w+) +Mode: +(\d+).*?User: +(\d+) +Group: +(\d+).*?Size: (\d+)", said.stdout, re.DOTALL)
    if not found:
        raise FileNotFoundError(path)
    kind, mode, uid, gid, size = found.groups()
    return FileStat(int(uid), int(gid), _FORMATS.get(kind, 0) | int(mode, 8), int(size))


def _mtools(tree: Tree, program: str, path: str, *to: str) -> None:
    offset = extent(tree.disk, tree.partition).offset
    try:
        run([program, "-i", f"{tree.disk}@@{offset}", f"::{path}", *to])
    except ProcessError as error:
        raise FileNotFoundError(path) from error


def _look(tree: Tree, program: str, path: str, *options: str) -> Finished:
    """Run a program of this machine on a path of the tree. Raises FileNotFoundError."""
    found = extent(tree.disk, tree.partition)
    subvolume = f",subvol={tree.subvolume}" if tree.subvolume else ""
    mount = f"ro,loop,offset={found.offset},sizelimit={found.length}{subvolume}"
    name = f"if=.{path}" if program == "dd" else f".{path}"
    with TemporaryDirectory() as directory:
        script = [*CONFINED, "sh", "-ec", _LOOK, "look", mount, str(tree.disk), directory, program, *options, name]
        try:
            return run(script, limits=_LIMITS)
        except ProcessError as error:
            if "No such file" in str(error):
                raise FileNotFoundError(path) from error
            raise
