# SPDX-License-Identifier: GPL-2.0-or-later
"""One stream of an xz file, its blocks decompressed side by side where their headers tell how long they are.

So they do in what xz -T writes. Each block is made a stream of its own, with an index that says what the block's header
does: the library then checks both against what it finds, and the block's check. The real index is checked here. The
numbers are of the xz file format 1.2.
"""

from __future__ import annotations

import hashlib
import lzma
import weakref
from collections.abc import Generator
from dataclasses import dataclass
from zlib import crc32

from snf_image_host.decoding.xz_workers import MEMORY, XzWorkers

_STREAM_HEADER = 12  # bytes
_HAS_COMPRESSED_SIZE, _HAS_SIZE = 0x40, 0x80
_LZMA2 = 0x21
_LARGEST_DICTIONARY = 40
_CHECK_SIZES = (0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64)
_MOST_NUMBER_BYTES = 9

_Steps = Generator[None, None, None]


class XzStream:
    """A Decompressor, as the library's LZMADecompressor is one. Its threads end with it, whether it was read or not."""

    def __init__(self) -> None:
        workers = XzWorkers()
        self._stream = _Stream(workers)
        weakref.finalize(self, workers.close)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return self._stream.needs_input

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: memoryview, max_length: int) -> bytes:
        """As LZMADecompressor does; there may be more input to give, or to wait for, before bytes come out."""
        return self._stream.decompress(data, max_length)


class _Stream:
    """What an XzStream does, apart from it because what reads refers to itself, and so would end late."""

    def __init__(self, workers: XzWorkers) -> None:
        self.needs_input = True
        self._rest = memoryview(b"")
        self._begun = b""  # what was looked at before it was known who would decompress it
        self._plain: lzma.LZMADecompressor | None = None
        self._workers = workers
        self._steps = self._read()
        self._is_read = False

    @property
    def eof(self) -> bool:
        return self._plain.eof if self._plain else self._is_read and self._workers.is_idle()

    @property
    def unused_data(self) -> bytes:
        return self._plain.unused_data if self._plain else bytes(self._rest)

    def decompress(self, data: memoryview, max_length: int) -> bytes:
        if data:
            self._rest = data
        if not self._plain:
            next(self._steps, None)
        if not self._plain:
            return self._workers.take(max_length, may_wait=not self.needs_input)
        data, self._rest = self._rest, memoryview(b"")
        if self._begun:
            data, self._begun = memoryview(self._begun + data), b""
        output = self._plain.decompress(data, max_length)
        self.needs_input = self._plain.needs_input
        return output

    def _read(self) -> _Steps:
        """Take the stream apart. It pauses where it needs input, and where the workers have enough."""
        start = yield from self._exactly(_STREAM_HEADER)
        if crc32(start[6:8]).to_bytes(4, "little") != start[8:]:
            self._leave(start)  # to find it wrong
            return
        records = _Records()
        while (first := (yield from self._exactly(1))) != b"\0":
            header = first + (yield from self._exactly(4 * first[0] + 3))
            block = _block(header, _CHECK_SIZES[start[7] & 15])
            if not block:
                if records.count:
                    raise lzma.LZMAError("Blocks with and without their sizes")
                self._leave(start + header)
                return
            records.add(block)
            while not self._workers.may_begin(block.dictionary):
                yield
            self._workers.begin(block.dictionary)
            self._workers.give(memoryview(start + header))
            yield from self._body(block.padded - len(header))
            self._workers.give(memoryview(_end(start, block)))
            self._workers.end()
        if not records.count:
            self._leave(start + first)
            return
        yield from self._index(records)
        if (yield from self._exactly(_STREAM_HEADER)) != _footer(start, records.size):
            raise lzma.LZMAError("Corrupt input data")
        self._is_read = True

    def _leave(self, begun: bytes) -> None:
        """Let the library do the whole stream, of which so much has been read."""
        self._plain, self._begun = lzma.LZMADecompressor(lzma.FORMAT_XZ, MEMORY), begun

    def _body(self, left: int) -> _Steps:
        while left:
            piece = yield from self._some(left)
            left -= len(piece)
            self._workers.give(piece)
            while not self._workers.may_give():
                yield

    def _index(self, records: _Records) -> _Steps:
        """The rest of it, of which there is exactly one that agrees with the blocks."""
        head = b"\0" + _number(records.count)
        is_right = (yield from self._exactly(len(head) - 1)) == head[1:]
        check, digest, left = crc32(head), hashlib.sha256(), records.length
        while left and is_right:
            piece = yield from self._some(left)
            left -= len(piece)
            check = crc32(piece, check)
            digest.update(piece)
        end = yield from self._exactly(records.size - len(head) - records.length)
        zeros = bytes(len(end) - 4)
        is_right = is_right and digest.digest() == records.digest.digest()
        if not is_right or end != zeros + crc32(zeros, check).to_bytes(4, "little"):
            raise lzma.LZMAError("Corrupt input data")

    def _exactly(self, count: int) -> Generator[None, None, bytes]:
        have = b""
        while len(have) < count:
            have += yield from self._some(count - len(have))
        return have

    def _some(self, most: int) -> Generator[None, None, memoryview]:
        """At least one byte."""
        while not self._rest:
            self.needs_input = True
            yield
        self.needs_input = False
        piece, self._rest = self._rest[:most], self._rest[most:]
        return piece


