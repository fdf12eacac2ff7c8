# SPDX-License-Identifier: GPL-2.0-or-later
"""The pipe to the administrator's PROGRESS_MONITOR program, which must never hurt a deployment.

Writing never blocks: what the pipe does not take waits in a bounded buffer, what that does not take is dropped. At the
end the program has some seconds to read the rest; then it is ended, because nothing of ours outlives the OS script.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shlex
import signal
import subprocess
import time
from typing import TextIO

from snf_image_shared.process import SEARCH_PATH

_PIPE = 1 << 20  # bytes the kernel buffers, where the limit of the host allows
_BOUND = 256 << 10  # bytes that wait here
GRACE = 10.0  # seconds at the end, to read the rest and to exit: it may still be connecting to its message broker
_TERM_GRACE = 1.0


class MonitorError(Exception):
    """The monitor cannot be used (any more). The text says why."""


class Monitor:
    """A running PROGRESS_MONITOR with the messages on its standard input. Not for several threads at once."""

    def __init__(self, command: str, instance: str, log: TextIO) -> None:
        """Start `command`, split like a shell would but without one, with the instance's name as its last argument.

        It gets a session of its own, so that it survives a signal to ours and hears of the failure; a clean
        environment, since ours holds passwords; and the log for both outputs. Raises MonitorError.
        """
        self._waiting = bytearray()
        self.dropped = 0
        try:
            self._process = subprocess.Popen(
                [*shlex.split(command), instance],
                stdin=subprocess.PIPE,
                stdout=_descriptor(log),
                stderr=subprocess.STDOUT,
                env={"PATH": SEARCH_PATH, "LC_ALL": "C"},
                bufsize=0,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise MonitorError(f"cannot be started: {error}") from error
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101 - stdin=PIPE
        self._pipe = pipe
        os.set_blocking(pipe.fileno(), False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)

    def send(self, line: bytes, *, must_arrive: bool = False) -> None:
        """Queue one message and write what the pipe takes now. Raises MonitorError once the program is gone."""
        if must_arrive or len(self._waiting) + len(line) <= _BOUND:
            self._waiting += line
        else:
            self.dropped += 1
        self._write()

    def close(self) -> None:
        """Let the program read the rest and exit within GRACE seconds, or end it. Raises MonitorError for a loss."""
        deadline = time.monotonic() + GRACE
        try:
            while self._waiting and (left := deadline - time.monotonic()) > 0:
                select.select([], [self._pipe], [], left)
                self._write()
        finally:
            self._pipe.close()
            self._end(deadline)
        if self._waiting or self.dropped:
            raise MonitorError("did not read all messages in time")

    def _write(self) -> None:
        try:
            while self._waiting:
                del self._waiting[: os.write(self._pipe.fileno(), self._waiting[:_PIPE])]
        except BlockingIOError:
            pass
        except BrokenPipeError as error:  # Python ignores SIGPIPE for us
            self._waiting.clear()
            raise MonitorError("ended before the deployment did") from error

    def _end(self, deadline: float) -> None:
        for patience, number in (
            (max(0.0, deadline - time.monotonic()), signal.SIGTERM),
            (_TERM_GRACE, signal.SIGKILL),
        ):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
        self._process.wait()


def _descriptor(log: TextIO) -> int:
    try:
        return log.fileno()
    except OSError:  # not a file of the operating system
        return subprocess.DEVNULL
