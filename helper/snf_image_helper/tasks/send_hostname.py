# SPDX-License-Identifier: GPL-2.0-or-later
"""SendHostname: have the guest's DHCP client tell its server the short name, as instance-image's hook zz_ddns did."""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.linux.dhcp_names import send_name
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.job import Job


def send_hostname(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError for a guest whose client has no file for that."""
    if remark := send_name(guest, job.hostname.partition(".")[0]):
        report.warning(remark)


def _skip(job: Job) -> str | None:
    if not job.sends_name:
        return "the hook zz_ddns is not switched on"
    return None if job.nics else "the instance has no NIC"


TASK: Task[Guest] = Task(
    "SendHostname",
    send_hostname,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE, "ConfigureNetwork", "ApplyOverlay"),
    skip=_skip,
    rare=True,
)
