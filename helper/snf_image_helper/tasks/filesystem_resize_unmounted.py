# SPDX-License-Identifier: GPL-2.0-or-later
"""FilesystemResizeUnmounted: let the ext2/3/4 on the last partition fill it. The others grow while mounted."""

from __future__ import annotations

from snf_image_helper.disk import Disk
from snf_image_helper.filesystems import EXT, SWAP, grow_ext, probe
from snf_image_helper.partitions import growing
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import CloudInit, Task
from snf_image_helper.tasks.fix_partition_table import asked_swap
from snf_image_shared.job import Job

_GROWN_LATER = frozenset({"xfs", "btrfs", "ntfs"})


def resize_unmounted(disk: Disk, job: Job, report: Reporter) -> None:
    """Check and grow. Raises GuestError when e2fsck finds what it does not repair by itself."""
    last = growing(disk.require_table(), asked_swap(job))
    if last is None:
        report.warning("the last partition is not one that grows: no file system is resized")
        return
    device = disk.partition_device(last.number)
    kind = probe([device])[device].type
    if kind in EXT:
        for warning in grow_ext(device, durable=job.wishes.flag("DO_SYNC")):
            report.warning(warning)
    elif kind not in _GROWN_LATER:
        what = "swap" if kind == SWAP else f"{kind or 'no known file system'}"
        report.warning(f"partition {last.number} holds {what}, which is not resized")


TASK: Task[Disk] = Task(
    "FilesystemResizeUnmounted",
    resize_unmounted,
    cloud_init=CloudInit.OFF,
    after=("FixPartitionTable",),
    resizes=True,
    decides="only ext2, ext3 or ext4 on the last partition",
)
