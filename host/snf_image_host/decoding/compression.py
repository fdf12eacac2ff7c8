# SPDX-License-Identifier: GPL-2.0-or-later
"""A compressed raw image -> the bytes of a disk: one level, in one pass, with bounded memory."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from snf_image_host.copying.buffers import BufferRing
from snf_image_host.copying.edges import EdgesLast
from snf_image_host.decoding.content import Tick
from snf_image_host.decoding.stored import Stored
from snf_image_host.images.formats import HEAD
from snf_image_host.images.recipes import check_plain
from snf_image_shared.errors import ImageError

_WORKERS = 2


class Unpacked(Protocol):
    """Decompressed bytes, in order."""

    def readinto(self, view: memoryview) -> int:
        """Fill some of `view`; 0 at the real end. Raises ImageError."""


def open_compressed(fd: int, kind: str, img_format: str) -> CompressedImage:
    """The image whose stored bytes come out of the pipe `fd`. Raises ImageError if it cannot be what is wanted."""
    stored = Stored(fd)
    content = unpacked(stored, kind)
    head = bytearray(HEAD)
    count = _read_full(content, memoryview(head))
    check_plain(img_format, bytes(head[:count]), "when decompressed")
    return CompressedImage(stored, content, bytes(head[:count]))


class CompressedImage:
    """As Content says."""

    size = None

    def __init__(self, stored: Stored, content: Unpacked, head: bytes) -> None:
        self._stored = stored
        self._unpacked = content
        self._head = head

    def fill(self, disk: EdgesLast, tick: Tick) -> int:
        """As Content says."""
        position = 0
        with BufferRing(_WORKERS, lambda done: tick(self._stored.count, done)) as ring:
            while count := self._next(buffer := ring.take()):
                if position + count > disk.room:
                    raise ImageError(
                        f"is larger than the disk when decompressed, with room for {disk.room} bytes: "
                        "give a larger disk or a smaller image"
                    )
                ring.submit(buffer, partial(_store, disk, position, count))
                position += count
            ring.drain()
        return position

    def _next(self, view: memoryview) -> int:
        known = len(self._head)
        view[:known] = self._head
        self._head = b""
        return known + _read_full(self._unpacked, view[known:])


def unpacked(stored: Stored, kind: str) -> Unpacked:
    """The decompressed bytes of a compression by its name."""
    if kind == "zstd":
        from snf_image_host.decoding.frames import Frames  # noqa: PLC0415 - one codec is enough

        return Frames(stored)
    from snf_image_host.decoding.members import Members  # noqa: PLC0415

    return Members(stored, kind)


def _read_full(source: Unpacked, view: memoryview) -> int:
    done = 0
    while done < len(view) and (count := source.readinto(view[done:])):
        done += count
    return done


def _store(disk: EdgesLast, position: int, count: int, buffer: memoryview) -> int:
    """Write what the buffer holds of the image, with zeros up to where a write to the disk may end."""
    padded = disk.rounded(position + count) - position
    buffer[count:padded] = bytes(padded - count)
    disk.write_sparsely(buffer[:padded], position)
    return count
