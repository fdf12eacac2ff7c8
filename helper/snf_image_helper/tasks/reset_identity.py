# SPDX-License-Identifier: GPL-2.0-or-later
"""ResetIdentity: remove what ties the guest to its template, as the property IDENTITY_RESET lists."""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.job import Job


def reset_identity(guest: Guest, job: Job, report: Reporter) -> None:
    """Nothing yet."""


TASK: Task[Guest] = Task(
    "ResetIdentity", reset_identity, families=LINUX_ONLY, after=(MOUNT_IMAGE,), skip=lambda job: "nothing is asked for"
)
