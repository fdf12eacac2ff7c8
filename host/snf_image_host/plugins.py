# SPDX-License-Identifier: GPL-2.0-or-later
"""The administrator's own programs as sources of images (contract 4.1)."""

from __future__ import annotations

from snf_image_host.image_names import WantedImage
from snf_image_host.origins import Origin
from snf_image_host.progress import Progress
from snf_image_host.settings import Settings


def program_origin(wanted: WantedImage, settings: Settings, progress: Progress) -> Origin | None:
    """The program that says it serves the image, if there is one."""
    return None
