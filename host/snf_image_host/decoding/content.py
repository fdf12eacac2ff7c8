# SPDX-License-Identifier: GPL-2.0-or-later
"""What every reader of a wrapped image is for the process it runs in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from snf_image_host.copying.edges import EdgesLast

Tick = Callable[[int, int], None]  # bytes of the image read, bytes of the disk filled, both from the start


class Content(Protocol):
    """An image whose head was found to be acceptable. `size` in bytes of the disk, None if only the end tells.

    Its ImageErrors complete the sentence that begins with the image's name: "is truncated: publish it again".
    """

    @property
    def size(self) -> int | None: ...

    def fill(self, disk: EdgesLast, tick: Tick) -> int:
        """Put all of it on the disk, holes and zeros too; the number of its bytes.

        No byte of the disk is written twice. `tick` is to be called often, in the thread that called fill(). All
        threads have ended when it returns. Raises ImageError, DiskError.
        """
