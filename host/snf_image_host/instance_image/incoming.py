# SPDX-License-Identifier: GPL-2.0-or-later
"""What a stream to import is, by its first bytes, and the image of a disk that lies in a tar archive.

Sources: exports of instance-image 0.7.3 (tar of dumps, or of disk.img), of instance-debootstrap (one dump), and of
snf-image and noop (the bytes of the disk).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum

from snf_image_host.images.formats import HEAD, foreign_stream
from snf_image_shared.errors import ImageError, SnfImageError
from snf_image_shared.exchange import DISK_IMAGE, DUMP_HEAD, ExchangeError, Member, is_dump, next_member

_TAR_MAGIC, _TAR_OFFSET = b"ustar", 257
_CURE = "look for the sender's error, and start the import again"


class StreamKind(StrEnum):
    """What a stream is."""

    DUMPS = "dumps"
    IMAGE = "an image of a disk in a tar archive"
    DISK = "the bytes of a disk"


@dataclass
class Incoming:
    """The stream, in order. `head` are its first bytes, at most HEAD, which are read once more."""

    fd: int
    head: bytes = b""
    _position: int = 0

    @classmethod
    def begun(cls, fd: int) -> Incoming:
        """Read the head. Raises SnfImageError."""
        incoming = cls(fd)
        head = bytearray()
        while len(head) < HEAD and (piece := incoming._read(HEAD - len(head))):
            head += piece
        incoming.head = bytes(head)
        return incoming

    def readinto(self, view: memoryview) -> int:
        """Fill some of `view`; 0 at the end. Raises SnfImageError."""
        rest = self.head[self._position : self._position + len(view)]
        if rest:
            view[: len(rest)] = rest
            self._position += len(rest)
            return len(rest)
        try:
            return os.readv(self.fd, [view])
        except OSError as error:
            raise SnfImageError(f"the stream to import cannot be read: {error.strerror}; {_CURE}") from error

    def read(self, count: int) -> bytes:
        """Exactly so many bytes. Raises ExchangeError when the stream ends before."""
        found = bytearray(count)
        done = 0
        while done < count:
            piece = self.readinto(memoryview(found)[done:])
            if not piece:
                raise ExchangeError(f"the stream to import ends too early: {_CURE}")
            done += piece
        return bytes(found)

    def _read(self, count: int) -> bytes:
        try:
            return os.read(self.fd, count)
        except OSError as error:
            raise SnfImageError(f"the stream to import cannot be read: {error.strerror}; {_CURE}") from error


def kind_of(head: bytes, index: int) -> StreamKind:
    """What begins with `head`. A disk of data (`index` above 0) may itself begin with an archive of a tenant's.

    Raises ExchangeError for an archive that is none of ours, and for one whose first member is not what it is called.
    """
    if head[_TAR_OFFSET : _TAR_OFFSET + len(_TAR_MAGIC)] == _TAR_MAGIC:
        try:
            return _kind_of_archive(head, index)
        except ExchangeError:
            if index:
                return StreamKind.DISK
            raise
    if not index and is_dump(head[:DUMP_HEAD]):
        return StreamKind.DUMPS
    # No firmware starts from any of these, so that it cannot be the first disk of an instance.
    if not index and (foreign := foreign_stream(head)):
        raise ExchangeError(f"the stream to import is no disk, it is {foreign.text}: export the instance again")
    return StreamKind.DISK


def _kind_of_archive(head: bytes, index: int) -> StreamKind:
    position = 0

    def read(count: int) -> bytes:
        nonlocal position
        position += count
        if position > len(head):
            raise ExchangeError(f"the stream to import ends too early: {_CURE}")
        return head[position - count : position]

    member = next_member(read)
    if member is None:
        raise ExchangeError(f"the stream to import is an empty tar archive: {_CURE}")
    if member.name == DISK_IMAGE:
        return StreamKind.IMAGE
    if index:
        raise ExchangeError(f"the stream to import has {member.name}, and disk {index} holds data, no system")
    if not is_dump(read(DUMP_HEAD)):
        raise ExchangeError(f"{member.name} of the stream to import is no dump(8): {_CURE}")
    return StreamKind.DUMPS


class TarredDisk:
    """The image in the stream's archive, as images.streams.Stream says."""

    name = f"{DISK_IMAGE} of the stream to import"

    def __init__(self, incoming: Incoming) -> None:
        member = next_member(incoming.read)
        if member is None:
            raise ExchangeError(f"the stream to import is an empty tar archive: {_CURE}")
        self._member: Member = member
        self._incoming = incoming
        self._left = member.size

    @property
    def size(self) -> int:
        """Bytes of the image."""
        return self._member.size

    @property
    def is_raw(self) -> bool:
        """Whether who exported it says that it is the disk itself, whatever it begins with."""
        return self._member.is_raw

    def readinto(self, view: memoryview) -> int:
        """As Stream says."""
        if not self._left:
            return 0
        count = self._incoming.readinto(view[: self._left])
        if not count:
            raise ImageError(f"the stream to import ends {self._left} bytes too early: {_CURE}")
        self._left -= count
        return count

    def check_end(self) -> None:
        """Raise ExchangeError unless nothing follows the image in the archive."""
        self._incoming.read(self._member.padding)
        if next_member(self._incoming.read):
            raise ExchangeError(f"the stream to import has more than {DISK_IMAGE}, so nobody knows what it is: {_CURE}")
