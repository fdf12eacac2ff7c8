# SPDX-License-Identifier: GPL-2.0-or-later
"""What has to be in the environment, in the words that instance-image had for it: orchestrators may look for them."""

from __future__ import annotations

from collections.abc import Mapping

from snf_image_host.os_interface import check_api_version
from snf_image_shared.errors import RequestError

_ALWAYS = ("INSTANCE_NAME", "HYPERVISOR", "DISK_COUNT")


def check_environment(env: Mapping[str, str], *also: str) -> None:
    """Raise RequestError unless these variables are there and `also` those that this script needs besides."""
    check_api_version(env)
    missing = [name for name in _ALWAYS if not env.get(name)]
    if missing:
        raise RequestError(
            "Missing OS API Variable:",
            "(INSTANCE_NAME HYPERVISOR or DISK_COUNT)",
            f"{', '.join(missing)}: not set; Ganeti sets it, so call me through Ganeti",
        )
    if env["DISK_COUNT"] == "0" or not (env.get("DISK_0_PATH") or env.get("DISK_0_URI")):
        raise RequestError(
            f"At least one disk is needed: DISK_COUNT is {env['DISK_COUNT'][:20]!r}, "
            "and DISK_0_PATH or DISK_0_URI has to be set"
        )
    for name in also:
        if not env.get(name):
            raise RequestError(f"Missing OS API Variable {name}: Ganeti sets it, so call me through Ganeti")
