# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of verify: are these OS parameters acceptable? It asks neither network nor disk.

Ganeti also calls it with a cluster's defaults alone, so a parameter that is missing here is no fault: create insists.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from snf_image_host.ganeti import check_parameters
from snf_image_host.osparams import os_parameters
from snf_image_host.settings import Settings


def verify(env: Mapping[str, str], root: Path) -> None:
    """Raises RequestError for the first parameter that can never work, ConfigurationError for a missing variant."""
    settings = Settings.load(env.get("OS_VARIANT", ""), root)
    check_parameters(os_parameters(env, settings))
