# SPDX-License-Identifier: GPL-2.0-or-later
"""A command that another machine has started by ssh ends when its caller does.

sshd tells a command without a terminal of that in one way: its standard input ends. A small child waits for it, and
ends us by a signal as a person would.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from snf_image_host.children import fork_child

_INPUT = 0
_PIECE = 4096


@contextmanager
def lifeline() -> Iterator[None]:
    """We get SIGHUP if standard input ends before the block does.

    To be entered before any thread is started, because it forks.
    """
    held, life = os.pipe()
    us = os.pidfd_open(os.getpid())
    child = fork_child({_INPUT, held, us}, lambda: _hang_up(held, us))
    os.close(held)
    os.close(us)
    try:
        yield
    finally:
        os.close(life)
        os.waitpid(child, 0)


def _hang_up(held: int, us: int) -> int:
    """The child's whole life."""
    while True:
        ready = select.select([_INPUT, held], [], [])[0]
        if held in ready:
            return 0
        if not os.read(_INPUT, _PIECE):
            signal.pidfd_send_signal(us, signal.SIGHUP)
            return 0
