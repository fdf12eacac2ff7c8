# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that was not finished does not boot, even if `create` is killed with SIGKILL while it works on it.

A small child holds the disk and waits. It hears "done" through one pipe that only `create` holds; a second pipe, shared
with QEMU, tells it when nobody writes to the disk any more. QEMU is not trusted, so what it writes there is ignored.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from snf_image_host.children import fork_child, read_to_end
from snf_image_host.disks.targets import Target
from snf_image_shared.errors import DiskError, SnfImageError

_DONE = b"done"
_FINISHED, _WIPED = 0, 3  # how the child ends
_PATIENCE = 10.0  # seconds for the child's wipe, and for QEMU to be gone, before we wipe ourselves


@dataclass(frozen=True)
class BootGuard:
    """`fd` is the write end to hand to QEMU (`pass_fds`): the wipe waits until every copy of it is closed."""

    fd: int
    pid: int


@contextmanager
def boot_guard(target: Target) -> Iterator[BootGuard]:
    """Zero the first and last MiB of the disk unless the block ends without an exception.

    To be entered before any thread is started, because it forks. After an exception the disk is wiped when it
    propagates; whoever started QEMU has ended it by then. Without one, signals are blocked from then on: nothing may
    say any more that it failed, for the disk boots. Raises DiskError if the wipe itself fails.
    """
    verdict_read, verdict = os.pipe()
    alive_read, alive = os.pipe()
    kept = {*target.descriptors, verdict_read, alive_read}
    pid = fork_child(kept, lambda: _guard(target, verdict_read, alive_read))
    os.close(verdict_read)
    os.close(alive_read)
    open_ends = [verdict, alive]
    try:
        yield BootGuard(alive, pid)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        with contextlib.suppress(BrokenPipeError):  # it was killed: nothing is left to call off
            os.write(verdict, _DONE)
        _close(open_ends)
        os.waitpid(pid, 0)
    except BaseException as failure:
        _close(open_ends)
        if not _wiped_by(pid):
            _wipe(target, failure)
        raise
    finally:
        _close(open_ends)


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


def _wiped_by(pid: int) -> bool:
    """Whether the child has ended and done its work. If it still waits for QEMU it goes on waiting."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return False
        if ended:
            return os.waitstatus_to_exitcode(status) == _WIPED
        time.sleep(0.01)
    return False


def _wipe(target: Target, failure: BaseException) -> None:
    try:
        target.wipe_ends()
    except SnfImageError as error:
        reason = "a signal" if isinstance(failure, SystemExit) else failure
        raise DiskError(f"{error}; it may boot half: do not start the instance (after: {reason})") from failure


def _guard(target: Target, verdict: int, alive: int) -> int:
    """The child's whole life, and the status it ends with."""
    if read_to_end(verdict) == _DONE:
        return _FINISHED
    read_to_end(alive)
    target.wipe_ends()
    return _WIPED
