# SPDX-License-Identifier: GPL-2.0-or-later
"""A qcow2 file's tables -> where each byte of the disk is stored, in the disk's order, in bounded memory.

In an image without snapshots everything has its own clusters: header, tables, refcount blocks, data. So each cluster of
the file is taken once at most, which rules out loops, data read from tables, and a small file that unfolds into a disk
full of one cluster. Compressed clusters may share clusters of the file, but they do not overlap either: together they
cannot be longer than the file.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Iterator
from typing import NamedTuple

from snf_image_host.decoding.clusters import ZSTD
from snf_image_host.decoding.qcow2_header import DAMAGED, ENTRY, Header
from snf_image_host.decoding.stored_file import StoredFile
from snf_image_shared.errors import ImageError

_SECTOR = 512
_WINDOW = 8192  # entries of a table read at once where the table is no single cluster
_OFFSET = 0x00FFFFFFFFFFFE00
_COPIED, _COMPRESSED, _ZERO = 1 << 63, 1 << 62, 1
_RESERVED_L1 = 0x7F000000000001FF
_RESERVED_L2 = 0x3F000000000001FE
_RESERVED_REFCOUNT = 0x1FF
_DEFLATE_RATIO = 1032  # deflate cannot do better
_ZSTD_BLOCK, _ZSTD_FRAME, _ZSTD_LEAST = 128 << 10, 6, 4  # bytes: a block's content, a frame without, a block stored


class Span(NamedTuple):
    """`length` bytes of the disk at `offset`: zeros if `host` is 0, else stored there in the file.

    Compressed it is one cluster, in at most `packed` bytes; else `packed` is 0.
    """

    offset: int
    length: int
    host: int = 0
    packed: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.length


class Map:
    """The tables of one file, walked once. `packed` counts the compressed clusters met so far."""

    def __init__(self, file: StoredFile, header: Header) -> None:
        self.packed = 0
        self._file = file
        self._header = header
        self._claims = _Claims(header.clusters)
        self._packed_bytes = 0
        # Of a compressed cluster: the width of its offset, and the least that it can be packed into.
        self._offset_bits = 62 - (header.cluster_bits - 8)
        if header.compression == ZSTD:
            self._least = _ZSTD_FRAME + _ZSTD_LEAST * -(-header.cluster // _ZSTD_BLOCK)
        else:
            self._least = max(1, header.cluster // _DEFLATE_RATIO)

    def spans(self) -> Iterator[Span]:
        """The whole disk, in order, without gaps. Raises ImageError where a check fails."""
        zeros = Span(0, 0)
        for span in self._spans():
            if not span.host:
                zeros = Span(zeros.offset, zeros.length + span.length) if zeros.length else span
                continue
            if zeros.length:
                yield zeros
                zeros = Span(0, 0)
            yield span
        if zeros.length:
            yield zeros

    def _spans(self) -> Iterator[Span]:
        header = self._header
        self._claim_metadata()
        reach = header.cluster * header.l2_entries
        done = 0
        for index, entry in self._entries(header.l1_offset, header.l1_needed):
            if entry == _COPIED:
                continue  # a flag, and no table
            start = index * reach
            if start > done:
                yield Span(done, start - done)
            table = self._l2_table(start, entry)
            done = min(start + reach, header.size)
            for span in self._clusters(start, table, -(-(done - start) // header.cluster)):
                yield span if span.end <= done else span._replace(length=done - span.offset)
        if done < header.size:
            yield Span(done, header.size - done)

    def _claim_metadata(self) -> None:
        header = self._header
        self._claim("header", 0, 1)
        self._claim("L1 table", header.l1_offset, max(1, -(-header.l1_entries * ENTRY // header.cluster)))
        self._claim("refcount table", header.refcount_offset, header.refcount_clusters)
        for _, entry in self._entries(header.refcount_offset, header.refcount_clusters * header.l2_entries):
            if entry & _RESERVED_REFCOUNT:
                raise _refused("refcount-entry", f"has a reserved bit in refcount entry {entry:#x}")
            self._claim("refcount block", entry, 1)

    def _l2_table(self, start: int, entry: int) -> array.array[int]:
        if entry & _RESERVED_L1:
            raise _refused("l1-entry", f"has a reserved bit in L1 entry {entry:#x}, for byte {start}")
        host = entry & _OFFSET
        if not self._header.holds(host, self._header.cluster):
            raise _refused("l1-entry", f"has an L2 table at byte {host}, not aligned or not in the file")
        self._claim("L2 table", host, 1)
        return self._table(host, self._header.l2_entries)

    def _clusters(self, start: int, table: array.array[int], count: int) -> Iterator[Span]:
        """What the first `count` entries of an L2 table say; the disk from byte `start` on."""
        step = self._header.cluster
        at = 0
        while at < count:
            first, entry, offset = at, table[at], start + at * step
            at += 1
            if not entry:
                while at < count and not table[at]:
                    at += 1
                yield Span(offset, (at - first) * step)
            elif entry & _COMPRESSED:
                yield self._compressed(offset, entry)
            elif self._is_zero(offset, entry):
                yield Span(offset, step)
            else:
                following = entry + step
                while at < count and table[at] == following:
                    at += 1
                    following += step
                self._claim_data(offset, entry & _OFFSET, at - first)
                yield Span(offset, (at - first) * step, entry & _OFFSET)

    def _is_zero(self, offset: int, entry: int) -> bool:
        """Whether an entry that is not compressed means zeros; they may have a cluster of the file all the same."""
        reserved = _RESERVED_L2 | (_ZERO if self._header.version < 3 else 0)
        if entry & reserved:
            raise _refused("l2-entry", f"has a reserved bit in L2 entry {entry:#x}, for byte {offset}")
        if entry & _ZERO and entry & _OFFSET:
            self._claim_data(offset, entry & _OFFSET, 1)
        return bool(entry & _ZERO) or not entry & _OFFSET

    def _compressed(self, offset: int, entry: int) -> Span:
        header = self._header
        host = entry & (1 << self._offset_bits) - 1
        sectors = entry >> self._offset_bits & (1 << header.cluster_bits - 8) - 1
        # The data ends somewhere in the last of its sectors.
        least = max(self._least, sectors * _SECTOR - host % _SECTOR + 1)
        end = min(host - host % _SECTOR + (sectors + 1) * _SECTOR, header.file_size)
        if host + least > header.file_size:
            raise _refused("l2-entry", f"has compressed data at byte {host}, behind the end of the file")
        first, last = host // header.cluster, (end - 1) // header.cluster
        if not self._claims.share(first, last - first + 1):
            raise _refused("shared-cluster", f"has compressed data at byte {host}, where something else lies")
        self.packed += 1
        self._packed_bytes += least
        if self._packed_bytes > header.file_size:
            raise _refused("amplification", "has more compressed data than the file is long")
        return Span(offset, header.cluster, host, end - host)

    def _claim_data(self, offset: int, host: int, count: int) -> None:
        step = self._header.cluster
        if host % step or host + (count - 1) * step >= self._header.file_size:
            raise _refused("l2-entry", f"has data for byte {offset} at byte {host}, not aligned or behind the end")
        self._claim("data", host, count)

    def _claim(self, what: str, host: int, count: int) -> None:
        step = self._header.cluster
        if host % step or host + (count - 1) * step >= self._header.file_size:
            raise _refused("place", f"has a {what} at byte {host}, not aligned or behind the end")
        if not self._claims.take(host // step, count):
            raise _refused("shared-cluster", f"has {what} at byte {host}, where something else lies")

    def _entries(self, offset: int, count: int) -> Iterator[tuple[int, int]]:
        """The entries of a table that are not 0, each with its index."""
        for at in range(0, count, _WINDOW):
            for index, entry in enumerate(self._table(offset + at * ENTRY, min(_WINDOW, count - at)), at):
                if entry:
                    yield index, entry

    def _table(self, offset: int, count: int) -> array.array[int]:
        table = array.array("Q", self._file.span(offset, count * ENTRY).tobytes())
        if sys.byteorder == "little":
            table.byteswap()
        return table


class _Claims:
    """Which clusters of the file belong to something: a bit each, for what has its own and for what is shared."""

    def __init__(self, clusters: int) -> None:
        self._size = -(-clusters // 8)
        self._own = bytearray(self._size)
        self._shared = bytearray()  # made for the first that needs it

    def take(self, first: int, count: int) -> bool:
        """Take clusters that nothing else has; False if something does."""
        if self._shared and _Bits(self._shared, first, count).any():
            return False
        bits = _Bits(self._own, first, count)
        if bits.any():
            return False
        bits.set()
        return True

    def share(self, first: int, count: int) -> bool:
        """Use clusters that others may use, but not own; False if something owns one."""
        if _Bits(self._own, first, count).any():
            return False
        if not self._shared:
            self._shared = bytearray(self._size)
        _Bits(self._shared, first, count).set()
        return True


class _Bits:
    """`count` bits of a map from bit `first` on, as one number."""

    def __init__(self, bits: bytearray, first: int, count: int) -> None:
        self._map = bits
        self._bytes = slice(first // 8, (first + count + 7) // 8)
        self._mask = ((1 << count) - 1) << first % 8

    def any(self) -> bool:
        return bool(int.from_bytes(self._map[self._bytes], "little") & self._mask)

    def set(self) -> None:
        number = int.from_bytes(self._map[self._bytes], "little") | self._mask
        self._map[self._bytes] = number.to_bytes(self._bytes.stop - self._bytes.start, "little")


def _refused(check: str, fault: str) -> ImageError:
    return ImageError(f"{fault}: {DAMAGED} (check {check})")
