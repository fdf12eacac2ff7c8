# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of verify for `image`: are the variant's files and these OS parameters acceptable?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from snf_image_host.instance_image.mapping import settings_for
from snf_image_host.instance_image.settings import ImageSettings
from snf_image_host.parameters.judgement import judge


def verify(env: Mapping[str, str], root: Path) -> None:
    """Raises RequestError with a line for each OS parameter's fault, ConfigurationError for the files."""
    image = ImageSettings.load(env.get("OS_VARIANT", ""), root, env)
    judge(env, settings_for(image, env, root))
