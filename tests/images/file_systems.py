# SPDX-License-Identifier: GPL-2.0-or-later
"""File systems with a content, made as files and then laid into a disk: nothing needs a partition device.

The kernel is asked only for xfs and btrfs, by loop mounts in a name space of their own; the loop device goes with it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from images.bootstrap import CONFINED
from images.partitions import MIB, Partition
from snf_image_shared.process import Limits, run

# $1 the file system, $2 where to mount it; then pairs of a subvolume ("" for none) and the directory to copy into it.
_FILL = """
file=$1 mount=$2; shift 2
mount -o loop "$file" "$mount"
while [ $# -gt 0 ]; do
    if [ -n "$1" ]; then btrfs --quiet subvolume create "$mount/$1"; fi
    cp --archive "$2/." "$mount/$1"
    shift 2
done
umount "$mount"
"""


class Kind(StrEnum):
    """File systems by the names that blkid(8) and fstab(5) give them."""

    EXT2 = "ext2"
    EXT3 = "ext3"
    EXT4 = "ext4"
    F2FS = "f2fs"
    XFS = "xfs"
    BTRFS = "btrfs"
    VFAT = "vfat"


EXT = frozenset({Kind.EXT2, Kind.EXT3, Kind.EXT4})


@dataclass(frozen=True)
class Content:
    """A directory whose content, owners and modes are taken over; `subvolume` only exists on btrfs."""

    directory: Path
    subvolume: str = ""


@dataclass(frozen=True)
class FileSystem:
    """`uuid` as blkid shows it; `options` go to the program that makes it."""

    kind: Kind
    uuid: str
    contents: tuple[Content, ...]
    label: str = ""
    options: tuple[str, ...] = ()


def write_file_system(disk: Path, partition: Partition, system: FileSystem, scratch: Path) -> None:
    """Make the file system as large as the partition and put it there. Raises ProcessError."""
    file = scratch / "file-system"
    with file.open("wb") as empty:
        empty.truncate(partition.length)
    run(_maker(system, file), limits=Limits(timeout=300))
    match system.kind:
        case Kind.EXT2 | Kind.EXT3 | Kind.EXT4:
            pass
        case Kind.F2FS:
            run(["sload.f2fs", "-P", "-f", str(system.contents[0].directory), "-t", "/", str(file)])
        case Kind.VFAT:
            for entry in sorted(system.contents[0].directory.iterdir()):
                run(["mcopy", "-s", "-i", str(file), str(entry), "::/"])
        case Kind.XFS | Kind.BTRFS:
            _fill(file, system.contents, scratch)
    copy_into(file, disk, partition.offset)
    file.unlink()


def copy_into(source: Path, disk: Path, offset: int) -> None:
    """Copy what is not zero of `source` into the still empty `disk` at `offset` bytes."""
    zeros = bytes(MIB)
    with source.open("rb") as reader, disk.open("r+b") as writer:
        while piece := reader.read(MIB):
            if piece != zeros[: len(piece)]:
                writer.seek(offset + reader.tell() - len(piece))
                writer.write(piece)


def _maker(system: FileSystem, file: Path) -> list[str]:
    target = str(file)
    match system.kind:
        case Kind.EXT2 | Kind.EXT3 | Kind.EXT4:
            content = ["-d", str(system.contents[0].directory), "-E", "root_owner=0:0"]
            argv = [
                "mke2fs",
                "-q",
                "-F",
                "-t",
                system.kind,
                "-b",
                "4096",
                "-U",
                system.uuid,
                "-L",
                system.label,
                *content,
            ]
        case Kind.XFS:
            argv = ["mkfs.xfs", "-q", "-m", f"uuid={system.uuid}", "-L", system.label]
        case Kind.BTRFS:
            argv = ["mkfs.btrfs", "-q", "-U", system.uuid, "-L", system.label]
        case Kind.F2FS:
            argv = ["mkfs.f2fs", "-q", "-U", system.uuid, "-l", system.label]
        case Kind.VFAT:
            # The smallest clusters, or a partition of some MiB has too few of them to be called FAT32.
            argv = ["mkfs.vfat", "-F", "32", "-s", "1", "-i", system.uuid.replace("-", ""), "-n", system.label]
    return [*argv, *system.options, target]


def _fill(file: Path, contents: tuple[Content, ...], scratch: Path) -> None:
    pairs = [word for content in contents for word in (content.subvolume, os.fspath(content.directory))]
    with TemporaryDirectory(dir=scratch) as mount:
        run([*CONFINED, "sh", "-ec", _FILL, "fill", str(file), mount, *pairs], limits=Limits(timeout=300))
