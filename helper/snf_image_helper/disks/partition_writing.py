# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries of a partition table as sfdisk and sgdisk write them. The kernel is told by Disk.reload()."""

from __future__ import annotations

from pathlib import Path

from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.partitions import Partition, TableKind
from snf_image_shared.process import run

# Signatures of file systems that stay must not be wiped.
_SFDISK = ("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe=never", "--wipe-partitions=never")


def resize(disk: Disk, partition: Partition) -> None:
    """Write place and size of an existing partition, and nothing else of its entry. Raises ProcessError."""
    run([*_SFDISK, "-N", str(partition.number), disk.device], stdin=_place(partition))


def append(disk: Disk, partition: Partition) -> None:
    """Add a partition under its name: with -N sfdisk would give it the next free number. Raises ProcessError."""
    text = f"{disk.node(partition.number)}: ".encode() + _place(partition, kind=True)
    run([*_SFDISK, "--append", disk.device], stdin=text)


def move_backup(disk: Disk) -> None:
    """Have the backup of a GPT in the last sectors of the disk. Raises ProcessError, OSError."""
    table = disk.table
    if table is not None and table.kind is TableKind.GPT and not _backup_is_last(disk):
        run(["sgdisk", "-e", disk.device])


def _place(partition: Partition, *, kind: bool = False) -> bytes:
    text = f"start={partition.start}, size={partition.size}"
    return (text + (f", type={partition.type}" if kind else "") + "\n").encode("ascii")


def _backup_is_last(disk: Disk) -> bool:
    """Whether the primary header names the last sector as its backup's place (UEFI, "GPT Header", AlternateLBA)."""
    with Path(disk.device).open("rb") as file:
        file.seek(disk.sector_size + 32)
        return int.from_bytes(file.read(8), "little") == disk.sectors - 1
