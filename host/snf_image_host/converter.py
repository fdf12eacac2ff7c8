# SPDX-License-Identifier: GPL-2.0-or-later
"""An image that has to be interpreted -> Image, by an unprivileged process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from snf_image_host.pipeline import Image, Opened
from snf_image_host.settings import Settings
from snf_image_shared.errors import ImageError


@contextmanager
def converted(opened: Opened, settings: Settings) -> Iterator[Image]:
    """The image, for the length of the block. Raises ImageError before anything is written if it is not acceptable."""
    raise ImageError(f"{opened.content.name}: not supported yet")
    yield
