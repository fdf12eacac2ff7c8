# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that is filled and must not boot yet: its first and last MiB are kept in memory until they are released.

What firmware looks for lies there: boot sector, partition table, its backup. Whoever fills the disk writes wherever and
in whatever order he likes, from several threads; also a process of its own may, which shares the memory.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from snf_image_host.copying.courtesy import NO_COURTESY, Courtesy, Pace
from snf_image_host.copying.tally import TALLY_SIZE, Tally
from snf_image_host.disks.targets import EDGE, Writable
from snf_image_shared.errors import ImageError


@contextmanager
def edges_last(
    target: Writable, start: int = 0, alive: int | None = None, courtesy: Courtesy = NO_COURTESY
) -> Iterator[EdgesLast]:
    """A view of the disk with memory of its own, for the length of the block."""
    fd = os.memfd_create("edges", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, 2 * EDGE + TALLY_SIZE)
        # Who shares it must not take it away from under us: a read of what is not there any more is a SIGBUS.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        yield EdgesLast(target, start, fd, memoryview(mmap.mmap(fd, 2 * EDGE)), alive, courtesy)
    finally:
        os.close(fd)


@dataclass(frozen=True)
class EdgesLast:
    """The disk, seen from where the image begins on it.

    `start` is that place in bytes: 0, or EDGE when a prologue comes before. `memory_fd` is a memory file of EDGE bytes
    for the head of the disk and EDGE for its tail, zeros at first, which are `memory`, and of the tally. `alive` is a
    descriptor to be held by every process that writes to the disk on its own: while one does, the boot guard waits with
    its wipe. It keeps the same `courtesy`. All offsets below are the image's.
    """

    target: Writable
    start: int
    memory_fd: int
    memory: memoryview
    alive: int | None = None
    courtesy: Courtesy = NO_COURTESY

    @cached_property
    def _pace(self) -> Pace:
        return Pace(self.courtesy.bandwidth)

    @cached_property
    def tally(self) -> Tally:
        """Of what was written to the disk, but for what is in memory; the same in a process that shares the memory."""
        return Tally(memoryview(mmap.mmap(self.memory_fd, TALLY_SIZE, offset=2 * EDGE)), self.target.size)

    @property
    def room(self) -> int:
        """Bytes that an image may have at most."""
        return max(0, self.target.size - self.start)

    def rounded(self, end: int) -> int:
        """The first offset at or after `end` at which a write may end."""
        return self.target.rounded(self.start + end) - self.start

    def write_sparsely(self, view: memoryview, offset: int) -> None:
        """Write `view` (page-aligned memory), long runs of zeros by zeroing. Raises ImageError, DiskError."""
        self.check_room(offset + len(view))
        at = self.start + offset
        for first, last, kept in self._parts(at, at + len(view)):
            piece = view[first - at : last - at]
            if kept is None:
                self._pace.spend(len(piece))
                self.target.write_sparsely(piece, first)
                if self.tally.is_wanted:
                    self.tally.add(piece, first)
            else:
                self.memory[kept : kept + len(piece)] = piece

    def zero(self, offset: int, length: int) -> None:
        """Make `length` bytes read as zeros; at either end they do. Raises ImageError, DiskError."""
        self.check_room(offset + length)
        at = self.start + offset
        for first, last, kept in self._parts(at, at + length):
            if kept is None:
                self.target.zero(first, last - first)
            else:
                self.memory[kept : kept + last - first] = bytes(last - first)

    def release(self) -> None:
        """Write the ends, the tail first: while the head is missing, nothing boots. Raises DiskError.

        To be called when everything else is on stable storage; then these are.
        """
        head, tail = self.borders()
        self.target.write_sparsely(self.memory[EDGE : EDGE + self.target.size - tail], tail)
        self.target.flush()
        self.target.write_sparsely(self.memory[:head], 0)
        self.target.flush()

    def borders(self) -> tuple[int, int]:
        """Where the head ends on the disk, and where the tail begins: what is between is not in memory."""
        head = min(EDGE, self.target.size)
        return head, max(head, self.target.size - EDGE)

    def _parts(self, start: int, end: int) -> list[tuple[int, int, int | None]]:
        """A range of the disk cut at the borders, each part with its place in `memory` if it is kept there."""
        head, tail = self.borders()
        cuts = ((start, min(end, head), start), (max(start, head), min(end, tail), None))
        last = max(start, tail)
        return [part for part in (*cuts, (last, end, EDGE + last - tail)) if part[0] < part[1]]

    def check_room(self, end: int) -> None:
        if end > self.rounded(self.room):
            raise ImageError(
                f"the image is larger than the disk {self.target.name}, with room for {self.room} bytes: "
                "give a larger disk or a smaller image"
            )
