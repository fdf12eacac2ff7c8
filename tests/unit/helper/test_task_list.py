# SPDX-License-Identifier: GPL-2.0-or-later
"""THE LIST against the edges that the tasks declare."""

from __future__ import annotations

from typing import Never

import pytest

from snf_image_helper import tasks
from snf_image_helper.planning import Plan, plan_for
from snf_image_helper.system import Ignition, IgnitionGuest, OsFamily, System
from snf_image_helper.task import MOUNT_IMAGE, UMOUNT_IMAGE, Task, check_order
from unit.helper.disk_images import job

ORDER = tuple(
    dict.fromkeys(  # tasks of one name, each for other families, stand together
        (
            *(task.name for task in tasks.ON_DISK),
            *(task.name for task in tasks.ON_IGNITION),
            MOUNT_IMAGE,
            *(task.name for task in tasks.ON_GUEST),
            UMOUNT_IMAGE,
            *(task.name for task in tasks.ON_RELEASED_DISK),
        )
    )
)


def test_the_lists_of_tasks_stand_in_an_order_that_their_edges_allow() -> None:
    check_order(ORDER, tasks.ON_DISK)
    check_order(ORDER, tasks.ON_IGNITION)
    check_order(ORDER, tasks.ON_GUEST)
    check_order(ORDER, tasks.ON_RELEASED_DISK)


PLAIN, SET_UP = System(OsFamily.LINUX, 1), System(OsFamily.LINUX, 9, "", Ignition(IgnitionGuest.FLATCAR, 6))
FIXED = ("InitializeDatasource", "InstallUnattend")  # which EXCLUDE_TASK_... never reached


def excluded(plan: Plan) -> dict[str, str]:
    """Tasks that a property turns off, and what is said of each."""
    stages = (plan.on_disk, plan.on_ignition, plan.on_guest, plan.on_released_disk)
    return {step.task.name: step.skipped or "" for stage in stages for step in stage.steps if step.excluded}


@pytest.mark.row(118)
@pytest.mark.parametrize("name", [name for name in tasks.NAMES if name not in FIXED])
def test_each_task_is_turned_off_alone_by_its_own_property(name: str) -> None:
    every: tuple[Task[Never], ...] = (*tasks.ON_DISK, *tasks.ON_IGNITION, *tasks.ON_GUEST, *tasks.ON_RELEASED_DISK)
    families = {family for task in every if task.name == name for family in task.families}
    asked = f"EXCLUDE_TASK_{name.upper()}"
    for family in families:
        system = SET_UP if name in {task.name for task in tasks.ON_IGNITION} else System(family, 1)
        assert excluded(plan_for(job(**{asked: "yes"}), system)) == {name: f"{asked} is set"}


@pytest.mark.row(117)
def test_what_needs_the_guest_mounted_is_turned_off_together() -> None:
    plan = plan_for(job(EXCLUDE_MOUNTED_TASKS="yes"), PLAIN)
    assert plan.on_disk.names == {task.name for task in tasks.ON_DISK}
    assert not plan.on_guest.names
    assert plan.not_mounted == "EXCLUDE_MOUNTED_TASKS is set"


@pytest.mark.row(117)
def test_what_grows_file_systems_is_turned_off_together() -> None:
    plan = plan_for(job(EXCLUDE_FILESYSTEMRESIZE_TASKS="yes"), PLAIN)
    assert excluded(plan).keys() == {"FilesystemResizeUnmounted", "FilesystemResizeMounted"}
