# SPDX-License-Identifier: GPL-2.0-or-later
"""copy(): the bytes of a source onto a target, past the page cache, in parallel, and never half bootable.

What is a hole or zeros in the image is zeroed on the disk, never skipped: the disk may hold another tenant's bytes.
The first and the last MiB of the disk are zeroed before the first byte and written after the last one is flushed, and
after the checksum has held. It is that of the bytes which are written: no byte of the image is read twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from snf_image_host.buffers import CHUNK, BufferRing, huge_pages
from snf_image_host.checksum import Checksum, RunningDigest
from snf_image_host.progress import Progress
from snf_image_host.sources import Extent, Readable, Source
from snf_image_host.targets import EDGE, Target
from snf_image_shared.errors import ImageError

WORKERS = 2
_ZERO_STEP = 64 << 20  # bytes zeroed by one call, so that progress and an interrupt get their turn


def check_fits(source: Source, target: Target) -> None:
    """Raise ImageError if the source is larger than the disk, or is the disk. Nothing is written."""
    if source.size > target.size:
        raise ImageError(
            f"{source.name} has {source.size} bytes, the disk {target.name} only {target.size}: "
            f"give a disk of at least {-(-source.size // EDGE)} MiB or a smaller image"
        )
    if target.is_file(source.fd):
        raise ImageError(f"{source.name} is the disk {target.name} itself: give another image")


def copy(source: Source, target: Target, progress: Progress, checksum: Checksum | None = None) -> None:
    """Make the disk begin with the image. What that does not fill of the disk's first and last MiB is zeroed.

    All other bytes beyond the image, and with `null` the whole disk, are left alone. Returns when all is on stable
    storage. Raises ImageError for what is wrong with the image, DiskError for the disk: its ends are zeros then.
    """
    if source.is_null:
        progress.copied(0, 0)
        return
    check_fits(source, target)
    target.wipe_ends()
    digest = RunningDigest(checksum)
    with source.direct():
        head = _read(source, target, Extent(0, min(EDGE, source.size)), huge_pages(EDGE), digest)
        _copy_middle(source, target, progress, digest)
        target.flush()
        try:
            _copy_ends(source, target, head, digest)
        except BaseException:
            target.wipe_ends()
            raise
    progress.copied(source.size, source.size)


def pieces(source: Readable, start: int, end: int, longest_hole: int) -> Iterator[Extent]:
    """The extents of the source in pieces: data of at most CHUNK bytes, holes of at most `longest_hole`."""
    for extent in source.extents(start, end):
        step = CHUNK if extent.is_data else longest_hole
        for at in range(0, extent.length, step):
            yield Extent(extent.offset + at, min(step, extent.length - at), extent.is_data)


def _copy_middle(source: Source, target: Target, progress: Progress, digest: RunningDigest) -> None:
    end = min(source.size, _tail_start(target))
    with BufferRing(WORKERS, lambda done: progress.copied(done, source.size)) as ring:
        for piece in pieces(source, EDGE, end, _ZERO_STEP):
            ring.submit(ring.take(), partial(_transfer, source, target, piece, digest))
        ring.drain()


def _copy_ends(source: Source, target: Target, head: memoryview, digest: RunningDigest) -> None:
    """The tail first: while the head is missing, nothing boots."""
    start = _tail_start(target)
    tail = memoryview(b"")
    if source.size > start:
        tail = _read(source, target, Extent(start, source.size - start), huge_pages(EDGE), digest)
    digest.check(source.name)
    source.check_unchanged()
    target.write_sparsely(tail, start)
    target.flush()
    target.write_sparsely(head, 0)
    target.flush()


def _transfer(source: Source, target: Target, piece: Extent, digest: RunningDigest, buffer: memoryview) -> int:
    try:
        if piece.is_data:
            target.write_sparsely(_read(source, target, piece, buffer, digest), piece.offset)
        else:
            digest.add_zeros(piece.offset, piece.length)
            target.zero(piece.offset, target.rounded(piece.offset + piece.length) - piece.offset)
    except BaseException:
        digest.give_up()
        raise
    return piece.length


def _read(source: Source, target: Target, piece: Extent, buffer: memoryview, digest: RunningDigest) -> memoryview:
    """The bytes of a piece, with zeros up to where a write to the target may end."""
    source.read(buffer, piece.offset, piece.length)
    digest.add(piece.offset, buffer[: piece.length])
    padded = target.rounded(piece.offset + piece.length) - piece.offset
    buffer[piece.length : padded] = bytes(padded - piece.length)
    return buffer[:padded]


def _tail_start(target: Target) -> int:
    return max(min(EDGE, target.size), target.size - EDGE)
