# SPDX-License-Identifier: GPL-2.0-or-later
"""The stored bytes of an image, once and in order, on their way to its integrity and to the decoder's process."""

from __future__ import annotations

import fcntl
import os
import select
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import partial
from io import FileIO

from snf_image_host.copying.buffers import BufferRing
from snf_image_host.copying.pipeline import Opened
from snf_image_host.images.decoder_process import DecoderProcess
from snf_image_host.images.sources import Source
from snf_image_host.images.streams import FileStream

_PIPE = 1 << 20  # bytes the kernel buffers, where the limit of the host allows
_FIRST_PIECE = 64 << 10  # bytes read at once while it is not known what the image is
_LOOK = 0.5  # seconds between two looks at the process
_SLOW = 1.0  # seconds for a read of the image after which the process cannot be blamed for standing still


def open_pipe(stack: ExitStack) -> tuple[int, FileIO]:
    """A pipe with much room: the end to read, which the caller owns, and the end to write, which `stack` closes."""
    read, write = os.pipe()
    with suppress(OSError):
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE)
    return read, stack.enter_context(FileIO(write, "wb"))


class Feed:
    """`size` is the number of all stored bytes, None if nobody knows; `count` of them have been handed on.

    Without a `pipe` the process reads the image itself, and nothing but the integrity is fed. `is_complete` says that
    everybody has got everything.
    """

    def __init__(self, opened: Opened, pipe: FileIO | None) -> None:
        self.size = opened.content.size
        self.count = 0
        self.is_complete = pipe is None and not opened.integrity.is_wanted
        self._content = opened.content
        self._integrity = opened.integrity
        self._pipe = pipe
        self._stream = FileStream(opened.content) if isinstance(opened.content, Source) else opened.content
        self._left = memoryview(b"")  # read and fed, but not yet in the pipe

    def until_found(self, process: DecoderProcess) -> int | None:
        """Hand on what the process needs to say what it found, without a thread. Raises what found() raises."""
        watched = select.poll()
        watched.register(process.control, select.POLLIN)
        pipe = self._pipe.fileno() if self._pipe else None
        if pipe is not None:
            os.set_blocking(pipe, False)
            watched.register(pipe, select.POLLOUT)
        with self._direct():
            while process.control not in (ready := dict(watched.poll(1000 * _LOOK))):
                process.check_patience()
                if pipe in ready and not self._hand_on_some(pipe):
                    watched.unregister(pipe)
        return process.found()

    def pump(self, process: DecoderProcess, tick: Callable[[], None]) -> None:
        """Hand on all that is left. `tick` is called in this thread; it raises when it is of no use any more.

        It returns early if the process wants no more; why, is for others to find out.
        """
        if self.is_complete:
            return
        start = self.count

        def look(done: int) -> None:
            self.count = start + done
            tick()

        with self._direct(), BufferRing(1, look) as ring, process.ended_on_error(), suppress(BrokenPipeError):
            if self._pipe:
                os.set_blocking(self._pipe.fileno(), True)
            if left := self._left:
                ring.submit(ring.take(), lambda _: self._put(left))
            while count := self._read(buffer := ring.take(), process):
                ring.submit(buffer, partial(self._hand_on, count))
            ring.drain()
            self._close()

    def _read(self, buffer: memoryview, process: DecoderProcess) -> int:
        began = time.monotonic()
        count = self._stream.readinto(buffer)
        if time.monotonic() > began + _SLOW:
            process.excuse()
        return count

    def _hand_on_some(self, pipe: int) -> bool:
        """As much as the pipe takes now; whether there is more."""
        if not self._left:
            piece = memoryview(bytearray(_FIRST_PIECE))
            self._left = piece[: self._stream.readinto(piece)]
            if not self._left:
                self._close()
                return False
            self._integrity.feed(self._left)
        with suppress(BlockingIOError):
            try:
                taken = os.write(pipe, self._left)
            except BrokenPipeError:  # it is going to say why
                return False
            self._left = self._left[taken:]
            self.count += taken
        return True

    def _hand_on(self, count: int, buffer: memoryview) -> int:
        self._integrity.feed(buffer[:count])
        return self._put(buffer[:count])

    def _put(self, piece: memoryview) -> int:
        rest = piece
        while self._pipe and rest:
            rest = rest[os.write(self._pipe.fileno(), rest) :]
        return len(piece)

    def _close(self) -> None:
        self.is_complete = True
        if self._pipe:
            self._pipe.close()

    def _direct(self) -> AbstractContextManager[None]:
        return self._content.direct() if isinstance(self._content, Source) else nullcontext()
