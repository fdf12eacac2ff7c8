# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a server is waited for: how often it may fail without giving a byte, and how slow it may be in the long run.

Only the time counts in which we wait for the server, not that in which it waits for our disk.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from snf_image_host.configuration.settings import Settings

T = TypeVar("T")
_STALLS = 10  # IMAGE_STALL_TIMEOUT times this is free: for small images, and for a server that has to come up again
_SHORTEST_PAUSE = 1.0  # seconds before the second attempt without progress; it is doubled from one to the next
_KIB = 1024
_WORTH_IT = 64 * _KIB  # bytes


class Patience:
    """What is left of it. `stall` is how long a server may send nothing, in seconds."""

    def __init__(self, settings: Settings) -> None:
        self.stall = settings.image_stall_timeout
        self._rate = settings.image_min_rate * _KIB
        self._rate_setting = settings.image_min_rate
        self._retries = settings.image_retries
        self._failures = 0
        self._hasty = 0  # failures since as many bytes came that another attempt may be made at once
        self._came = 0
        self._waited = 0.0

    @property
    def failures(self) -> int:
        """Attempts since a byte came."""
        return self._failures

    def spend(self, work: Callable[[], T]) -> T:
        """What `work` gives; the time that it takes is waited for the server."""
        began = time.monotonic()
        try:
            return work()
        finally:
            self._waited += time.monotonic() - began

    def progressed(self, count: int) -> None:
        """So many bytes have come."""
        self._failures = 0
        self._came += count
        if self._came >= _WORTH_IT:
            self._came = self._hasty = 0

    def pause(self, asked: float) -> float | None:
        """An attempt has failed: the seconds to wait before the next, None if there is to be none.

        They are as many as the server `asked` for, within limits, and at random, for others may wait for it as well.
        A server that gives a few bytes each time is given up as late as any, but not asked without a pause.
        """
        self._failures += 1
        self._hasty += 1
        if self._failures > self._retries:
            return None
        doubled = _SHORTEST_PAUSE * 2.0 ** min(self._hasty - 2, 32) if self._hasty > 1 else 0.0
        own = min(self.stall, doubled) * random.uniform(0.5, 1.0)  # noqa: S311 - nobody may gain from guessing it
        return max(own, min(asked, _STALLS * self.stall))

    def lateness(self, size: int) -> str:
        """Why there is none left for `size` bytes: those of the image, or those that came if nobody knows; or ""."""
        allowed = _STALLS * self.stall + size / self._rate
        if self._waited <= allowed:
            return ""
        return f"not all of it came in {allowed:.0f} seconds, with {self._rate_setting} KiB a second (IMAGE_MIN_RATE)"
