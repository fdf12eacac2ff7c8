# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk behind a storage daemon, as a Target and as what export reads: NBD spoken by libnbd.

Every thread, and a forked child, has a connection of its own. libnbd's module is Debian's and no part of a virtual
environment, so it is imported when the first such disk is opened.
"""

from __future__ import annotations

import importlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, cast

from snf_image_host.drives import RemoteDrive
from snf_image_host.qemu import NBD_EXPORT
from snf_image_host.settings import Settings
from snf_image_host.sources import Extent
from snf_image_host.storage_daemon import StorageDaemon, storage_daemon
from snf_image_host.targets import Target
from snf_image_host.userspace import Node
from snf_image_shared.errors import ConfigurationError, DiskError

_OPEN_PATIENCE = 120.0  # seconds from the daemon's start until the disk is open
_ANSWER_PATIENCE = 600.0  # seconds for one request; a server may have much in its cache that a flush has to write
_TICK = 500  # milliseconds between two looks at the deadline
_STEP = 64 << 20  # bytes zeroed by one request
_STATUS_STEP = 1 << 30  # bytes asked about at once
_ALLOCATION = "base:allocation"
_READS_AS_ZERO = 2  # NBD_STATE_ZERO


class RemoteTarget(Target):
    """A disk that is written through its daemon."""

    def __init__(self, daemon: StorageDaemon) -> None:
        self.name = daemon.name
        self._daemon = daemon
        self._clients = _Clients(daemon)
        self.size = self._clients.mine().get_size()

    @property
    def descriptors(self) -> frozenset[int]:
        return frozenset({self._daemon.lifeline})

    def drive(self) -> RemoteDrive:
        return RemoteDrive(self._daemon.door, writable=True)

    def write(self, view: memoryview, offset: int) -> None:
        self._clients.ask(f"cannot be written at byte {offset}", lambda client: client.aio_pwrite(view, offset))

    def zero(self, offset: int, length: int) -> None:
        for at in range(offset, offset + length, _STEP):
            self._zero(at, min(_STEP, offset + length - at))

    def _zero(self, offset: int, length: int) -> None:
        self._clients.ask(f"cannot be zeroed at byte {offset}", lambda client: client.aio_zero(length, offset))

    def flush(self) -> None:
        """One connection's flush covers what all have written: there is one block node behind them."""
        self._clients.ask("cannot be flushed", lambda client: client.aio_flush())


class RemoteSource:
    """A disk that is read through its daemon. Like sources.Source, as far as export and QEMU want it."""

    def __init__(self, daemon: StorageDaemon) -> None:
        self.name = f"disk {daemon.name}"
        self._daemon = daemon
        self._clients = _Clients(daemon)
        self.size = self._clients.mine().get_size()

    def drive(self) -> RemoteDrive:
        """The disk as QEMU gets it."""
        return RemoteDrive(self._daemon.door)

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Data and what reads as zeros from `start` to `end`, in order and without gaps. Raises DiskError."""
        position = start
        while position < end:
            length = min(_STATUS_STEP, end - position)
            found = self._status(position, length)
            for size, flags in zip(found[::2], found[1::2], strict=True) if found else [(length, 0)]:
                extent = min(size, end - position)
                if extent:
                    yield Extent(position, extent, is_data=not flags & _READS_AS_ZERO)
                position += extent

    def _status(self, offset: int, length: int) -> list[int]:
        """Lengths and flags in turn, of one extent at least; nothing if the server knows of no holes."""
        found = list[int]()

        def add(_name: str, _at: int, entries: list[int], _error: object) -> None:
            found.extend(entries)

        what = f"cannot be searched for holes at byte {offset}"
        with self._clients.failing(what):
            is_told = self._clients.mine().can_meta_context(_ALLOCATION)
        if is_told:
            self._clients.ask(what, lambda client: client.aio_block_status(length, offset, add))
        return found

    def read(self, view: memoryview, offset: int, length: int) -> None:
        """Fill the first `length` bytes of `view`. Raises DiskError."""
        self._clients.ask(f"cannot be read at byte {offset}", lambda client: client.aio_pread(view[:length], offset))

    def direct(self) -> AbstractContextManager[None]:
        """Nothing to do: no page cache of this node is between."""
        return nullcontext()

    def check_unchanged(self) -> None:
        """Nothing to compare: NBD tells no time of change."""


@contextmanager
def open_remote_target(node: Node, settings: Settings) -> Iterator[RemoteTarget]:
    """Open the disk for writing, for the length of the block. Raises DiskError, ConfigurationError."""
    _nbd()
    with storage_daemon(node, settings, writable=True) as daemon:
        yield RemoteTarget(daemon)


@contextmanager
def open_remote_source(node: Node, settings: Settings) -> Iterator[RemoteSource]:
    """Open the disk for reading, for the length of the block. Raises DiskError, ConfigurationError."""
    _nbd()
    with storage_daemon(node, settings, writable=False) as daemon:
        yield RemoteSource(daemon)


class _Client(Protocol):
    """What we use of libnbd's class NBD."""

    def set_export_name(self, name: str) -> None: ...
    def add_meta_context(self, name: str) -> None: ...
    def aio_connect_socket(self, fd: int) -> None: ...
    def aio_is_ready(self) -> bool: ...
    def poll(self, timeout: int) -> int: ...
    def get_size(self) -> int: ...
    def can_meta_context(self, name: str) -> bool: ...
    def aio_pread(self, view: memoryview, offset: int) -> int: ...
    def aio_pwrite(self, view: memoryview, offset: int) -> int: ...
    def aio_zero(self, count: int, offset: int) -> int: ...
    def aio_flush(self) -> int: ...
    def aio_block_status(self, count: int, offset: int, extent: Callable[..., object]) -> int: ...
    def aio_command_completed(self, cookie: int) -> bool: ...


