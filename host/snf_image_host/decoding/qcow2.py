# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2, decoded by a reader of our own: stand-alone images of version 2 and 3, plain, zlib and zstd.

All tables are walked and checked once before anything is written, and again while the disk is filled. It runs in an
unprivileged process; nothing that an image says leads anywhere but to bytes of its own file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from operator import attrgetter
from typing import NamedTuple

from snf_image_host.copying.buffers import CHUNK, BufferRing
from snf_image_host.copying.edges import EdgesLast
from snf_image_host.decoding.clusters import Unpacker, unpacker
from snf_image_host.decoding.content import Tick
from snf_image_host.decoding.qcow2_header import DAMAGED, Header, read_header
from snf_image_host.decoding.qcow2_map import Map, Span
from snf_image_host.decoding.stored_file import ALIGNMENT, StoredFile
from snf_image_shared.errors import ImageError

_PLAIN_WORKERS = 2
_MOST_WORKERS = 4  # each has 12 MiB of buffers; four decompress as fast as disks write
_BLOCK = 64 << 10  # pieces begin and end at a multiple of it, or of the cluster: disks want aligned writes
_LONGEST_ZEROS = 64 << 20  # bytes zeroed by one call, so that the progress gets its turn
_GAP = 64 << 10  # bytes read for nothing rather than in two reads


def open_qcow2(fd: int) -> Qcow2:
    """The image in an open file, whose tables have passed every check. Reads past the page cache from now on.

    The caller owns `fd`. Raises ImageError, to stand after the image's name.
    """
    file = StoredFile(fd)
    header = read_header(file)
    tables = Map(file, header)
    for _ in tables.spans():
        pass
    return Qcow2(file, header, compressed=tables.packed > 0)


class Piece(NamedTuple):
    """`length` bytes of the disk at `offset`, at most CHUNK: zeros but for `spans`. Without spans it may be longer."""

    offset: int
    length: int
    spans: tuple[Span, ...] = ()


class Qcow2:
    """A checked image. `size` in bytes of the disk that it holds."""

    def __init__(self, file: StoredFile, header: Header, compressed: bool) -> None:
        self.size = header.size
        self._file = file
        self._header = header
        self._workers = min(len(os.sched_getaffinity(0)), _MOST_WORKERS) if compressed else _PLAIN_WORKERS
        self._thread = threading.local()

    def fill(self, disk: EdgesLast, tick: Tick) -> int:
        """As Content says."""
        disk.check_room(self.size)
        spans = Map(self._file, self._header).spans()
        with BufferRing(self._workers, lambda done: tick(min(self._file.consumed, self._file.size), done)) as ring:
            for piece in pieces(spans, self.size, max(_BLOCK, self._header.cluster)):
                ring.submit(ring.take(), partial(self._put, disk, piece))
            ring.drain()
        return self.size

    def _put(self, disk: EdgesLast, piece: Piece, buffer: memoryview) -> int:
        length = disk.rounded(piece.offset + piece.length) - piece.offset
        if not piece.spans:
            disk.zero(piece.offset, length)
            return piece.length
        for start, end in _gaps(piece):
            buffer[start:end] = bytes(end - start)
        packed = []
        for span in piece.spans:
            at = span.offset - piece.offset
            if span.packed:
                packed.append(span)
            else:
                self._read(buffer[at:], span)
        for group in _groups(packed, min(_GAP, self._header.cluster)):
            self._unpack(buffer, piece.offset, group)
        end = piece.spans[-1].end - piece.offset  # a last cluster is unpacked as a whole
        buffer[end:length] = bytes(length - end)
        disk.write_sparsely(buffer[:length], piece.offset)
        return piece.length

    def _read(self, view: memoryview, span: Span) -> None:
        if self._file.is_hole(span.host, span.length):  # preallocated, and never written
            view[: span.length] = bytes(span.length)
        elif self._header.cluster < ALIGNMENT:
            view[: span.length] = self._file.span(span.host, span.length)
        else:
            self._file.read(view, span.host, span.length)

    def _unpack(self, buffer: memoryview, start: int, group: list[Span]) -> None:
        """Decompress clusters that lie close together in the file into the buffer, which begins at byte `start`."""
        low = group[0].host
        stored = self._file.span(low, max(span.host + span.packed for span in group) - low)
        for span in group:
            at, place = span.offset - start, span.host - low
            cluster = buffer[at : at + self._header.cluster]
            if not self._unpacker(stored[place : place + span.packed], cluster):
                raise ImageError(
                    f"has no whole cluster in the compressed data for byte {span.offset}: {DAMAGED} "
                    "(check compressed-data)"
                )

    @property
    def _unpacker(self) -> Unpacker:
        """One a thread: zstd's has memory of its own."""
        if not hasattr(self._thread, "unpacker"):
            self._thread.unpacker = unpacker(self._header.compression)
        found: Unpacker = self._thread.unpacker
        return found


def pieces(spans: Iterable[Span], size: int, block: int) -> Iterator[Piece]:
    """A disk's spans, cut at multiples of `block`, of which CHUNK is one. The last piece ends at `size`.

    Zeros that fill a block are a piece of their own; fewer belong to the data beside them.
    """
    start = 0  # of the piece that is collected
    collected: list[Span] = []
    for span in spans:
        if span.host:
            at = span.offset
            while at < span.end:
                if at >= start + CHUNK:
                    yield Piece(start, CHUNK, tuple(collected))
                    start, collected = start + CHUNK, []
                end = min(span.end, start + CHUNK)
                collected.append(Span(at, end - at, span.host + at - span.offset, span.packed))
                at = end
            continue
        first = -(-span.offset // block) * block
        last = span.end if span.end == size else span.end - span.end % block
        if first < last:
            if collected:
                yield Piece(start, first - start, tuple(collected))
                collected = []
            yield from (Piece(at, min(_LONGEST_ZEROS, last - at)) for at in range(first, last, _LONGEST_ZEROS))
            start = last
    if collected:
        yield Piece(start, size - start, tuple(collected))


def _gaps(piece: Piece) -> Iterator[tuple[int, int]]:
    """What lies before and between a piece's spans, as places in its buffer."""
    done = piece.offset
    for span in piece.spans:
        if span.offset > done:
            yield done - piece.offset, span.offset - piece.offset
        done = span.end


def _groups(packed: list[Span], gap: int) -> Iterator[list[Span]]:
    """Compressed clusters that one read can bring, with at most `gap` bytes for nothing between two."""
    group: list[Span] = []
    for span in sorted(packed, key=attrgetter("host")):
        if group and (
            span.host > group[-1].host + group[-1].packed + gap or span.host + span.packed > group[0].host + CHUNK
        ):
            yield group
            group = []
        group.append(span)
    if group:
        yield group
