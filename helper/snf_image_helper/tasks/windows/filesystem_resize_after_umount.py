# SPDX-License-Identifier: GPL-2.0-or-later
"""FilesystemResizeAfterUmount: NTFS grows offline where the guest is not to do it at its first boot."""

from __future__ import annotations

from snf_image_helper.disks.disk import Disk
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import UMOUNT_IMAGE, WINDOWS, CloudInit, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job


def filesystem_resize_after_umount(disk: Disk, job: Job, report: Reporter) -> None:
    raise GuestError("this version cannot do it yet")


TASK: Task[Disk] = Task(
    "FilesystemResizeAfterUmount",
    filesystem_resize_after_umount,
    families=WINDOWS,
    cloud_init=CloudInit.OFF,
    resizes=True,
    after=("FixPartitionTable", UMOUNT_IMAGE),
)
