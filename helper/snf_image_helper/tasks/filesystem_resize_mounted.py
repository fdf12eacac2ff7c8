# SPDX-License-Identifier: GPL-2.0-or-later
"""FilesystemResizeMounted: let the xfs or btrfs on the last partition fill it; both grow only while mounted."""

from __future__ import annotations

from snf_image_helper import lvm
from snf_image_helper.filesystems import grow_mounted, mounted_types, probe
from snf_image_helper.growth import filling, root_volume
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import MOUNT_IMAGE, CloudInit, Task
from snf_image_helper.tasks.fix_partition_table import asked_swap
from snf_image_shared.job import Job

_GROWS_MOUNTED = frozenset({"xfs", "btrfs"})


def resize_mounted(guest: Guest, job: Job, report: Reporter) -> None:
    """Grow what lies on the last partition, wherever the guest mounts it; warn when it does not."""
    last = filling(guest.disk, asked_swap(job))
    if last is None:
        return
    device, found = last.device, probe([last.device])[last.device].type
    if found == lvm.MEMBER:
        volume = root_volume(guest.disk, last)
        device, found = (volume[1].device, "") if volume else (device, found)
    if device in guest.mounts.values():
        kind, mount_point = mounted_types()[device]
        if kind in _GROWS_MOUNTED:
            grow_mounted(kind, device, mount_point)
    elif found in _GROWS_MOUNTED:
        report.warning(f"the {found} on {last.name} is not in the guest's fstab and is not resized")


TASK: Task[Guest] = Task(
    "FilesystemResizeMounted",
    resize_mounted,
    cloud_init=CloudInit.OFF,
    after=("FixPartitionTable", MOUNT_IMAGE),
    resizes=True,
    decides="only xfs or btrfs on the last partition, or on the root's volume there",
)
