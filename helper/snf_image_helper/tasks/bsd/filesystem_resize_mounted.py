# SPDX-License-Identifier: GPL-2.0-or-later
"""FilesystemResizeMounted: let the guest grow its root file system at the first boot."""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import BSD, MOUNT_IMAGE, CloudInit, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job


def filesystem_resize_mounted(guest: Guest, job: Job, report: Reporter) -> None:
    raise GuestError("this version cannot do it yet")


TASK: Task[Guest] = Task(
    "FilesystemResizeMounted",
    filesystem_resize_mounted,
    families=BSD,
    cloud_init=CloudInit.OFF,
    resizes=True,
    after=("FixPartitionTable", MOUNT_IMAGE),
)
