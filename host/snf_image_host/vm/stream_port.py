# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's end of the helper VM's stream port: bytes of an archive, into the VM or out of it, and never looked at.

Threads of their own carry them, because what Ganeti gives us may be anything that blocks.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from snf_image_shared.errors import SnfImageError

_PIECE = 1 << 18  # bytes
_KEPT = 4 << 20  # bytes; more than the sockets hold of what a VM never took that never booted
_PATIENCE = 5.0  # seconds for a thread that may be blocked by a peer, once nobody needs it any more


@dataclass
class Stream:
    """`head`, then all that can be read of `source`, go into the VM; `sink` is called with what comes out of it.

    What `sink` raises, or reading the source, ends the carrying: `failures` has it then, and whoever waits for the VM
    ends that. A second attempt to boot the VM begins with the first byte again.
    """

    source: int | None = None
    sink: Callable[[memoryview], None] | None = None
    head: bytes = b""
    failures: list[SnfImageError] = field(default_factory=list)
    _waited: float = 0.0
    _since: float | None = None

    @property
    def waited(self) -> float:
        """Seconds for which the other ends, not the VM, have kept everything waiting."""
        since = self._since
        return self._waited + (time.monotonic() - since if since is not None else 0.0)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block. There is one thread at a time that waits for another end."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._waited = self.waited
            self._since = None

    def failed(self, what: str, error: Exception) -> None:
        """Note why no more is carried."""
        known = isinstance(error, SnfImageError)
        self.failures.append(error if known else SnfImageError(f"{what}: {error}"))  # type: ignore[arg-type]


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
    """Carry bytes while the block runs, and until all that came out of the VM has been taken.

    QEMU has ended when the block ends, by an exception or without one.
    """
    if pair is None:
        yield
        return
    wake = os.eventfd(0)
    threads = [threading.Thread(target=_take, args=(pair,), daemon=True)]
    if pair.stream.source is not None:
        threads.append(threading.Thread(target=_give, args=(pair, pair.stream.source, wake), daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield
        pair.theirs[0].close()
        threads[0].join()  # what is left in the socket still goes to the sink, however slow that is
    finally:
        os.eventfd_write(wake, 1)
        with suppress(OSError):
            pair.ours.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(_PATIENCE)  # one that is blocked by its peer ends with the process
        if not any(thread.is_alive() for thread in threads):
            os.close(wake)


def _give(pair: StreamPair, source: int, wake: int) -> None:
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(wake, select.POLLIN)
    stream = pair.stream
    try:
        pair.ours.sendall(stream.head)
        while True:
            with stream.waiting():
                ready = {fd for fd, _ in poll.poll()}
            if wake in ready:
                return
            if not (piece := _read(stream, source)):
                break
            if len(stream.head) < _KEPT:
                stream.head += piece
            pair.ours.sendall(piece)
        pair.ours.shutdown(socket.SHUT_WR)
    except OSError:  # the VM is gone, which somebody else tells
        pass


def _read(stream: Stream, source: int) -> bytes:
    try:
        return os.read(source, _PIECE)
    except OSError as error:
        stream.failed("the stream to import cannot be read", error)
        return b""


def _take(pair: StreamPair) -> None:
    buffer = memoryview(bytearray(_PIECE))
    stream = pair.stream
    with suppress(OSError):
        while count := pair.ours.recv_into(buffer):
            if stream.sink and not stream.failures:
                try:
                    with stream.waiting():
                        stream.sink(buffer[:count])
                except (SnfImageError, OSError, ValueError) as error:  # told by who waits for the VM
                    stream.failed("what the helper VM sends cannot be passed on", error)
