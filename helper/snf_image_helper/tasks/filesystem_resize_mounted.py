# SPDX-License-Identifier: GPL-2.0-or-later
"""FilesystemResizeMounted: let the xfs or btrfs on the last partition fill it; both grow only while mounted."""

from __future__ import annotations

from snf_image_helper.disks.filesystems import grow_mounted, mounted_types
from snf_image_helper.disks.growth import filling
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, CloudInit, Task
from snf_image_helper.tasks.fix_partition_table import asked_swap, why_nothing_grows
from snf_image_shared.job import Job

_GROWS_MOUNTED = frozenset({"xfs", "btrfs"})


def resize_mounted(guest: Guest, job: Job, report: Reporter) -> None:
    """Grow the root if it lies on what fills the disk."""
    if filling(guest.disk, asked_swap(job)) is None:
        return
    device = guest.mounts["/"]
    kind, mount_point = mounted_types()[device]
    if kind in _GROWS_MOUNTED:
        grow_mounted(kind, device, mount_point)


TASK: Task[Guest] = Task(
    "FilesystemResizeMounted",
    resize_mounted,
    families=LINUX_ONLY,
    cloud_init=CloudInit.OFF,
    after=("FixPartitionTable", MOUNT_IMAGE),
    resizes=True,
    skip=why_nothing_grows,
    decides="only xfs or btrfs on the last partition, or on the root's volume there",
    on_import=True,
)
