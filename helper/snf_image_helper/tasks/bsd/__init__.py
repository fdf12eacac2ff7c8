# SPDX-License-Identifier: GPL-2.0-or-later
"""Tasks of BSD guests. Their place in the run is said in the list above."""

from snf_image_helper.tasks.bsd import (
    add_swap,
    assign_hostname,
    change_password,
    configure_boot,
    configure_locale,
    configure_network,
    delete_ssh_keys,
    filesystem_resize_mounted,
    initialize_datasource,
)

__all__ = [
    "add_swap",
    "assign_hostname",
    "change_password",
    "configure_boot",
    "configure_locale",
    "configure_network",
    "delete_ssh_keys",
    "filesystem_resize_mounted",
    "initialize_datasource",
]