class _Library(Protocol):
    """What we use of the module nbd."""

    NBD: Callable[[], _Client]
    Error: type[Exception]


class _Clients:
    """One connection for each thread of each process."""

    def __init__(self, daemon: StorageDaemon) -> None:
        self._daemon = daemon
        self._owner = os.getpid()
        self._clients: dict[tuple[int, int], _Client] = {}

    def mine(self) -> _Client:
        """This thread's. Raises DiskError when the daemon cannot open the disk."""
        key = os.getpid(), threading.get_ident()
        if key not in self._clients:
            self._clients[key] = self._connected()
        return self._clients[key]

    def ask(self, what: str, request: Callable[[_Client], int]) -> None:
        """Send a request, which returns its cookie, and wait for the answer. DiskError says that it was `what`.

        Storage that hangs must not hold the run, nor the signal that is to end it, for ever. The boot guard alone waits
        as long as it takes: what it has to wipe may answer again.
        """
        client = self.mine()
        patience = _ANSWER_PATIENCE if os.getpid() == self._owner else math.inf
        deadline = time.monotonic() + patience
        with self.failing(what):
            cookie = request(client)
            while not client.aio_command_completed(cookie):
                if time.monotonic() > deadline:
                    raise DiskError(f"{self._daemon.name}: {what}: no answer in {patience:g} seconds; does it hang?")
                client.poll(_TICK)

    @contextmanager
    def failing(self, what: str) -> Iterator[None]:
        """Turn libnbd's errors into a DiskError that says what it was that failed."""
        try:
            yield
        except _nbd().Error as error:
            reason = self._daemon.last_words() or f"{_reason(error)}; check the storage behind it"
            raise DiskError(f"{self._daemon.name}: {what}: {reason}") from error

    def _connected(self) -> _Client:
        client = _nbd().NBD()
        client.set_export_name(NBD_EXPORT)
        client.add_meta_context(_ALLOCATION)
        deadline = time.monotonic() + _OPEN_PATIENCE
        with self._daemon.connect() as connection, self.failing("cannot be opened"):
            client.aio_connect_socket(connection.detach())
            while not client.aio_is_ready():
                client.poll(_TICK)
                if time.monotonic() > deadline:
                    what = f"did not open within {_OPEN_PATIENCE:g} seconds; is the storage there?"
                    raise DiskError(f"{self._daemon.name}: {what}")
        return client


def _nbd() -> _Library:
    try:
        return cast(_Library, importlib.import_module("nbd"))
    except ImportError as error:
        raise ConfigurationError(
            "a disk that is reached through its URI needs libnbd; run: apt install python3-libnbd"
        ) from error


def _reason(error: Exception) -> str:
    """Without the name of libnbd's function before it."""
    return str(error).partition(": ")[2] or str(error)
