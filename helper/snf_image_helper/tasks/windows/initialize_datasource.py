# SPDX-License-Identifier: GPL-2.0-or-later
"""InitializeDatasource: leave a NoCloud seed for the image's cloudbase-init."""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import MOUNT_IMAGE, WINDOWS, CloudInit, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job


def initialize_datasource(guest: Guest, job: Job, report: Reporter) -> None:
    raise GuestError("this version cannot do it yet")


TASK: Task[Guest] = Task(
    "InitializeDatasource", initialize_datasource, families=WINDOWS, cloud_init=CloudInit.ONLY, after=(MOUNT_IMAGE,)
)
