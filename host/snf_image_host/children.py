# SPDX-License-Identifier: GPL-2.0-or-later
"""A forked child of ours that outlives us: in a session of its own, with the descriptors it needs and no secret.

It hears of our end by a pipe that only we hold, so that it does not matter how we end.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from snf_image_host import kernel

BROKEN = 4  # the exit status of a child whose work raised something


def fork_child(kept: Iterable[int], work: Callable[[], int]) -> int:
    """The process id of a child that runs `work` and ends with its result, once it stands on its own.

    To be called before any thread is started. All signals are blocked in the child: our handlers must never run there.
    """
    ready, held_by_child = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            status = BROKEN
            try:
                _leave_everything_but(kept)
                status = work()
            finally:
                os._exit(status)
        os.close(held_by_child)
        os.read(ready, 1)  # returns when the child has closed what it does not need, this pipe with it
        os.close(ready)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def read_to_end(fd: int) -> bytes:
    """The first bytes that were written, after every writer has closed its end."""
    first = b""
    while piece := os.read(fd, 4096):
        first = first or piece
    return first


def _leave_everything_but(kept: Iterable[int]) -> None:
    """Out of the parent's session, holding no file of it: no log, no terminal, no pipe."""
    os.setsid()
    os.chdir("/")
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("-1000")
    kernel.forget_environment()
    border = 0
    for fd in sorted(kept):
        if border < fd:  # Python's closerange(0, 0) closes everything
            os.closerange(border, fd)
        border = fd + 1
    os.closerange(border, os.sysconf("SC_OPEN_MAX"))
