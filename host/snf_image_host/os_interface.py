# SPDX-License-Identifier: GPL-2.0-or-later
"""The version of Ganeti's OS interface that every script of ours speaks. Source: ganeti-os-interface(7)."""

from __future__ import annotations

from collections.abc import Mapping

from snf_image_shared.errors import RequestError

API_VERSION = "20"


def check_api_version(env: Mapping[str, str]) -> None:
    """Raises RequestError unless Ganeti speaks the version of its OS interface that we do."""
    if env.get("OS_API_VERSION") != API_VERSION:
        raise RequestError(
            f"OS_API_VERSION: {env.get('OS_API_VERSION', '')[:20]!r} is not {API_VERSION}; "
            "this script is called by Ganeti 2.x and 3.x, with version 20 of its OS interface"
        )
