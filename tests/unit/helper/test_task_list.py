# SPDX-License-Identifier: GPL-2.0-or-later
"""THE LIST against the edges that the tasks declare."""

from __future__ import annotations

from snf_image_helper import tasks
from snf_image_helper.task import MOUNT_IMAGE, UMOUNT_IMAGE, check_order

ORDER = (
    *(task.name for task in tasks.ON_DISK),
    MOUNT_IMAGE,
    *(task.name for task in tasks.ON_GUEST),
    UMOUNT_IMAGE,
    *(task.name for task in tasks.ON_RELEASED_DISK),
)


def test_the_lists_of_tasks_stand_in_an_order_that_their_edges_allow() -> None:
    check_order(ORDER, tasks.ON_DISK)
    check_order(ORDER, tasks.ON_GUEST)
    check_order(ORDER, tasks.ON_RELEASED_DISK)
