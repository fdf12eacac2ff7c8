# SPDX-License-Identifier: GPL-2.0-or-later
"""What an unprivileged process wants to have on a disk that it has no way to, written for it."""

from __future__ import annotations

from functools import partial
from io import FileIO

from snf_image_host.copying.buffers import CHUNK, BufferRing
from snf_image_host.copying.edges import EdgesLast
from snf_image_host.decoding.piped_target import HEADER
from snf_image_shared.errors import ImageError

_WORKERS = 2


def store_pieces(disk: EdgesLast, pipe: int) -> None:
    """Write the pieces that come through the pipe (PipedTarget), up to its end, and close it. The ends are kept back.

    A piece that is cut off is left out: the process has ended then, and others tell why. Raises ImageError for places
    that the disk does not have, DiskError.
    """
    with FileIO(pipe) as pieces, BufferRing(_WORKERS, lambda done: None) as ring:
        header = memoryview(bytearray(HEADER.size))
        while _filled(pieces, header):
            at, length, has_data = HEADER.unpack(header)
            if at < disk.start or (has_data and length > CHUNK):
                raise ImageError(f"the decoder wants to write {length} bytes at byte {at} of {disk.target.name}")
            disk.check_room(at + length - disk.start)
            buffer = ring.take()
            if has_data and not _filled(pieces, buffer[:length]):
                break
            ring.submit(buffer, partial(_store, disk, at - disk.start, length, has_data))
        ring.drain()


def _filled(pieces: FileIO, view: memoryview) -> bool:
    while view and (count := pieces.readinto(view)):
        view = view[count:]
    return not view


def _store(disk: EdgesLast, offset: int, length: int, has_data: bool, buffer: memoryview) -> int:
    if has_data:
        disk.write_sparsely(buffer[:length], offset)
    else:
        disk.zero(offset, length)
    return length
