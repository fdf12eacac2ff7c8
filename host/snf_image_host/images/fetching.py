# SPDX-License-Identifier: GPL-2.0-or-later
"""An image on its way into an unnamed file: written past the page cache, its holes kept; and read again from there."""

from __future__ import annotations

import io
import time

from snf_image_host.copying.buffers import CHUNK, huge_pages
from snf_image_host.copying.edges import edges_last
from snf_image_host.copying.pipeline import Image
from snf_image_host.images.cache_directory import Scratch
from snf_image_host.images.integrity import Integrity
from snf_image_host.images.sources import Source
from snf_image_host.images.streams import FileStream, read_full
from snf_image_host.progress import Progress

_INTERVAL = 30.0  # seconds between two lines


def fill_scratch(image: Image, scratch: Scratch, progress: Progress) -> int:
    """Put all of the image into the file, which has as many bytes then, and is on stable storage; their number.

    Raises ImageError, DiskError, and what `scratch` raises when there is no room.
    """
    with edges_last(scratch) as disk:
        size = image.fill(disk, _Fetching(progress, image.name))
        disk.release()
    scratch.finish(size)
    return size


def feed_whole(source: Source, integrity: Integrity) -> None:
    """Feed all of a file, past the page cache. Raises ImageError."""
    stream, buffer = FileStream(source), huge_pages(CHUNK)
    with source.direct():
        while count := read_full(stream, buffer):
            integrity.feed(buffer[:count])


def sha256_of(source: Source) -> str:
    """Of all of a file, in hexadecimal. Raises ImageError."""
    integrity = Integrity()
    integrity.keep_digest()
    feed_whole(source, integrity)
    return integrity.sha256


class _Fetching(Progress):
    """What is said meanwhile: lines of the log. The figures of the copy are those of the disk alone."""

    def __init__(self, progress: Progress, name: str) -> None:
        super().__init__(io.StringIO())
        self._progress = progress
        self._name = name
        self._said = time.monotonic()

    def copied(self, read: int, total: int | None, written: int) -> None:
        """As Progress says."""
        if time.monotonic() > self._said + _INTERVAL:
            self._said = time.monotonic()
            of_all = "" if total is None else f" of {total >> 20}"
            self._progress.log(f"{self._name}: {read >> 20}{of_all} MiB fetched")
