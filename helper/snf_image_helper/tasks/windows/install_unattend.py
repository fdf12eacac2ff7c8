# SPDX-License-Identifier: GPL-2.0-or-later
"""InstallUnattend: the answer file that Setup reads at the first boot."""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import MOUNT_IMAGE, WINDOWS, CloudInit, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job


def install_unattend(guest: Guest, job: Job, report: Reporter) -> None:
    raise GuestError("this version cannot do it yet")


TASK: Task[Guest] = Task(
    "InstallUnattend",
    install_unattend,
    families=WINDOWS,
    excludable=False,
    cloud_init=CloudInit.OFF,
    after=(MOUNT_IMAGE,),
)
