# SPDX-License-Identifier: GPL-2.0-or-later
"""Who owns the network of a guest with CLOUD_INIT: our files, and cloud-init is told so, or cloud-init alone."""

from __future__ import annotations

from collections.abc import Mapping

from snf_image_helper import cloud_init
from snf_image_helper.cloud_init import Json
from snf_image_helper.cloud_init import version as cloud_init_version
from snf_image_helper.cloud_init.activation import override
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter

_TASK = "50ConfigureNetwork"
_KNOWS_VERSION_2 = (17, 1)  # cloudinit/net/network_state.py


def is_there(guest: Guest) -> bool:
    """Whether the guest has a cloud-init that reads drop-ins."""
    return any(guest.is_dir(f"{path}.d") for path in cloud_init.MAIN)


def disable(guest: Guest) -> None:
    """Keep cloud-init away from the network. Raises GuestError when the guest has no cloud-init."""
    cloud_init.write_configuration(guest, _TASK, {"network": {"config": "disabled"}})


def leave(guest: Guest, ethernets: Mapping[str, Json], report: Reporter) -> None:
    """Let cloud-init configure these cards of network-config version 2.

    Its settings win over the seed (cloudinit/stages.py, _find_networking_config), so what they say goes.
    """
    release = cloud_init_version.release(guest)
    if release is not None and release < _KNOWS_VERSION_2:
        report.warning("cloud-init before 17.1 knows no network-config of version 2: its network stays as it is")
    override(guest, "network", cloud_init.image_settings(guest), report)
    guest.remove(f"{cloud_init.drop_ins(guest)}/{cloud_init.PREFIX}{_TASK}.cfg", missing_ok=True)
    model: dict[str, Json] = {"version": 2, "ethernets": ethernets}
    cloud_init.write_seed(guest, cloud_init.NETWORK_CONFIG, cloud_init.as_text(model))
