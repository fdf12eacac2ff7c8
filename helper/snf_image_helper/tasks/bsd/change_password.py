# SPDX-License-Identifier: GPL-2.0-or-later
"""ChangePassword: passwords and SSH keys of the guest's users."""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import BSD, MOUNT_IMAGE, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job


def change_password(guest: Guest, job: Job, report: Reporter) -> None:
    raise GuestError("this version cannot do it yet")


TASK: Task[Guest] = Task("ChangePassword", change_password, families=BSD, after=(MOUNT_IMAGE, "InitializeDatasource"))
