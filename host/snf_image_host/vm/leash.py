# SPDX-License-Identifier: GPL-2.0-or-later
"""The helper VM ends with us, however we end. A small child hears of our end and kills whatever is on the leash.

bwrap's --die-with-parent alone has a gap: each of its processes asks for that some time after it was born, and nobody
tells it when its parent was dead by then. The leash is a pipe that all of them inherit, from the first to QEMU.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from snf_image_host.children import fork_child, read_to_end

_PAUSE = 0.05  # seconds between two looks for what is still there
_PATIENCE = 10.0  # seconds that we wait for the child; it goes on alone


@contextmanager
def leash() -> Iterator[int]:
    """The descriptor to hand to the process (`pass_fds`): who has it when the block is left is killed.

    To be entered before any thread is started, because it forks.
    """
    life_read, life = os.pipe()
    held_read, held = os.pipe()
    pid = fork_child({life_read, held_read}, lambda: _end_holders(life_read, held_read))
    os.close(life_read)
    os.close(held_read)
    try:
        yield held
    finally:
        os.close(held)
        os.close(life)
        deadline = time.monotonic() + _PATIENCE
        while not os.waitpid(pid, os.WNOHANG)[0] and time.monotonic() < deadline:
            time.sleep(0.001)


def _end_holders(life: int, held: int) -> int:
    """The child's whole life: wait for the end of `life`, then kill until nobody has the other end of `held`."""
    read_to_end(life)
    os.set_blocking(held, False)
    pipe = str(Path(f"/proc/self/fd/{held}").readlink())
    while not _is_let_go(held):
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and int(process.name) != os.getpid():
                _kill_holder(int(process.name), pipe)
    return 0


def _is_let_go(held: int) -> bool:
    """Whether no process has the writing end any more. What a process writes there means nothing."""
    select.select([held], [], [], _PAUSE)
    with suppress(BlockingIOError):
        while os.read(held, 4096):
            pass
        return True
    return False


def _kill_holder(number: int, pipe: str) -> None:
    with suppress(OSError):  # it has ended meanwhile
        process = os.pidfd_open(number)  # so that the number cannot be another's by the time of the kill
        try:
            if any(_leads_to(entry, pipe) for entry in Path(f"/proc/{number}/fd").iterdir()):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)


def _leads_to(entry: Path, pipe: str) -> bool:
    try:
        return str(entry.readlink()) == pipe
    except OSError:  # closed meanwhile
        return False
