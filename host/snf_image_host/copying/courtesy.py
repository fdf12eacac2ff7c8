# SPDX-License-Identifier: GPL-2.0-or-later
"""What a copy asks of the disks, so that the node's other instances have theirs: not too fast, and perhaps last."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from snf_image_host import kernel

_BURST = 0.1  # seconds of writing that may come at once


@dataclass(frozen=True)
class Courtesy:
    """`bandwidth` in bytes a second, 0 for no limit; `is_idle` is ionice's class for when nobody else asks."""

    bandwidth: int = 0
    is_idle: bool = False

    @contextmanager
    def kept(self) -> Iterator[None]:
        """The class of this thread, and of threads and processes that it starts, inside the block."""
        if not self.is_idle:
            yield
            return
        before = kernel.io_priority()
        kernel.set_io_priority(kernel.IDLE_IO)
        try:
            yield
        finally:
            kernel.set_io_priority(before)


NO_COURTESY = Courtesy()


class Pace:
    """Makes its callers, from any thread, write no more than so many bytes a second between them."""

    def __init__(self, bandwidth: int) -> None:
        self._bandwidth = bandwidth
        self._free_at = time.monotonic()
        self._lock = threading.Lock()

    def spend(self, count: int) -> None:
        """Wait until `count` bytes more may be written. Without a bandwidth nobody waits."""
        if not self._bandwidth:
            return
        with self._lock:
            now = time.monotonic()
            start = max(self._free_at, now - _BURST)
            self._free_at = start + count / self._bandwidth
        time.sleep(max(0.0, start - now))
