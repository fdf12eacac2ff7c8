# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of the helper: a job becomes disk tasks, a mounted guest, guest tasks, and tasks on the released disk."""

from __future__ import annotations

from snf_image_helper.detection import detect
from snf_image_helper.disk import Disk
from snf_image_helper.mounting import mounted
from snf_image_helper.overriding import run_overridden
from snf_image_helper.planning import EVERYTHING_EXCLUDED, FLAGS, MOUNTED_EXCLUDED, plan_for
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import MOUNT_IMAGE, UMOUNT_IMAGE, announce, announce_all_skipped, perform
from snf_image_shared.job import Job

_NOT_MOUNTED = f"{MOUNTED_EXCLUDED} is set"


def customize(job: Job, report: Reporter) -> None:
    """Make the image on the first disk the instance's own. Raises GuestError; what was done by then stays done."""
    for warning in job.wishes.odd_flags(FLAGS):
        report.warning(warning)
    if job.wishes.flag(EVERYTHING_EXCLUDED):
        report.warning(f"No task runs: {EVERYTHING_EXCLUDED} is set")
        return
    disk = Disk.open(job.disks)
    system = detect(disk, job, report)
    work = plan_for(job, system)
    perform(work.on_disk, disk, job, report)
    if job.wishes.flag(MOUNTED_EXCLUDED):
        announce(MOUNT_IMAGE, _NOT_MOUNTED, report)
        announce_all_skipped(work.on_guest, _NOT_MOUNTED, report)
        announce(UMOUNT_IMAGE, _NOT_MOUNTED, report)
    else:
        with mounted(disk, system, report) as guest:
            perform(work.on_guest, guest, job, report, run_overridden)
    perform(work.on_released_disk, disk, job, report)
