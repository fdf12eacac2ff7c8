# SPDX-License-Identifier: GPL-2.0-or-later
"""FilesystemResizeAfterUmount: NTFS grows offline where the guest is not to do it at its first boot, or cannot."""

from __future__ import annotations

from snf_image_helper.disks import ntfs
from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.growth import filling
from snf_image_helper.disks.partitions import MIB
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import OsFamily
from snf_image_helper.task import UMOUNT_IMAGE, WINDOWS, CloudInit, Task
from snf_image_helper.tasks.fix_partition_table import asked_swap
from snf_image_shared.job import Job

OFFLINE = "OFFLINE_NTFSRESIZE"
NO_CHECK = "OFFLINE_NTFSRESIZE_NOCHECK"
_RECOVERY = "Windows recovery"


def filesystem_resize_after_umount(disk: Disk, job: Job, report: Reporter) -> None:
    """Grow the system volume if it is the one that fills the disk. Raises GuestError for one that is dirty."""
    is_legacy = disk.system is not None and disk.system.family is OsFamily.WINDOWS_LEGACY
    if not is_legacy and not job.wishes.flag(OFFLINE):
        return
    place = filling(disk, asked_swap(job))
    if place is None:
        for warning in why_it_does_not_grow(disk):
            report.warning(warning)
        return
    if ntfs.fills(place.device):
        return
    ntfs.grow(place.device)
    if job.wishes.flag(NO_CHECK):
        ntfs.clear_dirty(place.device)
        report.warning(f"the NTFS has been grown, and Windows does not check it: {NO_CHECK} is set")
    else:
        report.warning("the NTFS has been grown: Windows checks it (chkdsk) at its first boot, and may boot twice")


def why_it_does_not_grow(disk: Disk) -> tuple[str, ...]:
    """A warning with the cure where there is room that a recovery partition behind the system volume keeps from it."""
    table = disk.table
    last = max(table.partitions, key=lambda item: item.start, default=None) if table else None
    if last is None or last.fixed_role != _RECOVERY or (disk.sectors - last.end) * disk.sector_size <= 2 * MIB:
        return ()
    return (
        f"C: is not extended, for recovery partition {last.number} lies behind it; it stays as it is. In the image run "
        "reagentc /disable, and remove the partition or make it anew before C:",
    )


TASK: Task[Disk] = Task(
    "FilesystemResizeAfterUmount",
    filesystem_resize_after_umount,
    families=WINDOWS,
    cloud_init=CloudInit.OFF,
    resizes=True,
    after=("FixPartitionTable", UMOUNT_IMAGE),
    decides=f"only a C: at the end of the disk, with {OFFLINE} or before Vista",
)
