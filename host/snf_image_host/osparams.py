# SPDX-License-Identifier: GPL-2.0-or-later
"""The OS parameters: which there are, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping

from snf_image_host.settings import OS_PARAMETERS, Settings


def os_parameters(env: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The OS parameters by upper-case name: what the files preset, overridden by every OSP_ variable that is set."""
    given = {name: env[f"OSP_{name}"] for name in OS_PARAMETERS if f"OSP_{name}" in env}
    return {**settings.parameters, **given}
