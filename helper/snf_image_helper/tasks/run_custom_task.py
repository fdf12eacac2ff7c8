# SPDX-License-Identifier: GPL-2.0-or-later
"""RunCustomTask: run the program in the property CUSTOM_TASK (base64), in the helper and with the guest mounted."""

from __future__ import annotations

import binascii

from snf_image_helper.guest import Guest
from snf_image_helper.program import run_program
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import ALL_FAMILIES, MOUNT_IMAGE, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job
from snf_image_shared.process import ProcessError

_PROPERTY = "CUSTOM_TASK"


def run_custom_task(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError when the property is no base64, and ProcessError when the program fails.

    What the program writes is shown on the console; it sees the environment of snf-image 0.23.
    """
    try:
        program = binascii.a2b_base64("".join((job.wishes.text(_PROPERTY) or "").split()), strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise GuestError(f"property {_PROPERTY}: not base64: {error}; encode the program with base64") from error
    done = run_program(program, (), guest, job)
    if done.status:
        raise ProcessError("the custom task", f"failed with status {done.status}", done.stderr)


def _skip(job: Job) -> str | None:
    return None if job.wishes.text(_PROPERTY) else f"the property {_PROPERTY} is not set"


TASK: Task[Guest] = Task(
    "RunCustomTask",
    run_custom_task,
    families=ALL_FAMILIES,
    after=(MOUNT_IMAGE, "EnforcePersonality"),
    skip=_skip,
)
