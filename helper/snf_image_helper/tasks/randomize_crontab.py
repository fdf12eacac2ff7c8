# SPDX-License-Identifier: GPL-2.0-or-later
"""RandomizeCrontab: the jobs of /etc/crontab get minutes of the instance's own, so that guests do not run them at once.

Only lines with run-parts are changed, and of them only a minute that is one number: all else is somebody's decision.
The minutes follow from the instance's name alone. So a reinstallation gives the same ones, and a clone gets others.
Red Hat's guests need none of it: there anacron waits for a random time (RANDOM_DELAY), and has no such lines.
Source: crontab(5); the crontab of Debian's package cron; that of Red Hat's crontabs before 6.
"""

from __future__ import annotations

import hashlib
import re

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.job import Job

PROPERTY = "CRON_RANDOMIZE"
_CRONTAB = "/etc/crontab"
_HOUR = 60
# Jobs of one day stay apart: minutes behind the instance's own.
_APART = {b"hourly": 0, b"daily": 15, b"weekly": 30, b"monthly": 45}
# Minute, the other four times, user, and a command that runs the programs of a directory. Each of its two words is
# looked for by itself: one after the other would take the square of the length of a tenant's line.
_LINE = re.compile(
    rb"^(?P<before>[ \t]*)[0-5]?[0-9]"
    rb"(?P<after>[ \t]+(?:[^ \t#\n]+[ \t]+){5}(?=[^\n]*\brun-parts\b)[^\n]*/etc/cron\.(?P<what>[A-Za-z0-9_-]+)[^\n]*)$",
    re.MULTILINE,
)


def randomize_crontab(guest: Guest, job: Job, report: Reporter) -> None:
    """A guest without such lines stays as it is."""
    before = guest.read_bytes(_CRONTAB, missing_ok=True)
    after = with_own_minutes(before or b"", job.instance)
    if before and after != before:
        guest.write_bytes(_CRONTAB, after)


def with_own_minutes(crontab: bytes, instance: str) -> bytes:
    """The crontab of the instance that is called so. Pure; its own result stays as it is."""

    def minute(what: bytes) -> int:
        # A directory of the administrator's own comes at any time.
        seed = instance.lower().encode() + (b"" if what in _APART else b"\n" + what)
        own = int.from_bytes(hashlib.sha256(seed).digest()[:8], "big")
        return (own + _APART.get(what, 0)) % _HOUR

    return _LINE.sub(lambda found: b"%s%d%s" % (found["before"], minute(found["what"]), found["after"]), crontab)


def _skip(job: Job) -> str | None:
    return None if job.wishes.flag(PROPERTY) else f"the property {PROPERTY} is not set"


TASK: Task[Guest] = Task(
    "RandomizeCrontab",
    randomize_crontab,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE, "RunHooksBeforeInterfaces"),
    skip=_skip,
    rare=True,
)
