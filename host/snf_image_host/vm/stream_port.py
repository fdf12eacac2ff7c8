# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's end of the helper VM's stream port: bytes of an archive, into the VM or out of it, and never looked at.

Threads of their own carry them, because what Ganeti gives us may be anything that blocks.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_PIECE = 1 << 18  # bytes


@dataclass(frozen=True)
class Stream:
    """`source` is a descriptor that is read to its end into the VM; `sink` is called with what comes out of it.

    What `sink` raises ends the carrying: `failures` has it then, and what the VM says afterwards is read and forgotten.
    """

    source: int | None = None
    sink: Callable[[memoryview], None] | None = None
    failures: list[BaseException] = field(default_factory=list)


@dataclass(frozen=True)
class StreamPair:
    """Both ends of the port's socket, QEMU's as a tuple of one."""

    stream: Stream
    ours: socket.socket
    theirs: tuple[socket.socket, ...]

    @property
    def fileno(self) -> int:
        """What QEMU inherits."""
        return self.theirs[0].fileno()


@contextmanager
def stream_pair(stream: Stream | None) -> Iterator[StreamPair | None]:
    """The port's socket, if there is to be one, for the length of one attempt."""
    if stream is None:
        yield None
        return
    ours, theirs = socket.socketpair()
    try:
        yield StreamPair(stream, ours, (theirs,))
    finally:
        ours.close()
        theirs.close()


@contextmanager
def carried(pair: StreamPair | None) -> Iterator[None]:
    """Carry bytes while the block runs, and until all that came out of the VM has been taken."""
    if pair is None:
        yield
        return
    threads = [threading.Thread(target=_take, args=(pair,), daemon=True)]
    if pair.stream.source is not None:
        threads.append(threading.Thread(target=_give, args=(pair, pair.stream.source), daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        threads[0].join()  # QEMU's end closes its socket
        with suppress(OSError):
            pair.ours.shutdown(socket.SHUT_RDWR)


def _give(pair: StreamPair, source: int) -> None:
    """A source that never ends is left behind with its thread: the process ends soon after the VM."""
    with suppress(OSError):
        while piece := os.read(source, _PIECE):
            pair.ours.sendall(piece)
        pair.ours.shutdown(socket.SHUT_WR)


def _take(pair: StreamPair) -> None:
    buffer = memoryview(bytearray(_PIECE))
    with suppress(OSError):
        while count := pair.ours.recv_into(buffer):
            if pair.stream.sink and not pair.stream.failures:
                try:
                    pair.stream.sink(buffer[:count])
                except BaseException as error:  # told by who waits for the VM
                    pair.stream.failures.append(error)
