# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a copy is: the figures of its messages, and its bar on a terminal."""

from __future__ import annotations

from dataclasses import dataclass

COPY_INTERVAL = 3.0  # seconds between two messages
_REDRAW_INTERVAL = 0.2
_BAR = 30  # characters


@dataclass(frozen=True)
class CopyState:
    """`read` of `total` bytes of the image (None: nobody knows how many) and `written` of the disk, after `seconds`."""

    read: int
    total: int | None
    written: int
    seconds: float

    @property
    def rate(self) -> float:
        """Bytes of the disk a second, from the beginning."""
        return self.written / self.seconds if self.seconds > 0.001 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the end at the rate at which the image was read until now; None if that cannot be told."""
        if self.total is None or not self.read:
            return None
        return (self.total - self.read) * self.seconds / self.read

    def message(self, *, is_last: bool) -> dict[str, object]:
        """The figures of contract 5.6 (`total` is 0 while it is unknown), then ours; `left` in seconds or null."""
        total = self.total or 0
        percent = round(100 * self.read / total, 2) if total else 0.0
        left = 0.0 if is_last else self.left
        return {
            "position": self.read,
            "total": total,
            "progress": percent if is_last else min(percent, 99.99),
            "written": self.written,
            "rate": round(self.rate),
            "left": None if left is None else round(left, 1),
        }


class CopyClock:
    """When a message is due: one every COPY_INTERVAL seconds, and one at the end."""

    def __init__(self) -> None:
        self.is_finished = False
        self._start = -1.0
        self._sent = 0.0
        self._last: CopyState | None = None

    def at(self, read: int, total: int | None, written: int, now: float) -> CopyState:
        """The state at this moment; the first call starts the clock."""
        if self._start < 0:
            self._start = self._sent = now
        self._last = CopyState(read if total is None else min(read, total), total, written, now - self._start)
        return self._last

    def all_read(self, written: int) -> int:
        """How many bytes the image had as it was stored; of one that nobody told of, what was `written`."""
        if self._last is None:
            return written
        return self._last.read if self._last.total is None else self._last.total

    def is_due(self, now: float, *, is_last: bool) -> bool:
        """Whether a message is to be sent, which counts as sent then."""
        if self.is_finished or (not is_last and now < self._sent + COPY_INTERVAL):
            return False
        self._sent, self.is_finished = now, is_last
        return True


class Bar:
    """The text of a copy's line on a terminal."""

    def __init__(self) -> None:
        self._drawn = -_REDRAW_INTERVAL
        self._text = ""

    def drawn(self, state: CopyState, now: float, *, is_last: bool) -> str:
        """The line for this moment; the last one again if that was drawn just before."""
        if is_last or state.read == state.total or now >= self._drawn + _REDRAW_INTERVAL:
            self._drawn = now
            self._text = _line(state, is_last=is_last)
        return self._text


def _line(state: CopyState, *, is_last: bool) -> str:
    if state.total is None:
        parts = [f"{_size(state.read)} read", f"{_size(state.written)} written"]
    else:
        share = state.read / state.total if state.total else 1.0
        filled = round(share * _BAR)
        parts = [f"[{'#' * filled}{'.' * (_BAR - filled)}] {share:4.0%} of {_size(state.total)}"]
        if state.written != state.read:
            parts.append(f"{_size(state.written)} written")
    parts.append(f"{_size(state.rate)}/s")
    if is_last:
        parts.append(f"{state.seconds:.1f} s")
    elif state.left is not None:
        parts.append(f"{state.left:.0f} s left")
    return f"  copy {', '.join(parts)}"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
