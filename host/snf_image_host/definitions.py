# SPDX-License-Identifier: GPL-2.0-or-later
"""The OS definitions that this code is, by the name of the directory that Ganeti knows each by."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from snf_image_host.os_interface import API_VERSION


class Definition(StrEnum):
    """`snf-image` goes by snf-image.conf, `image` by the files of ganeti-instance-image on top of that."""

    SNF_IMAGE = "snf-image"
    IMAGE = "image"

    @property
    def api_versions(self) -> tuple[str, ...]:
        """The versions of Ganeti's OS interface, the newest first; ganeti_api_version says the same."""
        return (API_VERSION, "15") if self is Definition.IMAGE else (API_VERSION,)

    def in_newest_version(self, env: Mapping[str, str]) -> Mapping[str, str]:
        """The environment as version 20 has it. What 20 has added to 15 is verify, and the checks before it."""
        is_old = env.get("OS_API_VERSION") in self.api_versions
        return {**env, "OS_API_VERSION": API_VERSION} if is_old else env
