# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of the helper: a job becomes disk tasks, a mounted guest, guest tasks, and tasks on the released disk."""

from __future__ import annotations

from dataclasses import replace

from snf_image_helper.cloud_init import seed_orders
from snf_image_helper.detection import detect
from snf_image_helper.disks.disk import Disk
from snf_image_helper.mounting import mounted, refuse_unmountable
from snf_image_helper.overriding import run_overridden
from snf_image_helper.planning import (
    EVERYTHING_EXCLUDED,
    FLAGS,
    SEEDING,
    UnknownGuest,
    delivery,
    plan_for,
    unknown_guest,
)
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import UnknownGuestError
from snf_image_helper.task import MOUNT_IMAGE, UMOUNT_IMAGE, announce, announce_all_skipped, perform, reported
from snf_image_shared.job import Job


def customize(job: Job, report: Reporter) -> None:
    """Make the image on the first disk the instance's own. Raises GuestError; what was done by then stays done."""
    for warning in job.wishes.odd_flags(FLAGS):
        report.warning(warning)
    unknown_guest(job)  # a word that nobody knows is refused in any case
    disk = Disk.open(job.disks)
    if job.deployment:
        from snf_image_helper.deployment.deploy import deploy  # noqa: PLC0415 - most images are disks

        root = deploy(disk, job.deployment, report)
        job = replace(job, properties={**job.properties, "ROOT_PARTITION": str(root)})
    if job.wishes.flag(EVERYTHING_EXCLUDED):
        report.warning(f"No task runs: {EVERYTHING_EXCLUDED} is set")
        return
    customize_disk(disk, job, report)


def customize_disk(disk: Disk, job: Job, report: Reporter) -> None:
    """What customize() does on a disk of which not everything is to stay as it is. Raises GuestError."""
    if seed_orders.is_asked_for(job):
        with reported(SEEDING, report):
            seed_orders.write_seed(disk, job, report)
        report.warning(f"No other task runs: {seed_orders.REASON}")
        return
    try:
        system = detect(disk, job, report)
        work = plan_for(job, system)
    except UnknownGuestError as error:
        if unknown_guest(job) is UnknownGuest.REFUSE:
            raise
        report.warning(f"No task runs: {delivery(error)}")
        return
    if work.on_disk.names and not work.not_mounted:
        refuse_unmountable(disk, system)  # before its table changes
    perform(work.on_disk, disk, job, report)
    perform(work.on_ignition, disk, job, report)
    if work.not_mounted:
        announce(MOUNT_IMAGE, work.not_mounted, report)
        announce_all_skipped(work.on_guest, work.not_mounted, report)
        announce(UMOUNT_IMAGE, work.not_mounted, report)
    else:
        with mounted(disk, system, report) as guest:
            perform(work.on_guest, guest, job, report, run_overridden)
    perform(work.on_released_disk, disk, job, report)
