# SPDX-License-Identifier: GPL-2.0-or-later
"""All that is said while an instance is made: JSON for the monitor, prefixed lines for the log, a bar for a terminal.

The messages are those that Synnefo and others consume (contract 5.6). Nothing here can fail the deployment.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from snf_image_host.copying.figures import Bar, CopyClock
from snf_image_host.monitor import Monitor, MonitorError
from snf_image_shared.errors import SnfImageError

_INTERNAL_ERROR = "Internal Error: Image deployment failed."
_INTERRUPTED = "Image deployment was interrupted."
_CLEAR_LINE = "\r\x1b[K"


class Progress:
    """Where the rest of the host tier reports to. Methods may be called from any thread and raise nothing.

    `helper_warnings` are all that the helper has warned of: a tenant's word, for people.
    """

    def __init__(self, log: TextIO) -> None:
        self._log = log
        self._terminal = log.isatty()
        self._monitor: Monitor | None = None
        self._lock = threading.RLock()
        self._is_silent = False
        self._has_failed = False
        self.helper_warnings: list[str] = []
        self._copy = CopyClock()
        self._bar = Bar()
        self._shown = ""  # the line on the terminal that has no end yet
        self._task_started = 0.0

    @classmethod
    @contextmanager
    def start(cls, instance: str, monitor: str | None, *, log: TextIO | None = None) -> Iterator[Progress]:
        """Report until the block ends. `monitor` is the setting PROGRESS_MONITOR, empty for none.

        None says that there are no messages at all, for what no monitor was ever told of.
        Without a monitor, or once it is lost, messages are `[MONITOR] ` lines in `log` (standard error by default)
        unless that is a terminal. If an exception leaves the block and error() was not called, the monitor is told
        of it here; the `[ERROR] ` line is then left to whoever prints the exception.
        """
        progress = cls(log or sys.stderr)
        progress._is_silent = monitor is None
        if monitor and monitor.strip():
            try:
                progress._monitor = Monitor(monitor, instance, progress._log)
            except MonitorError as error:
                progress.warning(f"PROGRESS_MONITOR {monitor!r} {error}; correct the setting")
        try:
            yield progress
        except BaseException as failure:
            progress._fail(_reason(failure))
            raise
        finally:
            progress._close()

    def info(self, text: str) -> None:
        """What happens now; contract 5.6 lists the texts of a good run."""
        self._line("[INFO] ", text)
        self._send({"type": "image-info", "messages": [text]})

    def warning(self, text: str) -> None:
        """Something for the operator; the log alone gets it, for no consumer knows such a message."""
        self._line("[WARNING] ", text)

    def error(self, texts: list[str]) -> None:
        """Why the deployment failed. The monitor hears the first call only: one failure, one message."""
        for text in texts:
            self._line("[ERROR] ", text)
        self._fail(texts)

    def copied(self, read: int, total: int | None, written: int) -> None:
        """`read` of the image's `total` bytes (None: nobody knows) are read, `written` bytes of the disk filled.

        To be called often; copy_finished() comes last.
        """
        self._copied(read, total, written, is_last=False)

    def copy_finished(self, written: int) -> None:
        """The copy is complete: all of the image is read, and `written` bytes of the disk are filled."""
        read = self._copy.all_read(written)
        self._copied(read, read, written, is_last=True)

    def _copied(self, read: int, total: int | None, written: int, *, is_last: bool) -> None:
        with self._lock:
            now = time.monotonic()
            state = self._copy.at(read, total, written, now)
            if self._terminal and not self._copy.is_finished:
                self._draw(self._bar.drawn(state, now, is_last=is_last), keep=is_last)
            if self._copy.is_due(now, is_last=is_last):
                self._send({"type": "image-copy-progress", **state.message(is_last=is_last)})

    def task_start(self, name: str) -> None:
        """The helper begins a task."""
        self._task_started = time.monotonic()
        if self._terminal:
            self._draw(f"  {printable(name)} …")
        self._send({"type": "image-helper", "subtype": "task-start", "task": name})

    def task_end(self, name: str) -> None:
        """The helper has finished a task."""
        if self._terminal:
            self._draw(f"  {printable(name):<32} {time.monotonic() - self._task_started:6.1f} s", keep=True)
        self._send({"type": "image-helper", "subtype": "task-end", "task": name})

    def helper_warning(self, text: str) -> None:
        """A task's warning, in its own words."""
        self.helper_warnings.append(text.strip())
        self._line("[WARNING] ", text.strip())
        self._send({"type": "image-helper", "subtype": "warning", "messages": [text]})

    def helper_error(self, messages: Sequence[str] = (), *, stderr: str = "") -> None:
        """A task's failure: its messages, or the standard error of what it ran."""
        for text in (*messages, *stderr.splitlines()):
            self._line("[ERROR] ", text)
        content = {"stderr": stderr} if stderr else {"messages": list(messages)}
        self._send({"type": "image-helper", "subtype": "error", **content})

    def log(self, text: str) -> None:
        """A line for the log alone."""
        self._line("", text)

    def helper_line(self, text: str) -> None:
        """One line of the helper's console."""
        self._line("HELPER: ", text)

    def _fail(self, texts: list[str]) -> None:
        with self._lock:
            if not self._has_failed:
                self._has_failed = True
                self._send({"type": "image-error", "messages": texts})

    def _send(self, message: dict[str, object]) -> None:
        if self._is_silent:
            return
        line = json.dumps({**message, "timestamp": time.time()})
        with self._lock:
            if self._monitor:
                try:
                    self._monitor.send(line.encode() + b"\n", must_arrive=message["type"] == "image-error")
                except MonitorError as error:
                    self._lose_monitor(error)
            elif not self._terminal:
                self._line("[MONITOR] ", line)

    def _lose_monitor(self, error: MonitorError) -> None:
        lost, self._monitor = self._monitor, None
        self.warning(f"PROGRESS_MONITOR {error}; its messages follow in this log")
        if lost:
            with contextlib.suppress(MonitorError):
                lost.close()

    def _close(self) -> None:
        with self._lock:
            if self._shown:
                self._draw(self._shown, keep=True)
            monitor, self._monitor = self._monitor, None
        if monitor:
            try:
                monitor.close()
            except MonitorError as error:
                self.warning(f"PROGRESS_MONITOR {error}")

    def _line(self, prefix: str, text: str) -> None:
        """Lines of the log, each with its prefix; what stands on the terminal without an end goes below them."""
        lines = "".join(f"{prefix}{printable(line)}\n" for line in text.splitlines() or [""])
        with self._lock:
            self._write(_CLEAR_LINE + lines + self._shown if self._shown else lines)

    def _draw(self, text: str, *, keep: bool = False) -> None:
        """Replace the unfinished line of the terminal; with `keep` it is finished."""
        with self._lock:
            if text != self._shown or keep:
                self._write(_CLEAR_LINE + text + ("\n" if keep else ""))
            self._shown = "" if keep else text

    def _write(self, text: str) -> None:
        encoding = self._log.encoding or "ascii"
        with contextlib.suppress(OSError):  # a full or vanished log is no reason to leave an instance half made
            self._log.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self._log.flush()


def printable(text: str) -> str:
    """`text` with everything escaped that a terminal or a reader of the log could take for something else."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _reason(failure: BaseException) -> list[str]:
    match failure:
        case SnfImageError():
            return list(failure.lines)
        case KeyboardInterrupt() | SystemExit():
            return [_INTERRUPTED]
        case _:
            return [_INTERNAL_ERROR]
