# SPDX-License-Identifier: GPL-2.0-or-later
"""What the bytes of the image must add up to, as the OS parameter img_checksum says it."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from snf_image_shared.errors import ImageError, RequestError

_DIGITS = {"sha256": 64, "sha512": 128}  # hexadecimal digits of a digest
_ZEROS = bytes(1 << 20)


@dataclass(frozen=True)
class Checksum:
    """`algorithm` is a name that hashlib knows, `digest` is in lower-case hexadecimal."""

    algorithm: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Checksum:
        """Read "sha256:HEX" or "sha512:HEX", in any case. Raises RequestError."""
        algorithm, colon, digest = text.strip().lower().partition(":")
        if not colon or algorithm not in _DIGITS:
            raise RequestError(f"{text[:60]!r} is neither sha256:HEX nor sha512:HEX; take what sha256sum prints")
        if not re.fullmatch(f"[0-9a-f]{{{_DIGITS[algorithm]}}}", digest):
            raise RequestError(
                f"{text[:60]!r} has {len(digest)} characters after the colon where {algorithm} has "
                f"{_DIGITS[algorithm]} hexadecimal digits; take what {algorithm}sum prints"
            )
        return cls(algorithm, digest)


class RunningDigest:
    """The digest of an image whose pieces come from several threads, each piece once, the first begins at 0.

    A piece waits until all before it are in; so the one with the lowest offset must always have a thread. Without a
    checksum nothing is computed and nobody waits.
    """

    def __init__(self, checksum: Checksum | None) -> None:
        self._checksum = checksum
        self._hash = hashlib.new(checksum.algorithm) if checksum else None
        self._position = 0
        self._is_given_up = False
        self._turn = threading.Condition()

    def add(self, offset: int, piece: memoryview) -> None:
        """The image's bytes at `offset`. They are read in this call, which does not hold Python's lock meanwhile."""
        with self._in_turn(offset, len(piece)) as is_wanted:
            if self._hash and is_wanted:
                self._hash.update(piece)

    def add_zeros(self, offset: int, length: int) -> None:
        """A hole of the image."""
        with self._in_turn(offset, length) as is_wanted:
            if self._hash and is_wanted:
                zeros = memoryview(_ZEROS)
                for at in range(0, length, len(zeros)):
                    self._hash.update(zeros[: length - at])

    def give_up(self) -> None:
        """A piece will not come: nobody is to wait for it."""
        with self._turn:
            self._is_given_up = True
            self._turn.notify_all()

    def check(self, name: str) -> None:
        """Raise ImageError unless the pieces are those of the checksum. `name` is the image's in the message."""
        if self._checksum and self._hash and self._hash.hexdigest() != self._checksum.digest:
            algorithm = self._checksum.algorithm
            raise ImageError(
                f"{name} has the {algorithm} {self._hash.hexdigest()}, and img_checksum expects "
                f"{self._checksum.digest}: it is damaged or another image; publish it again, or correct img_checksum"
            )

    @contextmanager
    def _in_turn(self, offset: int, length: int) -> Iterator[bool]:
        """Whether the piece is to be added, once it is its turn."""
        if not self._hash:
            yield False
            return
        with self._turn:
            self._turn.wait_for(lambda: self._is_given_up or self._position == offset)
            is_wanted = not self._is_given_up
        yield is_wanted
        with self._turn:
            self._position += length
            self._turn.notify_all()
