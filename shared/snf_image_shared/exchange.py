# SPDX-License-Identifier: GPL-2.0-or-later
"""What instance-image exports: a tar archive of dumps of the root and of /boot, or of an image of the whole disk.

Written as GNU tar does. Read strictly, a header at a time, because a stream may come from anywhere. Sources: GNU tar's
manual "Basic Tar Format", pax(1p), protocols/dumprestore.h, and the exports of instance-image 0.7.3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from snf_image_shared.errors import SnfImageError

ROOT_DUMP, BOOT_DUMP, DISK_IMAGE = "root.dump", "boot.dump", "disk.img"
MEMBERS = (ROOT_DUMP, BOOT_DUMP, DISK_IMAGE)
BLOCK = 512  # bytes; headers are as long, and what a member lacks of a multiple is padded
NO_DUMPS = b"disk\n"  # in the place of the length, from a helper that leaves the export to the host
LENGTH_LINE = 24  # bytes that the line with the length has at most, which stands before the archive
DUMP_HEAD = 32  # bytes in which a dump is recognised
_RECORD = 20 * BLOCK  # GNU tar fills its last one
_OCTAL_LIMIT = 8**11  # from here on a size is a binary number
_LONGEST_EXTENSION = 64 << 10  # bytes of a PAX header or a long name
_MOST_HEADERS = 64  # in a row that are not a member
_DUMP_MAGIC = 60012  # NFS_MAGIC, of what Linux dumps
_TS_TAPE = 1
_RAW = b"raw"  # a group that nobody has, and nobody needs: the number counts, and is 0
_CURE = "import it with the OS definition that exported it, or export it again"


class ExchangeError(SnfImageError):
    """The stream is no export of instance-image's, or is damaged."""


@dataclass(frozen=True)
class Member:
    """One of MEMBERS and its length in bytes.

    `is_raw` says of DISK_IMAGE that it is the disk, byte by byte, whatever a guest has written to its beginning.
    """

    name: str
    size: int
    is_raw: bool = False

    @property
    def padding(self) -> int:
        """Bytes between its end and the next header."""
        return -self.size % BLOCK


def header(member: Member) -> bytes:
    """The header that stands before the member."""
    size = b"%011o\0" % member.size if member.size < _OCTAL_LIMIT else b"\x80" + member.size.to_bytes(11, "big")
    before = b"".join(
        (f"./{member.name}".encode().ljust(100, b"\0"), b"0000600\0", b"0000000\0", b"0000000\0", size, b"%011o\0" % 0)
    )
    group = (_RAW if member.is_raw else b"root").ljust(32, b"\0")
    after = (b"0" + bytes(100) + b"ustar  \0" + b"root".ljust(32, b"\0") + group).ljust(356, b"\0")
    checksum = sum(before) + sum(after) + 8 * ord(" ")
    return before + b"%06o\0 " % checksum + after


def ending(members: Iterable[Member]) -> int:
    """How many zeros end the archive."""
    content = sum(BLOCK + member.size + member.padding for member in members)
    return 2 * BLOCK + -(content + 2 * BLOCK) % _RECORD


def length(members: Iterable[Member]) -> int:
    """Bytes of the archive, a multiple of its record as with GNU tar."""
    found = tuple(members)
    return sum(BLOCK + member.size + member.padding for member in found) + ending(found)


def next_member(read: Callable[[int], bytes]) -> Member | None:
    """The next member, of which `read` gives the first byte then; None at the end of the archive.

    `read` gives exactly so many bytes, or raises. Raises ExchangeError for anything that has no place in an export.
    """
    name, size = "", None
    for _ in range(_MOST_HEADERS):
        block = read(BLOCK)
        if not any(block):
            return None
        found = _Header.parse(block)
        if found.kind in "gxLK":
            if found.size > _LONGEST_EXTENSION:
                raise ExchangeError(f"the stream has a tar header of {found.size} bytes; {_CURE}")
            text = read(found.size + -found.size % BLOCK)[: found.size]
            if found.kind == "x":
                fields = _pax(text)
                name = fields.get("path", name)
                size = _number(fields["size"]) if "size" in fields else size
            elif found.kind == "L":
                name = text.rstrip(b"\0").decode("utf-8", "replace")
        elif found.kind == "5" and not found.size and _is_directory(name or found.name):
            name, size = "", None
        elif found.kind in "0\0":
            return _member(name or found.name, found.size if size is None else size, is_raw=found.is_raw)
        else:
            raise ExchangeError(f"the stream has {_shown(name or found.name)}, which is no plain file; {_CURE}")
    raise ExchangeError(f"the stream has nothing but headers; {_CURE}")


def is_dump(head: bytes) -> bool:
    """Whether dump(8) wrote what begins with `head`, DUMP_HEAD bytes: the first volume of it."""
    return len(head) >= DUMP_HEAD and struct.unpack_from("<i20xi", head) == (_TS_TAPE, _DUMP_MAGIC)


@dataclass(frozen=True)
class _Header:
    name: str
    size: int
    kind: str
    is_raw: bool

    @classmethod
    def parse(cls, block: bytes) -> _Header:
        said = _octal(block[148:156])
        plain = block[:148] + b" " * 8 + block[156:]
        signed = sum(struct.unpack("512b", plain))  # as some old tars did
        if said not in {sum(plain), signed} or block[257:262] != b"ustar":
            raise ExchangeError(f"the stream is no whole tar archive: a header is damaged; {_CURE}")
        binary = block[124] & 0x80
        size = int.from_bytes(block[125:136], "big") if binary else _octal(block[124:136])
        if size is None or size < 0:
            raise ExchangeError(f"the stream is no whole tar archive: a size is damaged; {_CURE}")
        name = block[:100].split(b"\0")[0].decode("utf-8", "replace")
        return cls(name, size, chr(block[156]), block[297:329].rstrip(b"\0") == _RAW)


def _member(name: str, size: int, *, is_raw: bool) -> Member:
    known = name.removeprefix("./")
    if known not in MEMBERS:
        raise ExchangeError(f"the stream has a file {_shown(name)}, but only {', '.join(MEMBERS)} are known; {_CURE}")
    return Member(known, size, is_raw)


def _is_directory(name: str) -> bool:
    return name in {".", "./"}


def _octal(text: bytes) -> int | None:
    digits = text.strip(b" \0")
    try:
        return int(digits, 8) if digits.isdigit() else None
    except ValueError:
        return None


def _pax(text: bytes) -> dict[str, str]:
    """The records "LENGTH NAME=VALUE"; damaged ones end it."""
    found = {}
    while text:
        digits, _, _ = text.partition(b" ")
        count = int(digits) if digits.isdigit() and len(digits) < 6 else 0
        record, text = text[len(digits) + 1 : count].rstrip(b"\n"), text[count:]
        name, mark, value = record.partition(b"=")
        if not mark:
            raise ExchangeError(f"the stream has a damaged PAX header; {_CURE}")
        found[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return found


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise ExchangeError(f"the stream has a damaged PAX header; {_CURE}")
    return int(text)


def _shown(name: str) -> str:
    return repr(name[:60])
