# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes a grown disklabel, and the entry of its partition in the table; read back before it counts as written."""

from __future__ import annotations

import os
from pathlib import Path

from snf_image_helper.disks import disklabel
from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.disklabel import Labelled
from snf_image_helper.disks.disklabel_growth import MBR_SECTORS, LabelChange, enlarged, last_slice, mbr_entry
from snf_image_helper.disks.partition_writing import move_backup, resize
from snf_image_helper.disks.partitions import MIB, PartitionTable, TableKind
from snf_image_shared.errors import GuestError

_ENTRIES, _ENTRY = 446, 16  # of an MBR


def grow_label(disk: Disk, found: Labelled) -> tuple[str, ...]:
    """Let the label's partition, and the last slice in it, fill the disk; the answer are warnings.

    Nothing is written to a disk that is filled already. Raises GuestError when what is read back is not what was
    written, OSError.
    """
    table = disk.require_table()
    end, warnings = _end(disk, table, found)
    change = enlarged(found, end - found.parent.start, disk.sectors)
    if change.parent != found.parent:
        _write_parent(disk, table, found, change)
    if change.raw != found.label.raw:
        _write(disk, found.parent.start * disk.sector_size + disklabel.LABEL_OFFSET, change.raw)
    move_backup(disk)
    disk.reload()
    _check(disk, change)
    return (*warnings, *_why_not(found, change))


def _end(disk: Disk, table: PartitionTable, found: Labelled) -> tuple[int, tuple[str, ...]]:
    """The first sector behind the partition when it has grown. A GPT keeps the last MiB free, as everywhere else."""
    parent = found.parent
    behind = [item.number for item in table.partitions if item.start > parent.start]
    if behind:
        said = f"partition {behind[0]} stands behind partition {parent.number}, which has the disklabel"
        return parent.end + 1, (f"{said}: the new space stays unused",)
    if table.kind is TableKind.GPT:
        return disk.sectors - MIB // disk.sector_size, ()
    if disk.sectors > MBR_SECTORS:
        return MBR_SECTORS, ("an msdos partition table ends at 2 TiB: the rest of the disk stays unused",)
    return disk.sectors, ()


def _write_parent(disk: Disk, table: PartitionTable, found: Labelled, change: LabelChange) -> None:
    if table.kind is TableKind.GPT:
        resize(disk, change.parent)
        return
    at = _ENTRIES + _ENTRY * (found.parent.number - 1)
    with Path(disk.device).open("rb") as file:
        entry = os.pread(file.fileno(), _ENTRY, at)
    _write(disk, at, mbr_entry(entry, change, found.label, disk.sectors))


def _write(disk: Disk, at: int, content: bytes) -> None:
    with Path(disk.device).open("r+b", buffering=0) as file:
        file.seek(at)
        file.write(content)
        os.fsync(file.fileno())


def _check(disk: Disk, change: LabelChange) -> None:
    there = next((found for found in disk.labels if found.parent.number == change.parent.number), None)
    if there is None or there.parent != change.parent or there.label.raw != change.raw:
        raise GuestError(f"the disklabel in partition {change.parent.number} was not written as intended")


def _why_not(found: Labelled, change: LabelChange) -> tuple[str, ...]:
    last = max(found.label.own(found.parent), key=lambda item: item.start, default=None)
    if last is None or last_slice(found) or last.end == change.parent.end:
        return ()
    said = f"partition {last.letter} of the disklabel ({last.kind_name}) is the last one and is never grown"
    return (f"{said}: the new space stays unused",)
