# SPDX-License-Identifier: GPL-2.0-or-later
"""THE LIST: every task, in run order. What a task must stand behind is said in its own file and held by a test."""

from __future__ import annotations

from snf_image_helper.disk import Disk
from snf_image_helper.guest import Guest
from snf_image_helper.task import Task
from snf_image_helper.tasks import (
    add_swap,
    assign_hostname,
    change_machine_id,
    change_password,
    configure_boot,
    configure_locale,
    configure_network,
    delete_ssh_keys,
    enforce_personality,
    filesystem_resize_mounted,
    filesystem_resize_unmounted,
    fix_partition_table,
    initialize_datasource,
    reset_identity,
    run_custom_task,
    selinux_autorelabel,
    write_ignition,
)

ON_DISK: tuple[Task[Disk], ...] = (
    fix_partition_table.TASK,
    filesystem_resize_unmounted.TASK,
)

# Instead of what is done on the mounted guest.
ON_IGNITION: tuple[Task[Disk], ...] = (write_ignition.TASK,)

ON_GUEST: tuple[Task[Guest], ...] = (
    initialize_datasource.TASK,
    filesystem_resize_mounted.TASK,
    add_swap.TASK,
    assign_hostname.TASK,
    reset_identity.TASK,
    change_machine_id.TASK,
    change_password.TASK,
    configure_network.TASK,
    delete_ssh_keys.TASK,
    configure_locale.TASK,
    configure_boot.TASK,
    enforce_personality.TASK,
    run_custom_task.TASK,
    selinux_autorelabel.TASK,  # last: it labels what all others have changed
)

ON_RELEASED_DISK: tuple[Task[Disk], ...] = ()

NAMES = (
    *(task.name for task in ON_DISK),
    *(task.name for task in ON_IGNITION),
    *(task.name for task in ON_GUEST),
    *(task.name for task in ON_RELEASED_DISK),
)
