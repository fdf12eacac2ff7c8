# SPDX-License-Identifier: GPL-2.0-or-later
"""ConfigureLocale: time zone, language and keyboard, of the properties TIMEZONE, LOCALE and KEYMAP."""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.job import Job


def configure_locale(guest: Guest, job: Job, report: Reporter) -> None:
    """Nothing yet."""


TASK: Task[Guest] = Task(
    "ConfigureLocale",
    configure_locale,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE,),
    skip=lambda job: "nothing is asked for",
)
