# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk behind a storage daemon, as a Target and as what export reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from snf_image_host.configuration.settings import Settings
from snf_image_host.disks.nbd_client import Clients, ServedDisk, libnbd
from snf_image_host.disks.storage_daemon import StorageDaemon, storage_daemon
from snf_image_host.disks.targets import EDGE, Target
from snf_image_host.disks.userspace import Node
from snf_image_host.vm.drives import RemoteDrive
from snf_image_shared.errors import DiskError

_STEP = 64 << 20  # bytes zeroed by one request
_SETTLING = 0.5  # seconds for what a QEMU that is gone had asked for to reach the storage
_WIPES = 20


class RemoteTarget(Target):
    """A disk that is written through its daemon."""

    def __init__(self, daemon: StorageDaemon) -> None:
        self.name = daemon.name
        self._daemon = daemon
        self._clients = Clients(daemon)
        self.size = self._clients.mine().get_size()

    @property
    def descriptors(self) -> frozenset[int]:
        return frozenset({self._daemon.lifeline})

    def drive(self) -> RemoteDrive:
        return RemoteDrive(self._daemon.door, writable=True)

    def write(self, view: memoryview, offset: int) -> None:
        self._clients.ask(f"cannot be written at byte {offset}", lambda client: client.aio_pwrite(view, offset))

    def read(self, view: memoryview, offset: int, length: int) -> None:
        self._clients.ask(f"cannot be read at byte {offset}", lambda client: client.aio_pread(view[:length], offset))

    def zero(self, offset: int, length: int) -> None:
        for at in range(offset, offset + length, _STEP):
            self._zero(at, min(_STEP, offset + length - at))

    def _zero(self, offset: int, length: int) -> None:
        self._clients.ask(f"cannot be zeroed at byte {offset}", lambda client: client.aio_zero(length, offset))

    def flush(self) -> None:
        """One connection's flush covers what all have written: there is one block node behind them."""
        self._clients.ask("cannot be flushed", lambda client: client.aio_flush())

    def wipe_ends(self) -> None:
        """As on any disk. A killed QEMU's last requests may be done after ours: we look until the ends stay zero."""
        for _ in range(_WIPES):
            super().wipe_ends()
            time.sleep(_SETTLING)
            if not self._edges_hold_anything():
                return
        raise DiskError(f"{self.name}: cannot be wiped: somebody writes to it all the time")

    def _edges_hold_anything(self) -> bool:
        length = min(EDGE, self.size)
        found = bytearray(length)
        for offset in (0, self.size - length):
            self.read(memoryview(found), offset, length)
            if any(found):
                return True
        return False


class RemoteSource(ServedDisk):
    """A disk that is read through its daemon. Like sources.Source, as far as export and QEMU want it."""

    def __init__(self, daemon: StorageDaemon) -> None:
        super().__init__(daemon, f"disk {daemon.name}")
        self._daemon = daemon

    def drive(self) -> RemoteDrive:
        """The disk as QEMU gets it."""
        return RemoteDrive(self._daemon.door)


@contextmanager
def open_remote_target(node: Node, settings: Settings) -> Iterator[RemoteTarget]:
    """Open the disk for writing, for the length of the block. Raises DiskError, ConfigurationError."""
    libnbd()
    with storage_daemon(node, settings, writable=True) as daemon:
        yield RemoteTarget(daemon)


@contextmanager
def open_remote_source(node: Node, settings: Settings) -> Iterator[RemoteSource]:
    """Open the disk for reading, for the length of the block. Raises DiskError, ConfigurationError."""
    libnbd()
    with storage_daemon(node, settings, writable=False) as daemon:
        yield RemoteSource(daemon)
