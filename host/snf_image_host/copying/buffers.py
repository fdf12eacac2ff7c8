# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory and the threads of a copy: a few aligned buffers in huge pages, each lent to one job at a time.

A buffer that is not free is the back-pressure; the first job that fails ends the copy.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

CHUNK = 4 << 20  # bytes of one buffer, hence of one transfer
_HUGE = 2 << 20
_TICK = 0.5  # seconds between two looks at the progress while all buffers are busy

Job = Callable[[memoryview], int]


def huge_pages(size: int) -> memoryview:
    """`size` bytes of zeros, aligned to a huge page. A direct transfer then pins 2 MiB pages, not 4 KiB ones.

    The kernel splits a request at the device's segment limit, so small pages cap it at 512 KiB on many devices.
    """
    memory = mmap.mmap(-1, size + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without transparent huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    start = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % _HUGE
    return memoryview(memory)[start : start + size]


class BufferRing:
    """`workers` threads and twice as many buffers. Leaving the block ends all threads, also after an error.

    `tick` is called in the thread that uses the ring, with the sum of what the jobs returned.
    """

    def __init__(self, workers: int, tick: Callable[[int], None]) -> None:
        self._depth = 2 * workers
        self._tick = tick
        self._done = 0
        self._unused = 0  # buffers taken and not yet lent to a job
        self._failure: BaseException | None = None
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        arena = huge_pages(self._depth * CHUNK)
        for start in range(0, len(arena), CHUNK):
            self._free.put(arena[start : start + CHUNK])
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="copy")

    def __enter__(self) -> BufferRing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def take(self) -> memoryview:
        """A free buffer of CHUNK bytes, waited for. Raises what a job raised."""
        while True:
            if self._failure:
                raise self._failure
            self._tick(self._done)
            with contextlib.suppress(queue.Empty):
                buffer = self._free.get(timeout=_TICK)
                self._unused += 1
                return buffer

    def submit(self, buffer: memoryview, job: Job) -> None:
        """Lend a buffer from take() to `job`, which returns the number of bytes it is done with."""
        self._unused -= 1
        self._executor.submit(job, buffer).add_done_callback(lambda future: self._settle(future, buffer))

    def drain(self) -> None:
        """Wait for all jobs. Raises what a job raised. The ring cannot be used afterwards."""
        for _ in range(self._depth - self._unused):
            self.take()
        if self._failure:
            raise self._failure
        self._tick(self._done)

    def _settle(self, future: Future[int], buffer: memoryview) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._done += future.result()
        elif self._failure is None:
            self._failure = error
        self._free.put(buffer)
