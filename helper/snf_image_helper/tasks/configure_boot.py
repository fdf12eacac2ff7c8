# SPDX-License-Identifier: GPL-2.0-or-later
"""ConfigureBoot: serial console and kernel arguments, of the properties CONSOLE and KERNEL_ARGS."""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.job import Job


def configure_boot(guest: Guest, job: Job, report: Reporter) -> None:
    """Nothing yet."""


TASK: Task[Guest] = Task(
    "ConfigureBoot",
    configure_boot,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE, "AddSwap"),
    skip=lambda job: "nothing is asked for",
)
