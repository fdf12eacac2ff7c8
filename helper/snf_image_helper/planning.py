# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tasks a run consists of, and why: decided before the first write, and shown to who only wants to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Never

from snf_image_helper import tasks
from snf_image_helper.disk import Disk
from snf_image_helper.guest import Guest
from snf_image_helper.overriding import override_for
from snf_image_helper.system import OsFamily, System
from snf_image_helper.task import MOUNT_IMAGE, UMOUNT_IMAGE, Step, Work, check_requirements, plan
from snf_image_shared import findings
from snf_image_shared.errors import GuestError
from snf_image_shared.findings import Outcome, PlannedTask
from snf_image_shared.job import Job

EVERYTHING_EXCLUDED = "EXCLUDE_ALL_TASKS"
MOUNTED_EXCLUDED = "EXCLUDE_MOUNTED_TASKS"
FLAGS = (
    "ALLOW_MOUNTED_TASK_OVERWRITING",
    "CLOUD_INIT",
    "DO_SYNC",
    EVERYTHING_EXCLUDED,
    "EXCLUDE_FILESYSTEMRESIZE_TASKS",
    MOUNTED_EXCLUDED,
    "NM_NETWORKING",
    *(f"EXCLUDE_TASK_{name.upper()}" for name in tasks.NAMES),
)


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


def preview(job: Job, system: System, guest: Guest | None) -> findings.Plan:
    """What a run would do. Without a `guest` nobody knows whether it overrides a task; that is then not said.

    Raises GuestError when the job cannot be done.
    """
    plans = plan_for(job, system)
    excluded = f"{MOUNTED_EXCLUDED} is set" if job.wishes.flag(MOUNTED_EXCLUDED) else ""
    mounting = Outcome.EXCLUDED if excluded else Outcome.RUNS
    return findings.Plan(
        (
            *_previewed(plans.on_disk.steps),
            PlannedTask(MOUNT_IMAGE, mounting, excluded),
            *_previewed(plans.on_guest.steps, job, guest),
            PlannedTask(UMOUNT_IMAGE, mounting, excluded),
            *_previewed(plans.on_released_disk.steps),
        )
    )


def nothing_planned() -> findings.Plan:
    """What a run with EXCLUDE_ALL_TASKS does, which does not even look at the disk."""
    return findings.Plan(
        tuple(PlannedTask(name, Outcome.EXCLUDED, f"{EVERYTHING_EXCLUDED} is set") for name in tasks.NAMES)
    )


def _previewed(
    steps: Iterable[Step[Never]], job: Job | None = None, guest: Guest | None = None
) -> Iterator[PlannedTask]:
    for step in steps:
        task = step.task
        if step.skipped is not None:
            yield PlannedTask(task.name, Outcome.EXCLUDED if step.excluded else Outcome.SKIPPED, step.skipped)
        elif job and guest and (program := override_for(task.name, guest, job)):
            yield PlannedTask(task.name, Outcome.OVERRIDDEN, f"by {program} of the image")
        else:
            where = "guest" if job else "disk"
            yield PlannedTask(
                task.name, Outcome.RUNS, f"decided on the {where}: {task.decides}" if task.decides else ""
            )
