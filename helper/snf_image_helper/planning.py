# SPDX-License-Identifier: GPL-2.0-or-later
"""Which tasks a run consists of, and why: decided before the first write, and shown to who only wants to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Never

from snf_image_helper import tasks
from snf_image_helper.cloud_init import seed_orders
from snf_image_helper.disks.disk import Disk
from snf_image_helper.guest import Guest
from snf_image_helper.overriding import override_for
from snf_image_helper.system import System, UnknownGuestError
from snf_image_helper.task import (
    LEFT_TO_IGNITION,
    MOUNT_IMAGE,
    MOUNTED_EXCLUDED,
    UMOUNT_IMAGE,
    Step,
    Work,
    check_requirements,
    plan,
)
from snf_image_shared import findings
from snf_image_shared.errors import GuestError
from snf_image_shared.findings import Outcome, PlannedTask
from snf_image_shared.job import Job

EVERYTHING_EXCLUDED = "EXCLUDE_ALL_TASKS"
UNKNOWN_GUEST = "UNKNOWN_GUEST"
SEEDING = tasks.initialize_datasource.TASK.name  # what is told to run where nothing but a seed is written
FLAGS = (
    "ALLOW_MOUNTED_TASK_OVERWRITING",
    "CLOUD_INIT",
    "DO_SYNC",
    EVERYTHING_EXCLUDED,
    "EXCLUDE_FILESYSTEMRESIZE_TASKS",
    MOUNTED_EXCLUDED,
    "NM_NETWORKING",
    "OFFLINE_NTFSRESIZE",
    "OFFLINE_NTFSRESIZE_NOCHECK",
    *(f"EXCLUDE_TASK_{name.upper()}" for name in tasks.NAMES),
)


class UnknownGuest(StrEnum):
    """What becomes of an image that cannot be customised: its bytes are delivered, or nothing is."""

    DELIVER = "deliver"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Plan:
    """The stages of a run; of the second and the third one at most does anything.

    `not_mounted` says why the guest is not mounted, "" if it is.
    """

    on_disk: Work[Disk]
    on_ignition: Work[Disk]
    on_guest: Work[Guest]
    on_released_disk: Work[Disk]
    not_mounted: str = ""


def unknown_guest(job: Job) -> UnknownGuest:
    """What the property UNKNOWN_GUEST says. Raises GuestError for a word that nobody knows."""
    word = (job.wishes.text(UNKNOWN_GUEST) or UnknownGuest.REFUSE).strip().lower()
    try:
        return UnknownGuest(word)
    except ValueError as error:
        raise GuestError(f"property {UNKNOWN_GUEST}: {word[:40]!r} is not one of {', '.join(UnknownGuest)}") from error


def delivery(error: UnknownGuestError) -> str:
    """Why nothing is done to an image that is delivered as it is."""
    return f"{UNKNOWN_GUEST}={UnknownGuest.DELIVER}: the instance gets the image as it is, {error}"


def plan_for(job: Job, system: System) -> Plan:
    """Decide what runs. Pure; raises GuestError when the job cannot be done, before anything is written.

    That is an UnknownGuestError when the system is none that can be customised.
    """
    excluded = f"{MOUNTED_EXCLUDED} is set" if job.wishes.flag(MOUNTED_EXCLUDED) else ""
    plans = Plan(
        plan(tasks.ON_DISK, job, system, mounted=False),
        plan(tasks.ON_IGNITION, job, system, mounted=True),
        plan(tasks.ON_GUEST, job, system, mounted=True),
        plan(tasks.ON_RELEASED_DISK, job, system, mounted=False),
        excluded or (LEFT_TO_IGNITION if system.ignition else ""),
    )
    check_requirements(job, plans.on_disk, plans.on_ignition, plans.on_guest, plans.on_released_disk)
    return plans


def preview(job: Job, system: System, guest: Guest | None) -> findings.Plan:
    """What a run would do. Without a `guest` nobody knows whether it overrides a task; that is then not said.

    Raises GuestError when the job cannot be done.
    """
    plans = plan_for(job, system)
    reason = plans.not_mounted
    kept = Outcome.EXCLUDED if job.wishes.flag(MOUNTED_EXCLUDED) else Outcome.SKIPPED
    mounting = kept if reason else Outcome.RUNS
    return findings.Plan(
        (
            *_previewed(plans.on_disk.steps),
            *_previewed(plans.on_ignition.steps),
            PlannedTask(MOUNT_IMAGE, mounting, reason),
            *_previewed(plans.on_guest.steps, job, guest),
            PlannedTask(UMOUNT_IMAGE, mounting, reason),
            *_previewed(plans.on_released_disk.steps),
        )
    )


def nothing_planned(reason: str = f"{EVERYTHING_EXCLUDED} is set") -> findings.Plan:
    """What a run does that delivers the image as it is; with EXCLUDE_ALL_TASKS it does not even look at the disk."""
    return findings.Plan(tuple(PlannedTask(name, Outcome.EXCLUDED, reason) for name in tasks.NAMES))


def seed_planned() -> findings.Plan:
    """What a run does that only puts a seed for cloud-init on a partition."""
    return findings.Plan(
        tuple(
            PlannedTask(name, Outcome.RUNS, "on a partition of its own")
            if name == SEEDING
            else PlannedTask(name, Outcome.SKIPPED, seed_orders.REASON)
            for name in tasks.NAMES
        )
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