@dataclass(frozen=True)
class _Block:
    """`size` decompressed; `unpadded` as the index counts, in the file `padded`; all bytes."""

    size: int
    unpadded: int
    padded: int
    dictionary: int


class _Records:
    """What the index has to say of the blocks; not kept, there may be millions of them."""

    def __init__(self) -> None:
        self.count = 0
        self.length = 0
        self.digest = hashlib.sha256()

    def add(self, block: _Block) -> None:
        record = _number(block.unpadded) + _number(block.size)
        self.count += 1
        self.length += len(record)
        self.digest.update(record)

    @property
    def size(self) -> int:
        """Bytes of the whole index."""
        return _fours(1 + len(_number(self.count)) + self.length) + 4


def _block(header: bytes, check_size: int) -> _Block | None:
    """None if it does not tell its sizes, or is none that the library would take."""
    if crc32(header[:-4]).to_bytes(4, "little") != header[-4:]:
        return None
    flags = header[1]
    if not flags & _HAS_COMPRESSED_SIZE or not flags & _HAS_SIZE:
        return None
    try:
        compressed, at = _number_at(header, 2)
        size, at = _number_at(header, at)
        dictionary = 0
        for _ in range(1 + (flags & 3)):
            name, at = _number_at(header, at)
            length, at = _number_at(header, at)
            if name == _LZMA2 and length == 1:
                dictionary = _dictionary(header[at])
            at += length
    except (IndexError, ValueError):
        return None
    unpadded = len(header) + compressed + check_size
    return _Block(size, unpadded, len(header) + _fours(compressed) + check_size, dictionary)


def _dictionary(bits: int) -> int:
    if bits >= _LARGEST_DICTIONARY:
        return (1 << 32) - 1
    return (2 | bits & 1) << (bits // 2 + 11)


def _end(start: bytes, block: _Block) -> bytes:
    """What comes behind the block in a stream of this block alone."""
    records = _Records()
    records.add(block)
    index = b"\0" + _number(1) + _number(block.unpadded) + _number(block.size)
    index = index.ljust(_fours(len(index)), b"\0")
    return index + crc32(index).to_bytes(4, "little") + _footer(start, records.size)


def _footer(start: bytes, index_size: int) -> bytes:
    fields = (index_size // 4 - 1 & 0xFFFFFFFF).to_bytes(4, "little") + start[6:8]
    return crc32(fields).to_bytes(4, "little") + fields + b"YZ"


def _number(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _number_at(data: bytes, at: int) -> tuple[int, int]:
    """The number there and where the next thing is. Raises ValueError, IndexError."""
    for count in range(1, _MOST_NUMBER_BYTES + 1):
        if not data[at + count - 1] & 0x80:
            value = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data[at : at + count]))
            return value, at + count
    raise ValueError("a number without an end")


def _fours(size: int) -> int:
    return -(-size // 4) * 4
