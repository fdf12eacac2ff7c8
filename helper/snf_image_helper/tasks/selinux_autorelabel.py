# SPDX-License-Identifier: GPL-2.0-or-later
"""SELinuxAutorelabel: label what was changed, as the guest's own policy has it; /.autorelabel only where that fails.

The flag costs the guest a boot in which it labels everything and starts again. It is left where nobody knows what was
changed (a program of the tenant ran), where all files are new (unpacked from an archive, which often has no labels),
where the policy cannot be read, and in Red Hat's family where nothing says whether SELinux is used.
"""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.linux.distros import Distro, Family
from snf_image_helper.linux.selinux import policy_of, relabel
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job
from snf_image_shared.process import ProcessError

_FLAG = "/.autorelabel"


def selinux_autorelabel(guest: Guest, job: Job, report: Reporter) -> None:
    """A guest whose SELinux is disabled, or that is going to label everything anyway, is left alone."""
    policy = policy_of(guest)
    if policy is None:
        if Distro.of(guest).family is Family.REDHAT:
            _leave_flag(guest)
        return
    if not policy.active or guest.exists(_FLAG):
        return
    try:
        count = relabel(guest, policy, guest.changed)
    except (GuestError, ProcessError) as error:
        report.warning(f"What was changed could not be labelled ({error}): the guest labels all when it boots")
        _leave_flag(guest)
        return
    if guest.programs_ran:
        print("A tenant's program may have changed any file: the guest labels all of them when it boots", flush=True)
        _leave_flag(guest)
    elif job.deployment:
        print("All files come from an archive: the guest labels them when it boots", flush=True)
        _leave_flag(guest)
    elif count:
        print(f"{count} changed files and directories have the labels of the guest's policy {policy.name}", flush=True)


def _leave_flag(guest: Guest) -> None:
    if not guest.exists(_FLAG):
        guest.write_text(_FLAG, "")


TASK: Task[Guest] = Task(
    "SELinuxAutorelabel",
    selinux_autorelabel,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE, "EnforcePersonality", "RunCustomTask"),
    decides="only in guests with SELinux",
    on_import=True,
)
