# SPDX-License-Identifier: GPL-2.0-or-later
"""What has to hold of an image before its disk may boot, and the running digest of the bytes that it comes as."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from snf_image_host.checksum import Checksum
from snf_image_host.origins import Origin
from snf_image_host.settings import Settings
from snf_image_shared.errors import ImageError

_ZEROS = bytes(1 << 20)


@contextmanager
def integrity_of(wanted: Sequence[Checksum], origin: Origin, settings: Settings) -> Iterator[Integrity]:
    """What is to be checked of the image at `origin`. Raises ImageError if VERIFY wants more than there is."""
    yield Integrity(*wanted)


class Integrity:
    """What has to hold of one image: checksums of its bytes as they are fetched, or of those on the disk.

    Whoever reads the image feeds its bytes as they are fetched, each once and in order, if `is_wanted`. Who reads them
    all before the deployment says so with all_fed(): whoever reads them again then need not, and must not, feed them.
    `has_held` says whether check() has found everything right. feed() and check() may be called in different threads.
    """

    def __init__(self, *expected: Checksum | None) -> None:
        self._expected = tuple(filter(None, expected))
        self._hashes = {each.algorithm: hashlib.new(each.algorithm) for each in self._expected if not each.of_content}
        self._conditions: list[Callable[[str], None]] = []
        self._has_begun = False
        self._is_fed = False
        self.has_held = False

    @property
    def is_wanted(self) -> bool:
        """Whether feed() has to see the image."""
        return bool(self._hashes) and not self._is_fed

    def keep_digest(self) -> None:
        """Have the sha256 of what is fed, whoever asks for it; before the first byte is."""
        self._hashes.setdefault("sha256", hashlib.sha256())

    @property
    def sha256(self) -> str:
        """Of what has been fed so far, in hexadecimal; after keep_digest()."""
        return self._hashes["sha256"].hexdigest()

    def feed(self, piece: memoryview) -> None:
        """The next bytes. They are read in this call, which does not hold Python's lock meanwhile."""
        self._has_begun = True
        if not self._is_fed:
            for each in self._hashes.values():
                each.update(piece)

    def all_fed(self) -> None:
        """The image's last byte has been fed."""
        self._is_fed = True

    def start_again(self) -> None:
        """Forget what was fed: the image is going to be fed from its first byte again."""
        self._hashes = {name: hashlib.new(name) for name in self._hashes}
        self._has_begun = self._is_fed = False

    def also_check(self, condition: Callable[[str], None]) -> None:
        """Have check() call it first, with the image's name; it raises ImageError."""
        self._conditions.append(condition)

    def check(self, name: str) -> None:
        """Raise ImageError unless everything holds. `name` is the image's in the message."""
        for condition in self._conditions:
            condition(name)
        for wanted in self._expected:
            found = self._hashes[wanted.algorithm].hexdigest()
            if found != wanted.digest:
                raise ImageError(
                    f"{name} has the {wanted.algorithm} {found}, and {wanted.said_by} expects {wanted.digest}: "
                    "it is damaged or another image; publish it again, or correct img_checksum"
                )
        self.has_held = True


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
