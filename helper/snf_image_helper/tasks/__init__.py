# SPDX-License-Identifier: GPL-2.0-or-later
"""THE LIST: every task, in run order. What a task must stand behind is said in its own file and held by a test.

Tasks of one name do the same for other families: a plan has the one of its guest.
"""

from __future__ import annotations

from snf_image_helper.disks.disk import Disk
from snf_image_helper.guest import Guest
from snf_image_helper.task import Task
from snf_image_helper.tasks import (
    add_swap,
    apply_overlay,
    assign_hostname,
    bsd,
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
    install_boot_loader,
    randomize_crontab,
    reset_identity,
    run_custom_task,
    run_hooks,
    selinux_autorelabel,
    send_hostname,
    windows,
    write_cloud_config,
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
    bsd.initialize_datasource.TASK,
    windows.initialize_datasource.TASK,
    windows.install_unattend.TASK,
    filesystem_resize_mounted.TASK,
    bsd.filesystem_resize_mounted.TASK,
    windows.filesystem_resize_mounted.TASK,
    add_swap.TASK,
    bsd.add_swap.TASK,
    run_hooks.BEFORE_INTERFACES,
    randomize_crontab.TASK,
    assign_hostname.TASK,
    bsd.assign_hostname.TASK,
    windows.assign_hostname.TASK,
    reset_identity.TASK,
    change_machine_id.TASK,
    change_password.TASK,
    bsd.change_password.TASK,
    windows.change_password.TASK,
    write_cloud_config.TASK,
    configure_network.TASK,
    bsd.configure_network.TASK,
    windows.configure_network.TASK,
    run_hooks.BEFORE_OVERLAYS,
    apply_overlay.TASK,
    run_hooks.BEFORE_SSH,
    delete_ssh_keys.TASK,
    bsd.delete_ssh_keys.TASK,
    run_hooks.BEFORE_DDNS,
    send_hostname.TASK,
    windows.disable_remote_desktop_connections.TASK,
    windows.install_drivers.TASK,
    configure_locale.TASK,
    bsd.configure_locale.TASK,
    install_boot_loader.TASK,
    configure_boot.TASK,
    bsd.configure_boot.TASK,
    enforce_personality.TASK,
    windows.enforce_personality.TASK,
    run_custom_task.TASK,
    run_hooks.TASK,
    selinux_autorelabel.TASK,  # last: it labels what all others have changed
)

ON_RELEASED_DISK: tuple[Task[Disk], ...] = (windows.filesystem_resize_after_umount.TASK,)

NAMES = tuple(
    dict.fromkeys(
        (
            *(task.name for task in ON_DISK),
            *(task.name for task in ON_IGNITION),
            *(task.name for task in ON_GUEST),
            *(task.name for task in ON_RELEASED_DISK),
        )
    )
)
