# SPDX-License-Identifier: GPL-2.0-or-later
"""Tasks of Windows guests. Their place in the run is said in the list above."""

from snf_image_helper.tasks.windows import (
    assign_hostname,
    change_password,
    configure_network,
    disable_remote_desktop_connections,
    enforce_personality,
    filesystem_resize_after_umount,
    filesystem_resize_mounted,
    initialize_datasource,
    install_drivers,
    install_unattend,
)

__all__ = [
    "assign_hostname",
    "change_password",
    "configure_network",
    "disable_remote_desktop_connections",
    "enforce_personality",
    "filesystem_resize_after_umount",
    "filesystem_resize_mounted",
    "initialize_datasource",
    "install_drivers",
    "install_unattend",
]
