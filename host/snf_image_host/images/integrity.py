# SPDX-License-Identifier: GPL-2.0-or-later
"""What has to hold of an image before its disk may boot, and the running digest of the bytes that it comes as."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.read_back import OnDisk
from snf_image_host.images.checksum import Checksum
from snf_image_host.images.origins import Origin
from snf_image_host.images.signatures import DetachedSignature, refusal
from snf_image_host.images.vouchers import voucher_for
from snf_image_shared.errors import ImageError

_ZEROS = bytes(1 << 20)
_WEAK = {"md5": "MD5", "sha1": "SHA-1"}


@contextmanager
def integrity_of(wanted: Sequence[Checksum], origin: Origin, settings: Settings) -> Iterator[Integrity]:
    """What is to be checked of the image at `origin`: what img_checksum says, and what VERIFY wants.

    Raises ImageError if that is more than there is, ConfigurationError if this node cannot tell.
    """
    voucher = voucher_for(origin, settings, is_vouched=bool(wanted))
    integrity = Integrity(*wanted, *voucher.checksums, signature=voucher.signature)
    try:
        if voucher.signature:
            voucher.signature.start()
        yield integrity
    finally:
        integrity.close()


class Integrity:
    """What has to hold of one image: checksums of its bytes as they are fetched, or of those on the disk; a signature.

    Whoever reads the image feeds its bytes as they are fetched, each once and in order, if `is_wanted`. Who reads them
    all before the deployment says so with all_fed(): whoever reads them again then need not, and must not, feed them.
    `has_held` says whether check() has found everything right. feed() and check() may be called in different threads.
    """

    def __init__(self, *expected: Checksum | None, signature: DetachedSignature | None = None) -> None:
        self._expected = tuple(filter(None, expected))
        self._hashes = {each.algorithm: _new(each) for each in self._expected if not each.of_content}
        self._signature = signature
        self._conditions: list[Callable[[str], None]] = []
        self._has_begun = False
        self._is_fed = False
        self.has_held = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """For the operator."""
        return tuple(
            f"{each.said_by}: {_WEAK[each.algorithm]} tells a damaged image, but no forged one; "
            "publish sha256 beside it"
            for each in self._expected
            if each.algorithm in _WEAK
        )

    @property
    def is_wanted(self) -> bool:
        """Whether feed() has to see the image."""
        return bool(self._hashes or self._signature) and not self._is_fed

    def keep_digest(self) -> None:
        """Have the sha256 of what is fed, whoever asks for it; before the first byte is."""
        self._hashes.setdefault("sha256", hashlib.sha256())

    @property
    def sha256(self) -> str:
        """Of what has been fed so far, in hexadecimal; after keep_digest()."""
        return self._hashes["sha256"].hexdigest()

    def fetched_is_content(self) -> None:
        """The bytes that are fetched are those of the disk, so nothing has to be read back; before the first is fed."""
        if not self._has_begun:
            self._expected = tuple(replace(each, of_content=False) for each in self._expected)
            self._hashes |= {each.algorithm: _new(each) for each in self._expected}

    def feed(self, piece: memoryview) -> None:
        """The next bytes. They are read in this call, which does not hold Python's lock meanwhile."""
        self._has_begun = True
        if not self._is_fed:
            for each in self._hashes.values():
                each.update(piece)
            if self._signature:
                self._signature.feed(piece)

    def all_fed(self) -> None:
        """The image's last byte has been fed."""
        self._is_fed = True
        if self._signature:
            self._signature.verdict()

    def start_again(self) -> None:
        """Forget what was fed: the image is going to be fed from its first byte again. In the main thread."""
        self._hashes = {name: hashlib.new(name) for name in self._hashes}
        if self._signature:
            self._signature.start()
        self._has_begun = self._is_fed = False

    def also_check(self, condition: Callable[[str], None]) -> None:
        """Have check() call it first, with the image's name; it raises ImageError."""
        self._conditions.append(condition)

    def check(self, name: str, on_disk: OnDisk | None = None) -> None:
        """Raise ImageError unless everything holds. `name` is the image's in the message.

        What is expected of the content is looked for on the disk, unless it was fetched_is_content(). Raises DiskError
        if that cannot be read, or is not what was written.
        """
        self.check_fetched(name)
        of_content = {each.algorithm for each in self._expected if each.of_content}
        self._compare(name, on_disk.digests(of_content) if on_disk else {}, of_content=True)
        self.has_held = True

    def check_fetched(self, name: str) -> None:
        """The part of check() that needs no disk, after the last byte has been fed. Raises ImageError."""
        for condition in self._conditions:
            condition(name)
        fetched = {algorithm: each.hexdigest() for algorithm, each in self._hashes.items()}
        self._compare(name, fetched, of_content=False)
        if self._signature and (verdict := self._signature.verdict()).doubts:
            raise refusal(name, self._signature.name, verdict)

    def close(self) -> None:
        """Nothing that it started is left."""
        if self._signature:
            self._signature.close()

    def _compare(self, name: str, found: Mapping[str, str], *, of_content: bool) -> None:
        for wanted in self._expected:
            if wanted.of_content is of_content and found.get(wanted.algorithm) != wanted.digest:
                what = f"the content of {name}" if of_content else name
                raise ImageError(
                    f"{what} has the {wanted.algorithm} {found.get(wanted.algorithm)}, and {wanted.said_by} expects "
                    f"{wanted.digest}: it is damaged or another image; publish it again, or correct {wanted.said_by}"
                )


def _new(checksum: Checksum) -> hashlib._Hash:
    return hashlib.new(checksum.algorithm, usedforsecurity=checksum.algorithm not in _WEAK)


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
