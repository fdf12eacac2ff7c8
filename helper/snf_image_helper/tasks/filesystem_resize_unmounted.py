# SPDX-License-Identifier: GPL-2.0-or-later
"""FilesystemResizeUnmounted: let the ext2/3/4 or f2fs on the last partition fill it. Others grow while mounted.

Where the last partition is a physical volume of the root's LVM, the root's logical volume gets the room first.
"""

from __future__ import annotations

from snf_image_helper.disks import lvm
from snf_image_helper.disks.disk import Disk, Place
from snf_image_helper.disks.filesystems import EXT, F2FS, SWAP, grow_ext, grow_f2fs, probe
from snf_image_helper.disks.growth import filling, root_volume
from snf_image_helper.files.scratch import scratch_directory
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import CloudInit, Task
from snf_image_helper.tasks.fix_partition_table import asked_swap, why_nothing_grows
from snf_image_shared.job import Job

_GROWN_LATER = frozenset({"xfs", "btrfs", "ntfs", "ufs"})  # the last by its own system, which alone has the tool


def resize_unmounted(disk: Disk, job: Job, report: Reporter) -> None:
    """Check and grow. Raises GuestError when a checker finds what it does not repair by itself."""
    last = filling(disk, asked_swap(job))
    if last is None:
        report.warning("the last partition is not one that grows: no file system is resized")
        return
    kind = probe([last.device])[last.device].type
    if kind == lvm.MEMBER and _resize_volume(disk, last, job, report):
        return
    _resize(last.device, kind, last.name, job, report)


def _resize_volume(disk: Disk, last: Place, job: Job, report: Reporter) -> bool:
    """The answer is False when the root does not lie there."""
    found = root_volume(disk, last)
    if found is None:
        return False
    group, volume = found
    lvm.fill(group, last.device, volume)
    if not volume.is_linear:
        report.warning(f"the logical volume {volume.full_name} is {volume.layout}: only what fits its stripes is added")
    with lvm.active([group]):
        kind = probe([volume.device])[volume.device].type
        _resize(volume.device, kind, f"the logical volume {volume.full_name}", job, report)
    return True


def _resize(device: str, kind: str, name: str, job: Job, report: Reporter) -> None:
    if kind in EXT:
        warnings = grow_ext(device, durable=job.wishes.flag("DO_SYNC"))
    elif kind == F2FS:
        with scratch_directory() as place:
            warnings = grow_f2fs(device, str(place))
    elif kind in _GROWN_LATER:
        warnings = ()
    else:
        what = "swap" if kind == SWAP else f"{kind or 'no known file system'}"
        warnings = (f"{name} holds {what}, which is not resized",)
    for warning in warnings:
        report.warning(warning)


TASK: Task[Disk] = Task(
    "FilesystemResizeUnmounted",
    resize_unmounted,
    cloud_init=CloudInit.OFF,
    after=("FixPartitionTable",),
    resizes=True,
    skip=why_nothing_grows,
    decides="only ext2, ext3, ext4 or f2fs on the last partition, or on the root's volume there",
    on_import=True,
)
