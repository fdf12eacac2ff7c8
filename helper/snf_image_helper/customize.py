# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of the helper: a job becomes disk tasks, a mounted guest, guest tasks, and tasks on the released disk."""

from __future__ import annotations

from dataclasses import dataclass

from snf_image_helper import tasks
from snf_image_helper.detection import detect
from snf_image_helper.disk import Disk
from snf_image_helper.guest import Guest
from snf_image_helper.mounting import mounted
from snf_image_helper.overriding import run_overridden
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import OsFamily, System
from snf_image_helper.task import (
    MOUNT_IMAGE,
    UMOUNT_IMAGE,
    Work,
    announce,
    announce_all_skipped,
    check_requirements,
    perform,
    plan,
)
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

MOUNTED_EXCLUDED = "EXCLUDE_MOUNTED_TASKS"
_NOT_MOUNTED = f"{MOUNTED_EXCLUDED} is set"
FLAGS = (
    "ALLOW_MOUNTED_TASK_OVERWRITING",
    "CLOUD_INIT",
    "DO_SYNC",
    "EXCLUDE_ALL_TASKS",
    "EXCLUDE_FILESYSTEMRESIZE_TASKS",
    MOUNTED_EXCLUDED,
    "NM_NETWORKING",
    *(f"EXCLUDE_TASK_{name.upper()}" for name in tasks.NAMES),
)


def customize(job: Job, report: Reporter) -> None:
    """Make the image on the first disk the instance's own. Raises GuestError; what was done by then stays done."""
    for warning in job.wishes.odd_flags(FLAGS):
        report.warning(warning)
    if job.wishes.flag("EXCLUDE_ALL_TASKS"):
        report.warning("No task runs: EXCLUDE_ALL_TASKS is set")
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


@dataclass(frozen=True)
class Plan:
    """The three stages of a run."""

    on_disk: Work[Disk]
    on_guest: Work[Guest]
    on_released_disk: Work[Disk]


def plan_for(job: Job, system: System) -> Plan:
    """Decide what runs. Pure; raises GuestError when the job cannot be done, before anything is written."""
    if system.family is not OsFamily.LINUX:
        raise GuestError(
            f"OSFAMILY {system.family} cannot be customised by this version, only linux; "
            "set the property EXCLUDE_ALL_TASKS=yes to deliver the image as it is"
        )
    plans = Plan(
        plan(tasks.ON_DISK, job, system, mounted=False),
        plan(tasks.ON_GUEST, job, system, mounted=True),
        plan(tasks.ON_RELEASED_DISK, job, system, mounted=False),
    )
    check_requirements(job, plans.on_disk, plans.on_guest, plans.on_released_disk)
    return plans
