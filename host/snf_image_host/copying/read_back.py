# SPDX-License-Identifier: GPL-2.0-or-later
"""What a disk gives back of the image that was written to it, before it may boot: read past the page cache, once.

Its first and last MiB are in memory still. What is counted twice here is cheap; what is read is not.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from snf_image_host.copying.buffers import CHUNK, huge_pages
from snf_image_host.copying.edges import EdgesLast
from snf_image_host.copying.tally import sum_of
from snf_image_host.disks.targets import EDGE, Target
from snf_image_host.progress import Progress
from snf_image_shared.errors import DiskError

_WORKERS = 2
_AHEAD = 2 * _WORKERS  # pieces that are read while one is counted
_ROOM = 4096  # bytes of a buffer for what a direct read has to read more


@dataclass(frozen=True)
class OnDisk:
    """The image's `size` bytes on the disk, when all but what is in memory is on stable storage; `target` is the disk.

    With `is_verified` the disk has to give back what was written to it, whatever that was.
    """

    disk: EdgesLast
    target: Target
    size: int
    is_verified: bool
    progress: Progress

    def digests(self, algorithms: Collection[str]) -> dict[str, str]:
        """Of the image, in hexadecimal, by the algorithms' names. Raises DiskError.

        The disk is read if there is an algorithm or `is_verified`.
        """
        if not (algorithms or self.is_verified):
            return {}
        self.progress.log("Reading the disk back...")
        hashes = {name: hashlib.new(name) for name in algorithms}
        total = 0
        with self.disk.courtesy.kept(), closing(self._pieces()) as pieces:
            for piece, tally in pieces:
                total ^= tally
                for each in hashes.values():
                    each.update(piece)
        if self.is_verified and total != self.disk.tally.sum:
            raise self._garbled("what was written to it")
        return {name: each.hexdigest() for name, each in hashes.items()}

    def check_ends(self) -> None:
        """Raise DiskError if the disk does not give back its ends, when they were released, and `is_verified`."""
        head, tail = self.disk.borders()
        for start, end, kept in ((0, head, 0), (tail, self.target.size, EDGE)) if self.is_verified else ():
            first = start - start % _ROOM
            view = huge_pages(EDGE + _ROOM)
            self.target.read(view, first, end - first)
            if view[start - first : end - first] != self.disk.memory[kept : kept + end - start]:
                raise self._garbled("its ends")

    def _garbled(self, what: str) -> DiskError:
        return DiskError(f"{self.target.name}: does not give back {what}: replace the storage below it")

    def _pieces(self) -> Generator[tuple[memoryview, int], None, None]:
        """The image in order, each piece with its tally, valid until the next. Raises DiskError."""
        head, tail = self.disk.borders()
        start, end = self.disk.start, self.disk.start + self.size
        if start < head:
            yield self.disk.memory[start : min(end, head)], 0
        yield from self._read_pieces(max(start, head), min(end, tail))
        if end > tail:
            yield self.disk.memory[EDGE + max(0, start - tail) : EDGE + end - tail], 0

    def _read_pieces(self, start: int, end: int) -> Generator[tuple[memoryview, int], None, None]:
        """What is read from the disk, some pieces ahead."""
        memory = huge_pages((_AHEAD + 1) * (CHUNK + _ROOM))
        free = deque(memory[at : at + CHUNK + _ROOM] for at in range(0, len(memory), CHUNK + _ROOM))
        waiting = deque[tuple[Future[int], memoryview, int]]()
        pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="read-back")
        try:
            for at in range(start, end, CHUNK):
                length = min(CHUNK, end - at)
                view = free.popleft()
                waiting.append((pool.submit(self._read, view, at, length), view, length))
                if len(waiting) > _AHEAD:
                    future, view, length = waiting.popleft()
                    yield view[:length], future.result()
                    free.append(view)
            while waiting:
                future, view, length = waiting.popleft()
                yield view[:length], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _read(self, view: memoryview, offset: int, length: int) -> int:
        self.target.read(view, offset, length)
        return sum_of(view[:length], offset, self.target.size) if self.is_verified else 0
