# SPDX-License-Identifier: GPL-2.0-or-later
"""ConfigureLocale: the time zone, of the property TIMEZONE.

/etc/localtime on all three; FreeBSD's tzsetup(8) remembers the name in /var/db/zoneinfo as well.
"""

from __future__ import annotations

from snf_image_helper.files.edits import Edits
from snf_image_helper.guest import Guest
from snf_image_helper.linux import time_zones
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import OsFamily
from snf_image_helper.task import BSD, MOUNT_IMAGE, Task
from snf_image_shared.job import Job

_REMEMBERED = "/var/db/zoneinfo"
_NOT_HERE = ("LOCALE", "KEYMAP")  # languages are a matter of login classes, keyboards of the console's driver


def configure_locale(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError when the guest does not have the zone."""
    for name in _NOT_HERE:
        if job.wishes.text(name):
            report.warning(f"The property {name} has no effect on {guest.system.family}")
    zone = job.wishes.text(time_zones.PROPERTY)
    if zone:
        edits = Edits(guest)
        time_zones.configure(edits, zone)
        if guest.system.family is OsFamily.FREEBSD:
            edits.put(_REMEMBERED, f"{zone}\n")
        edits.apply()


def _skip(job: Job) -> str | None:
    zone = job.wishes.text(time_zones.PROPERTY)
    if zone:
        time_zones.check(zone)
    asked = any(job.wishes.text(name) for name in (time_zones.PROPERTY, *_NOT_HERE))
    return None if asked else "none of the properties TIMEZONE, LOCALE and KEYMAP is set"


TASK: Task[Guest] = Task("ConfigureLocale", configure_locale, families=BSD, after=(MOUNT_IMAGE,), skip=_skip)
