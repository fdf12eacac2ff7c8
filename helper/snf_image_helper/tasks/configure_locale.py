# SPDX-License-Identifier: GPL-2.0-or-later
"""ConfigureLocale: time zone, language and keyboard, of the properties TIMEZONE, LOCALE and KEYMAP."""

from __future__ import annotations

from snf_image_helper.files.edits import Edits
from snf_image_helper.guest import Guest
from snf_image_helper.linux import keyboards, languages, time_zones
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.job import Job

_CHECKS = {
    time_zones.PROPERTY: time_zones.check,
    languages.PROPERTY: languages.check,
    keyboards.PROPERTY: keyboards.check,
}


def configure_locale(guest: Guest, job: Job, report: Reporter) -> None:
    """Nothing is written unless all that is asked for is possible. Raises GuestError."""
    edits = Edits(guest)
    if zone := job.wishes.text(time_zones.PROPERTY):
        time_zones.configure(edits, zone)
    if language := job.wishes.text(languages.PROPERTY):
        languages.configure(edits, language, report)
    if keymap := job.wishes.text(keyboards.PROPERTY):
        keyboards.configure(edits, keymap, report)
    edits.apply()


def _skip(job: Job) -> str | None:
    asked = {name: value for name in _CHECKS if (value := job.wishes.text(name))}
    for name, value in asked.items():
        _CHECKS[name](value)
    return None if asked else "none of the properties TIMEZONE, LOCALE and KEYMAP is set"


TASK: Task[Guest] = Task("ConfigureLocale", configure_locale, families=LINUX_ONLY, after=(MOUNT_IMAGE,), skip=_skip)
