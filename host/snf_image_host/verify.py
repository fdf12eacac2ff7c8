# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of verify: are these OS parameters acceptable? It asks neither network nor disk.

Ganeti also calls it with a cluster's defaults alone, so a parameter that is missing here is no fault: create insists.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from snf_image_host.configuration.settings import Settings
from snf_image_host.parameters.judgement import judge


def verify(env: Mapping[str, str], root: Path) -> None:
    """Raises RequestError with a line for each OS parameter's fault, ConfigurationError for a missing variant."""
    judge(env, Settings.load(env.get("OS_VARIANT", ""), root))
