# SPDX-License-Identifier: GPL-2.0-or-later
"""What hooks see of Ganeti's environment: what it says of the instance, and no OS parameter.

OS parameters (OSP_*) may be secrets, and nothing in the environment tells which. Source: ganeti-os-interface(7).
"""

from __future__ import annotations

from collections.abc import Mapping

_PREFIXES = ("INSTANCE_", "DISK_", "NIC_", "OS_", "EXPORT_", "IMPORT_", "EXP_")
_NAMES = frozenset({"HYPERVISOR", "DEBUG_LEVEL", "OLD_INSTANCE_NAME"})


def ganeti_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that Ganeti sets."""
    return {name: value for name, value in env.items() if name.startswith(_PREFIXES) or name in _NAMES}
