# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk as QEMU is given one: a descriptor, or the socket of a server of ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Drive:
    """An open descriptor that QEMU uses as a disk.

    With an `overlay`, an empty qcow2 image of the same size, whatever is written goes there, and the disk is only read.
    """

    fd: int
    is_block: bool = False
    writable: bool = False
    direct: bool = False
    overlay: int | None = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What QEMU inherits."""
        return (self.fd,) if self.overlay is None else (self.fd, self.overlay)


@dataclass(frozen=True)
class RemoteDrive:
    """The unix socket of an NBD server of ours, whose only disk QEMU uses. QEMU sees it under the same name."""

    socket: Path
    writable: bool = False


class Attachable(Protocol):
    """A disk that QEMU can be given."""

    def drive(self) -> Drive | RemoteDrive:
        """The disk as QEMU gets it."""
