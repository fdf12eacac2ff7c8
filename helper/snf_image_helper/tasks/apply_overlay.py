# SPDX-License-Identifier: GPL-2.0-or-later
"""ApplyOverlay: copy the administrator's tree of files over the guest's, with owners, modes, attributes and times.

It comes before the host keys are replaced and after everything that it may have an opinion of: an overlay's own
interfaces or resolv.conf stay.
"""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import MOUNT_IMAGE, UNIX, Task
from snf_image_shared.job import Job


def apply_overlay(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError, naming the file that cannot be where the overlay has it."""
    # Not above: what reads archives is slow to import, and few jobs have an overlay.
    from snf_image_helper.hooks.overlay import copy_overlay  # noqa: PLC0415

    if job.overlay:
        copy_overlay(job.overlay, guest, report)


TASK: Task[Guest] = Task(
    "ApplyOverlay",
    apply_overlay,
    families=UNIX,
    after=(MOUNT_IMAGE, "AssignHostname", "ChangePassword", "ConfigureNetwork"),
    skip=lambda job: None if job.overlay else "there is no overlay",
    rare=True,
)
