# SPDX-License-Identifier: GPL-2.0-or-later
"""copy(): an image onto a disk, past the page cache, in parallel, and never half bootable.

What is a hole or zeros in the image is zeroed on the disk, never skipped: the disk may hold another tenant's bytes.
The first and the last MiB of the disk are zeroed before the first byte and written after the last one is flushed, and
after everything that has to hold of the image has held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from snf_image_host.copying.buffers import CHUNK, BufferRing
from snf_image_host.copying.courtesy import NO_COURTESY, Courtesy
from snf_image_host.copying.edges import EdgesLast, edges_last
from snf_image_host.copying.read_back import OnDisk
from snf_image_host.disks.targets import EDGE, Target
from snf_image_host.images.integrity import InOrder, Integrity
from snf_image_host.images.prologue import check_addressable, put_prologue, size_on_disk, start_of_image
from snf_image_host.images.recipes import Recipe
from snf_image_host.images.sources import Extent, Readable, Source
from snf_image_host.images.streams import Stream, read_full
from snf_image_host.progress import Progress
from snf_image_shared.errors import ImageError

WORKERS = 2
_ZERO_STEP = 64 << 20  # bytes zeroed by one call, so that progress and an interrupt get their turn


@dataclass(frozen=True)
class Opened:
    """An image's bytes as they are stored, and what is to be made of them. `img_format` is what the operator named."""

    content: Source | Stream
    recipe: Recipe
    integrity: Integrity
    img_format: str


class Image(Protocol):
    """What copy() puts on a disk. `size` in bytes of the disk, None if only the end tells; `name` is for messages."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int | None: ...
    @property
    def img_format(self) -> str: ...
    @property
    def integrity(self) -> Integrity: ...

    def fill(self, disk: EdgesLast, progress: Progress) -> int:
        """Put all of it on the disk; the number of its bytes. What was stored has been fed to `integrity` then.

        Raises ImageError, DiskError.
        """

    def is_disk(self, target: Target) -> bool:
        """Whether the image lies on that very disk."""


class PlainImage:
    """Bytes of a disk that can be read in any order: a file, or what an unprivileged process makes of one."""

    def __init__(self, source: Readable, integrity: Integrity, img_format: str) -> None:
        self.name = source.name
        self.size = source.size
        self.integrity = integrity
        self.img_format = img_format
        self._source = source

    def fill(self, disk: EdgesLast, progress: Progress) -> int:
        """As Image says."""
        order = InOrder(self.integrity)
        with (
            self._source.direct(),
            BufferRing(WORKERS, lambda done: progress.copied(done, self.size, done)) as ring,
        ):
            for piece in pieces(self._source, 0, self.size, _ZERO_STEP):
                ring.submit(ring.take(), partial(_transfer, self._source, disk, piece, order))
            ring.drain()
        self._source.check_unchanged()
        return self.size

    def is_disk(self, target: Target) -> bool:
        """As Image says."""
        return isinstance(self._source, Source) and target.is_file(self._source.fd)


class StreamedImage:
    """Bytes of a disk that come in order."""

    def __init__(self, stream: Stream, integrity: Integrity, img_format: str) -> None:
        self.name = stream.name
        self.size = stream.size
        self.integrity = integrity
        self.img_format = img_format
        self._stream = stream

    def fill(self, disk: EdgesLast, progress: Progress) -> int:
        """As Image says."""
        order = InOrder(self.integrity)
        position = 0
        with BufferRing(WORKERS, lambda done: progress.copied(done, self.size, done)) as ring:
            while count := read_full(self._stream, buffer := ring.take()):
                disk.check_room(position + count)
                ring.submit(buffer, partial(_store, disk, Extent(position, count), order))
                position += count
            ring.drain()
        return position

    def is_disk(self, target: Target) -> bool:
        """As Image says."""
        return False


def check_fits(image: Image, target: Target) -> None:
    """Raise ImageError if the image is known to be larger than the disk, or is the disk. Nothing is written."""
    if image.size is not None:
        check_addressable(image.name, image.img_format, image.size)
        needed = size_on_disk(image.img_format, image.size)
        if needed > target.size:
            raise ImageError(
                f"{image.name} has {image.size} bytes, the disk {target.name} only {target.size}: "
                f"give a disk of at least {-(-needed // EDGE)} MiB or a smaller image"
            )
    if image.is_disk(target):
        raise ImageError(f"{image.name} is the disk {target.name} itself: give another image")


@dataclass(frozen=True)
class Terms:
    """How a copy is made: `alive` and `courtesy` are for EdgesLast, `clears_rest` zeroes what the image leaves.

    With `reads_back` the disk has to give back what was written.
    """

    alive: int | None = None
    courtesy: Courtesy = NO_COURTESY
    clears_rest: bool = False
    reads_back: bool = False


AS_USUAL = Terms()


def copy(image: Image, target: Target, progress: Progress, terms: Terms = AS_USUAL) -> int:
    """Make the disk begin with the image. What that does not fill of the disk's first and last MiB is zeroed.

    All other bytes beyond the image are left alone, unless the terms say otherwise. Returns the number of the image's
    bytes, when all is on stable storage. Raises ImageError for what is wrong with the image, DiskError for the disk:
    its ends are zeros then.
    """
    check_fits(image, target)
    target.wipe_ends()
    try:
        start = start_of_image(image.img_format)
        with edges_last(target, start, terms.alive, terms.courtesy) as disk:
            if terms.reads_back:
                disk.tally.want()
            with terms.courtesy.kept():
                size = image.fill(disk, progress)
                if terms.clears_rest:
                    _zero(disk, disk.rounded(size), disk.room)
            target.flush()
            on_disk = OnDisk(disk, target, size, terms.reads_back, progress)
            image.integrity.check(image.name, on_disk)
            put_prologue(disk, image.img_format, size)
            disk.release()
            on_disk.check_ends()
    except BaseException:
        target.wipe_ends()
        raise
    progress.copy_finished(size)
    return size


def pieces(source: Readable, start: int, end: int, longest_hole: int) -> Iterator[Extent]:
    """The extents of the source in pieces: data of at most CHUNK bytes, holes of at most `longest_hole`."""
    for extent in source.extents(start, end):
        step = CHUNK if extent.is_data else longest_hole
        for at in range(0, extent.length, step):
            yield Extent(extent.offset + at, min(step, extent.length - at), extent.is_data)


def _zero(disk: EdgesLast, start: int, end: int) -> None:
    for at in range(start, end, _ZERO_STEP):
        disk.zero(at, min(_ZERO_STEP, end - at))


def _transfer(source: Readable, disk: EdgesLast, piece: Extent, order: InOrder, buffer: memoryview) -> int:
    try:
        if piece.is_data:
            source.read(buffer, piece.offset, piece.length)
            return _store(disk, piece, order, buffer)
        order.add_zeros(piece.offset, piece.length)
        disk.zero(piece.offset, disk.rounded(piece.offset + piece.length) - piece.offset)
    except BaseException:
        order.give_up()
        raise
    return piece.length


def _store(disk: EdgesLast, piece: Extent, order: InOrder, buffer: memoryview) -> int:
    """Write what the buffer holds of the image, with zeros up to where a write to the disk may end."""
    try:
        order.add(piece.offset, buffer[: piece.length])
        padded = disk.rounded(piece.offset + piece.length) - piece.offset
        buffer[piece.length : padded] = bytes(padded - piece.length)
        disk.write_sparsely(buffer[:padded], piece.offset)
    except BaseException:
        order.give_up()
        raise
    return piece.length
