# SPDX-License-Identifier: GPL-2.0-or-later
"""The stored bytes of an image as they come out of a pipe, for readers that now and then take too many."""

from __future__ import annotations

import os

PIECE = 1 << 20  # bytes asked of the pipe at once, as many as it holds


class Stored:
    """`count` is the number of bytes that were taken out of the pipe `fd`."""

    def __init__(self, fd: int) -> None:
        self.count = 0
        self._fd = fd
        self._ready = memoryview(b"")
        self._position = 0

    def take(self, most: int = PIECE) -> memoryview:
        """The next bytes, one at least; none at the end."""
        if self._position == len(self._ready):
            self._ready, self._position = memoryview(os.read(self._fd, PIECE)), 0
            self.count += len(self._ready)
        piece = self._ready[self._position : self._position + most]
        self._position += len(piece)
        return piece

    def give_back(self, count: int) -> None:
        """The last `count` bytes of what was taken last will be taken again."""
        self._position -= count
