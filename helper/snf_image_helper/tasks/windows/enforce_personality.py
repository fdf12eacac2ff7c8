# SPDX-License-Identifier: GPL-2.0-or-later
"""EnforcePersonality: put the files of OS parameter img_personality onto C:."""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import MOUNT_IMAGE, WINDOWS, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job


def enforce_personality(guest: Guest, job: Job, report: Reporter) -> None:
    raise GuestError("this version cannot do it yet")


TASK: Task[Guest] = Task(
    "EnforcePersonality", enforce_personality, families=WINDOWS, after=(MOUNT_IMAGE, "ChangePassword", "AssignHostname")
)
