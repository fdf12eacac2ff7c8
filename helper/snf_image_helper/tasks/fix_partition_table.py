# SPDX-License-Identifier: GPL-2.0-or-later
"""FixPartitionTable: let the last partition, and the table itself, fill a disk that is larger than the image."""

from __future__ import annotations

from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.disklabel_writing import grow_label
from snf_image_helper.disks.growth import label_of_root, why_it_stays
from snf_image_helper.disks.partition_writing import append, move_backup, resize
from snf_image_helper.disks.partitions import SwapPartition, TableKind, differences, grown, parse_swap
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import System
from snf_image_helper.task import BSD, CloudInit, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job


def asked_swap(job: Job) -> SwapPartition | None:
    """The partition that the property SWAP asks for on the first disk. Raises GuestError for a wrong SWAP."""
    text = job.wishes.text("SWAP")
    swap = parse_swap(text) if text else None
    return swap if isinstance(swap, SwapPartition) else None


def why_nothing_grows(job: Job) -> str | None:
    """Why there is no room that anything could grow into, if that is known without a look."""
    return "the helper has just divided the disk" if job.deployment else None


def fix_partition_table(disk: Disk, job: Job, report: Reporter) -> None:
    """Grow and create in place: partitions that do not change keep every byte of their entries.

    A disk that one file system has for itself is left alone.
    Raises GuestError for a table that cannot be right, and when the result is not the one intended.
    """
    swap = asked_swap(job)
    if disk.system is not None and disk.system.family in BSD:
        swap = None  # AddSwap says that there is none
        if _grown_in_label(disk, disk.system, report):
            return
    if disk.table is None and disk.system is not None:
        if swap is not None:
            raise GuestError(
                f"property SWAP: {swap.number}:{swap.mib} asks for a partition and the image has no partition table; "
                "write the letter of another disk, or drop SWAP"
            )
        report.warning("the image has no partition table: its file system has the whole disk")
        return
    table = disk.require_table()
    if not table.partitions:
        raise GuestError("the partition table is empty; publish the image with its partitions")
    change = grown(table, disk.sectors, swap, why_it_stays(disk, swap))
    for warning in change.warnings:
        report.warning(warning)
    for partition in change.resized:
        resize(disk, partition)
    for partition in change.created:
        append(disk, partition)
    move_backup(disk)  # sfdisk does it as well, but only when it has something to write
    disk.reload()
    problems = differences(change.table, disk.require_table())
    if problems:
        raise GuestError(f"the partition table was not written as intended: {problems[0]}")


def _grown_in_label(disk: Disk, system: System, report: Reporter) -> bool:
    """Grow a BSD whose root is in a disklabel; False for one that has a partition of a GPT to itself."""
    found = label_of_root(disk)
    if found is None:
        if disk.table is not None and disk.table.kind is TableKind.DOS:
            raise GuestError(
                f"there is no disklabel in the msdos partition of {system.family} that property ROOT_PARTITION or "
                "its type leads to; publish the image with one, or with a GPT"
            )
        return False
    for warning in grow_label(disk, found):
        report.warning(warning)
    return True


def _skip(job: Job) -> str | None:
    asked_swap(job)
    return why_nothing_grows(job)


TASK: Task[Disk] = Task(
    "FixPartitionTable",
    fix_partition_table,
    cloud_init=CloudInit.OFF,
    skip=_skip,
    decides="grows the last partition if the root lies on it, and in a BSD's disklabel the last slice",
    on_import=True,
)
