# SPDX-License-Identifier: GPL-2.0-or-later
"""InstallDrivers: the property WINDOWS_DRIVERS: drivers of virtio devices."""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import MOUNT_IMAGE, WINDOWS, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job


def install_drivers(guest: Guest, job: Job, report: Reporter) -> None:
    raise GuestError("this version cannot do it yet")


TASK: Task[Guest] = Task("InstallDrivers", install_drivers, families=WINDOWS, after=(MOUNT_IMAGE, "InstallUnattend"))
