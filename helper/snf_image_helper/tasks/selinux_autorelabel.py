# SPDX-License-Identifier: GPL-2.0-or-later
"""SELinuxAutorelabel: leave /.autorelabel in Red Hat-like guests, so that their next boot labels what was changed."""

from __future__ import annotations

from snf_image_helper.distros import Distro, Family
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.job import Job

_FLAG = "/.autorelabel"


def selinux_autorelabel(guest: Guest, job: Job, report: Reporter) -> None:
    """Other distributions are left alone, and a flag that is there already is, too."""
    if Distro.of(guest).family is Family.REDHAT and not guest.exists(_FLAG):
        guest.write_text(_FLAG, "")


TASK: Task[Guest] = Task(
    "SELinuxAutorelabel",
    selinux_autorelabel,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE, "EnforcePersonality", "RunCustomTask"),
    decides="only in Red Hat's family",
)
