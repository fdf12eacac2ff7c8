# SPDX-License-Identifier: GPL-2.0-or-later
"""Images whose bytes come once and in order: through a pipe, or from a file that is read as if through one."""

from __future__ import annotations

from typing import Protocol

from snf_image_host.copying.buffers import CHUNK, huge_pages
from snf_image_host.images.sources import Source


class Stream(Protocol):
    """`size` in bytes, None if nobody has said it; `name` is for messages."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int | None: ...

    def readinto(self, view: memoryview) -> int:
        """Fill some of `view`; 0 at the real end. Raises ImageError, also for an end that comes early."""


class FileStream:
    """A local image from its first byte to its last, past the page cache where the file system can."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.size = source.size
        self._source = source
        self._position = 0
        self._buffer = huge_pages(CHUNK)
        self._ready = self._buffer[:0]

    def readinto(self, view: memoryview) -> int:
        """As Stream says."""
        if not self._ready:
            length = min(CHUNK, self.size - self._position)
            self._source.read(self._buffer, self._position, length)
            self._position += length
            self._ready = self._buffer[:length]
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


class HeadedStream:
    """A stream whose first bytes, at most `length`, can be looked at before they are read."""

    def __init__(self, stream: Stream, length: int) -> None:
        self.name = stream.name
        self.size = stream.size
        self._stream = stream
        head = bytearray(length)
        count = read_full(stream, memoryview(head))
        self.head = bytes(head[:count])
        self._kept = self.head

    def readinto(self, view: memoryview) -> int:
        """As Stream says."""
        if not self._kept:
            return self._stream.readinto(view)
        count = min(len(view), len(self._kept))
        view[:count] = self._kept[:count]
        self._kept = self._kept[count:]
        return count


def read_full(stream: Stream, view: memoryview) -> int:
    """Bytes read into `view`: fewer than it holds only at the end of the stream. Raises ImageError."""
    done = 0
    while done < len(view) and (count := stream.readinto(view[done:])):
        done += count
    return done
