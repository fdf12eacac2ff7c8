# SPDX-License-Identifier: GPL-2.0-or-later
"""Images from elsewhere on this node's disk: kept for the next deployment, or while one has to seek in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from snf_image_host.origins import Origin
from snf_image_host.pipeline import Opened
from snf_image_host.progress import Progress
from snf_image_host.settings import Settings
from snf_image_host.sources import Source
from snf_image_host.streams import Stream
from snf_image_shared.errors import ImageError


@contextmanager
def cached(origin: Origin, settings: Settings, progress: Progress) -> Iterator[Source | Stream]:
    """The image of that origin, out of the cache if it is there."""
    with origin.open() as content:
        yield content


@contextmanager
def spooled(opened: Opened, settings: Settings) -> Iterator[Opened]:
    """The same image as an uncompressed file that can be read in any order: `content` is a Source."""
    if not (isinstance(opened.content, Source) and opened.recipe.compression is None):
        raise ImageError(f"{opened.content.name}: not supported yet")
    yield opened
