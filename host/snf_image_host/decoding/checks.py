# SPDX-License-Identifier: GPL-2.0-or-later
"""What must hold of a container before anything of it is followed: each check is an object with a name and a message.

The messages complete the sentence that begins with the image's name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from snf_image_shared.errors import ImageError

Header = TypeVar("Header")


@dataclass(frozen=True)
class Check(Generic[Header]):
    """`fault` may name the header's fields: "has version {0.version}, …"."""

    name: str
    holds: Callable[[Header], bool]
    fault: str


def enforce(checks: Iterable[Check[Header]], header: Header) -> None:
    """Raise ImageError that ends with the name of the first check which does not hold."""
    for check in checks:
        if not check.holds(header):
            raise ImageError(f"{check.fault.format(header)} (check {check.name})")


@dataclass(frozen=True)
class Stored:
    """A container in a file, `size` bytes of it, read at places that it names itself."""

    fd: int
    size: int

    @classmethod
    def open(cls, fd: int) -> Stored:
        """The file behind the descriptor, which stays the caller's."""
        return cls(fd, os.fstat(fd).st_size)

    def read(self, offset: int, length: int, what: str) -> bytes:
        """All those bytes. Raises ImageError that calls them `what` if they are not all there."""
        if offset < 0 or offset + length > self.size:
            raise ImageError(
                f"has its {what} at byte {offset} to {offset + length}, and only {self.size} bytes: "
                "it is cut short or damaged; publish it again (check inside-the-file)"
            )
        try:
            found = os.pread(self.fd, length, offset)
        except OSError as error:
            raise ImageError(f"cannot be read at byte {offset}: {error.strerror}") from error
        if len(found) != length:
            raise ImageError(f"has shrunk to less than {offset + length} bytes: do not change it while it is read")
        return found
