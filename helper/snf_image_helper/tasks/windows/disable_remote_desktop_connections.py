# SPDX-License-Identifier: GPL-2.0-or-later
"""DisableRemoteDesktopConnections: nobody logs in by RDP before Setup has finished."""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import MOUNT_IMAGE, WINDOWS, CloudInit, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job


def disable_remote_desktop_connections(guest: Guest, job: Job, report: Reporter) -> None:
    raise GuestError("this version cannot do it yet")


TASK: Task[Guest] = Task(
    "DisableRemoteDesktopConnections",
    disable_remote_desktop_connections,
    families=WINDOWS,
    cloud_init=CloudInit.OFF,
    after=(MOUNT_IMAGE, "InstallUnattend"),
)
