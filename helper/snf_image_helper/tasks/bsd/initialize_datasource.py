# SPDX-License-Identifier: GPL-2.0-or-later
"""InitializeDatasource: leave a seed for the guest's nuageinit or cloud-init."""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import BSD, MOUNT_IMAGE, CloudInit, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job


def initialize_datasource(guest: Guest, job: Job, report: Reporter) -> None:
    raise GuestError("this version cannot do it yet")


TASK: Task[Guest] = Task(
    "InitializeDatasource", initialize_datasource, families=BSD, cloud_init=CloudInit.ONLY, after=(MOUNT_IMAGE,)
)
