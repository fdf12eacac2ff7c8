# SPDX-License-Identifier: GPL-2.0-or-later
"""What has to hold of an image before its disk may boot, and the running digest of the bytes that it comes as."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from snf_image_host.checksum import Checksum
from snf_image_host.origins import Origin
from snf_image_host.settings import Settings
from snf_image_shared.errors import ImageError

_ZEROS = bytes(1 << 20)


@contextmanager
def integrity_of(wanted: Checksum | None, origin: Origin, settings: Settings) -> Iterator[Integrity]:
    """What is to be checked of the image at `origin`. Raises ImageError if VERIFY wants more than there is."""
    yield Integrity(wanted)


class Integrity:
    """`is_wanted` says whether anything is to be fed at all: every byte as it was fetched, once and in order."""

    def __init__(self, checksum: Checksum | None) -> None:
        self._checksum = checksum
        self._hash = hashlib.new(checksum.algorithm) if checksum else None

    @property
    def is_wanted(self) -> bool:
        """Whether feed() has to see the image."""
        return self._hash is not None

    def feed(self, piece: memoryview) -> None:
        """The next bytes. They are read in this call, which does not hold Python's lock meanwhile."""
        if self._hash:
            self._hash.update(piece)

    def check(self, name: str) -> None:
        """Raise ImageError unless everything holds. `name` is the image's in the message."""
        if self._checksum and self._hash and self._hash.hexdigest() != self._checksum.digest:
            algorithm = self._checksum.algorithm
            raise ImageError(
                f"{name} has the {algorithm} {self._hash.hexdigest()}, and img_checksum expects "
                f"{self._checksum.digest}: it is damaged or another image; publish it again, or correct img_checksum"
            )


class InOrder:
    """Feeds the pieces of an image, which come from several threads, each once, the first at 0, in their order.

    A piece waits until all before it are in; so the one with the lowest offset must always have a thread. If nothing is
    to be fed nobody waits.
    """

    def __init__(self, integrity: Integrity) -> None:
        self._integrity = integrity
        self._position = 0
        self._is_given_up = False
        self._turn = threading.Condition()

    def add(self, offset: int, piece: memoryview) -> None:
        """The image's bytes at `offset`."""
        with self._in_turn(offset, len(piece)) as is_wanted:
            if is_wanted:
                self._integrity.feed(piece)

    def add_zeros(self, offset: int, length: int) -> None:
        """A hole of the image."""
        with self._in_turn(offset, length) as is_wanted:
            if is_wanted:
                zeros = memoryview(_ZEROS)
                for at in range(0, length, len(zeros)):
                    self._integrity.feed(zeros[: length - at])

    def give_up(self) -> None:
        """A piece will not come: nobody is to wait for it."""
        with self._turn:
            self._is_given_up = True
            self._turn.notify_all()

    @contextmanager
    def _in_turn(self, offset: int, length: int) -> Iterator[bool]:
        """Whether the piece is to be added, once it is its turn."""
        if not self._integrity.is_wanted:
            yield False
            return
        with self._turn:
            self._turn.wait_for(lambda: self._is_given_up or self._position == offset)
            is_wanted = not self._is_given_up
        yield is_wanted
        with self._turn:
            self._position += length
            self._turn.notify_all()
