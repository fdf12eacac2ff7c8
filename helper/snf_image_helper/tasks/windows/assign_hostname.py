# SPDX-License-Identifier: GPL-2.0-or-later
"""AssignHostname: the computer name in the answer file. Under CLOUD_INIT it is in the seed of cloudbase-init."""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import OsFamily
from snf_image_helper.task import MOUNT_IMAGE, WINDOWS, Task
from snf_image_helper.windows import sysprep_inf
from snf_image_helper.windows.computer_names import computer_name
from snf_image_helper.windows.facts import facts
from snf_image_shared.job import Job


def assign_hostname(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError for what Windows could not be called, and without an answer file."""
    name, warning = computer_name(job.hostname)
    if warning:
        report.warning(warning)
    if job.wishes.flag("CLOUD_INIT"):
        return
    if guest.system.family is OsFamily.WINDOWS_LEGACY:
        sysprep_inf.set_computer_name(guest, name)
        return
    from snf_image_helper.windows import unattend  # noqa: PLC0415  # XML, for this family alone
    from snf_image_helper.windows.answer_file import SHELL_SETUP, Component, Pass  # noqa: PLC0415

    with unattend.changed(guest) as answers:
        answers.set_text(Component(Pass.SPECIALIZE, SHELL_SETUP, facts(guest).architecture), ("ComputerName",), name)


def _skip(job: Job) -> str | None:
    computer_name(job.hostname)
    return None


TASK: Task[Guest] = Task(
    "AssignHostname", assign_hostname, families=WINDOWS, after=(MOUNT_IMAGE, "InstallUnattend"), skip=_skip
)
