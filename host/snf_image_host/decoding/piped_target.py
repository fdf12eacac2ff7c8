# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that somebody else writes: what is to be written goes into a pipe, each piece behind a header with its place.

The decoder's process has it where a disk is reached by a server of ours, to which it has no way.
"""

from __future__ import annotations

import os
import struct
import threading

from snf_image_host.copying.buffers import CHUNK
from snf_image_host.disks.targets import Writable

HEADER = struct.Struct("<QQ?")  # offset and length in bytes; whether so many bytes follow, else they are zeros


class PipedTarget(Writable):
    """`pipe` is a descriptor for writing. No piece of data is longer than CHUNK."""

    def __init__(self, name: str, pipe: int, size: int, sector_size: int) -> None:
        self.name = name
        self.size = size
        self.sector_size = sector_size
        self._pipe = pipe
        self._lock = threading.Lock()

    def write(self, view: memoryview, offset: int) -> None:
        """As Writable says, but that somebody else writes it later."""
        for start in range(0, len(view), CHUNK):
            piece = view[start : start + CHUNK]
            with self._lock:
                self._put(memoryview(HEADER.pack(offset + start, len(piece), True)))
                self._put(piece)

    def zero(self, offset: int, length: int) -> None:
        """As Writable says, but that somebody else zeroes it later."""
        with self._lock:
            self._put(memoryview(HEADER.pack(offset, length, False)))

    def flush(self) -> None:
        """Whoever has the disk flushes it."""

    def _put(self, view: memoryview) -> None:
        while view:
            view = view[os.write(self._pipe, view) :]
