# SPDX-License-Identifier: GPL-2.0-or-later
"""ConfigureBoot: a serial console, of the property CONSOLE. KERNEL_ARGS are Linux' own."""

from __future__ import annotations

from snf_image_helper.bsd import serial_console
from snf_image_helper.files.edits import Edits
from snf_image_helper.guest import Guest
from snf_image_helper.linux.asked_arguments import asked
from snf_image_helper.linux.kernel_arguments import PROPERTY
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import BSD, MOUNT_IMAGE, Task
from snf_image_shared.job import Job


def configure_boot(guest: Guest, job: Job, report: Reporter) -> None:
    """All files are changed or, if one cannot be, none. Raises GuestError."""
    if job.wishes.text(PROPERTY):
        report.warning(f"The property {PROPERTY} has no effect on {guest.system.family}")
    if asked(job).serial:
        edits = Edits(guest)
        serial_console.configure(edits)
        edits.apply()


def _skip(job: Job) -> str | None:
    return None if asked(job) else "neither of the properties CONSOLE and KERNEL_ARGS is set"


TASK: Task[Guest] = Task("ConfigureBoot", configure_boot, families=BSD, after=(MOUNT_IMAGE, "AddSwap"), skip=_skip)
