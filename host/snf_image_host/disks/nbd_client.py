# SPDX-License-Identifier: GPL-2.0-or-later
"""What one of our NBD servers offers, read and written with libnbd: a disk that has a URI, an image that QEMU decodes.

Every thread, and a forked child, has a connection of its own. libnbd's module is Debian's and no part of a virtual
environment, so it is imported when the first server is connected to.
"""

from __future__ import annotations

import importlib
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Protocol, cast

from snf_image_host.images.sources import ALIGNMENT, Extent
from snf_image_host.vm.qemu import NBD_EXPORT
from snf_image_shared.errors import ConfigurationError, SnfImageError

_OPEN_PATIENCE = 120.0  # seconds from the server's start until the disk is open
_ANSWER_PATIENCE = 600.0  # seconds for one request; a server may have much in its cache that a flush has to write
_TICK = 500  # milliseconds between two looks at the deadline
_PART = 512 << 10  # bytes of one request to read: a server of ours decodes, or waits for its storage, at each of them
_STATUS_STEP = 1 << 30  # bytes asked about at once
_ALLOCATION = "base:allocation"
_READS_AS_ZERO = 2  # NBD_STATE_ZERO


class NbdServer(Protocol):
    """A server of ours. What fails is raised as `error`; without a word of the server itself, `cure` is said."""

    @property
    def name(self) -> str: ...
    @property
    def error(self) -> type[SnfImageError]: ...
    @property
    def cure(self) -> str: ...

    def connect(self) -> socket.socket:
        """A new connection, which speaks NBD. Raises the server's error class."""

    def last_words(self) -> str:
        """Why the server ended, as far as it told, with what to do about it; "" if it said nothing."""


class ServedDisk:
    """A disk or image that is read through its server, as sources.Readable says."""

    def __init__(self, server: NbdServer, name: str) -> None:
        self.name = name
        self._server = server
        self._clients = Clients(server)
        self.size = self._clients.mine().get_size()

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """As Readable says; what is no data reads as zeros. Raises the server's error class."""
        return aligned(self._extents(start, end))

    def _extents(self, start: int, end: int) -> Iterator[Extent]:
        position = start
        while position < end:
            length = min(_STATUS_STEP, end - position)
            found = self._status(position, length)
            if found and not any(found[::2]):
                raise self._server.error(f"{self._server.name}: tells of holes without a length; {self._server.cure}")
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
        """Fill the first `length` bytes of `view`. Raises the server's error class."""
        parts = [(at, view[at : min(at + _PART, length)]) for at in range(0, length, _PART)]
        requests = [partial(_read, part, offset + at) for at, part in parts]
        self._clients.ask(f"cannot be read at byte {offset}", *requests)

    def direct(self) -> AbstractContextManager[None]:
        """Nothing to do: what is between is the server's affair."""
        return nullcontext()

    def check_unchanged(self) -> None:
        """Nothing to compare: NBD tells no time of change."""


def _read(view: memoryview, offset: int, client: _Client) -> int:
    return client.aio_pread(view, offset)


def aligned(extents: Iterable[Extent]) -> Iterator[Extent]:
    """The same extents with borders that are multiples of ALIGNMENT, but for the first and the last.

    What is data in part is data: a server finds holes by its storage's blocks, wherever those lie in an image. Extents
    of one kind that follow one another become one.
    """
    start = end = 0
    is_data: bool | None = None
    for extent in extents:
        if is_data is None:
            start, is_data = extent.offset, extent.is_data
        end = extent.offset + extent.length
        if extent.is_data is not is_data:
            at = extent.offset
            cut = at + -at % ALIGNMENT if is_data else at - at % ALIGNMENT
            if is_data and cut >= end:
                continue
            if cut > start:
                yield Extent(start, cut - start, is_data)
            start, is_data = max(start, cut), extent.is_data
    if is_data is not None and end > start:
        yield Extent(start, end - start, is_data)


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


class Clients:
    """One connection for each thread of each process."""

    def __init__(self, server: NbdServer) -> None:
        self._server = server
        self._owner = os.getpid()
        self._clients: dict[tuple[int, int], _Client] = {}

    def mine(self) -> _Client:
        """This thread's. Raises the server's error class when it cannot open the disk."""
        key = os.getpid(), threading.get_ident()
        if key not in self._clients:
            self._clients[key] = self._connected()
        return self._clients[key]

    def ask(self, what: str, *requests: Callable[[_Client], int]) -> None:
        """Send requests, which return their cookies, and wait for all answers. An error says that it was `what`.

        Storage that hangs must not hold the run, nor the signal that is to end it, for ever. The boot guard alone waits
        as long as it takes: what it has to wipe may answer again.
        """
        client = self.mine()
        patience = _ANSWER_PATIENCE if os.getpid() == self._owner else math.inf
        deadline = time.monotonic() + patience
        with self.failing(what):
            waiting = [request(client) for request in requests]
            while waiting := [cookie for cookie in waiting if not client.aio_command_completed(cookie)]:
                if time.monotonic() > deadline:
                    raise self._server.error(
                        f"{self._server.name}: {what}: no answer in {patience:g} seconds; does it hang?"
                    )
                client.poll(_TICK)

    @contextmanager
    def failing(self, what: str) -> Iterator[None]:
        """Turn libnbd's errors into one that says what it was that failed."""
        try:
            yield
        except libnbd().Error as error:
            reason = self._server.last_words() or f"{_reason(error)}; {self._server.cure}"
            raise self._server.error(f"{self._server.name}: {what}: {reason}") from error

    def _connected(self) -> _Client:
        client = libnbd().NBD()
        client.set_export_name(NBD_EXPORT)
        client.add_meta_context(_ALLOCATION)
        deadline = time.monotonic() + _OPEN_PATIENCE
        with self._server.connect() as connection, self.failing("cannot be opened"):
            client.aio_connect_socket(connection.detach())
            while not client.aio_is_ready():
                client.poll(_TICK)
                if time.monotonic() > deadline:
                    what = f"did not open within {_OPEN_PATIENCE:g} seconds; {self._server.cure}"
                    raise self._server.error(f"{self._server.name}: {what}")
        return client


def libnbd() -> _Library:
    """Debian's module. Raises ConfigurationError if it is not there."""
    try:
        return cast(_Library, importlib.import_module("nbd"))
    except ImportError as error:
        raise ConfigurationError(
            "libnbd is not installed, and disks with a URI and some formats of images need it; "
            "run: apt install python3-libnbd"
        ) from error


def _reason(error: Exception) -> str:
    """Without the name of libnbd's function before it."""
    return str(error).partition(": ")[2] or str(error)
