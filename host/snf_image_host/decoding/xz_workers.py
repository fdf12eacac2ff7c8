# SPDX-License-Identifier: GPL-2.0-or-later
"""xz streams decompressed side by side, their bytes given out in order, with bounded memory."""

from __future__ import annotations

import lzma
import os
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeVar

_T = TypeVar("_T")
MEMORY = 256 << 20  # bytes for one decompressor; xz -9 takes 65 MiB
_MOST_THREADS = 4
_INPUT = 8 << 20  # bytes that wait to be decompressed
_OUTPUT = 16 << 20  # bytes that wait for those before them
_DICTIONARIES = 32 << 20  # bytes, of all that are at work but for the first
_PIECE = 1 << 20


class _Part:
    """One xz stream: `given` are its bytes as far as they came, `made` what waits of the bytes made of them."""

    def __init__(self, dictionary: int) -> None:
        self.dictionary = dictionary
        self.given: deque[memoryview] = deque()
        self.is_whole = False
        self.made: deque[bytes] = deque()
        self.is_done = False
        self.error: lzma.LZMAError | MemoryError | None = None


class XzWorkers:
    """What is called here is called by one thread. Threads begin with the first stream; close() ends them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._parts: deque[_Part] = deque()  # in order; the last is the one that is being given
        self._unbegun: deque[_Part] = deque()
        self._threads = min(len(os.sched_getaffinity(0)), _MOST_THREADS)
        self._started = 0
        self._input = 0
        self._output = 0
        self._is_closed = False
        self._rest = memoryview(b"")  # of the piece that was given out last

    def is_idle(self) -> bool:
        """Whether all that was given has been given out."""
        return not self._parts and not self._rest

    def may_begin(self, dictionary: int) -> bool:
        """Whether there is room for another stream that needs so many bytes for its dictionary."""
        with self._changed:
            others = [part.dictionary for part in self._parts if not part.is_done]
            is_small = sum(others) + dictionary <= _DICTIONARIES
            return not self._parts or (is_small and len(self._parts) <= self._threads)

    def begin(self, dictionary: int) -> None:
        """What is given from now on is a stream behind those before."""
        part = _Part(dictionary)
        with self._changed:
            self._parts.append(part)
            self._unbegun.append(part)
            self._changed.notify_all()
        if self._started < self._threads:
            self._started += 1
            threading.Thread(target=self._work, name="xz", daemon=True).start()

    def may_give(self) -> bool:
        """Whether there is room for more."""
        with self._changed:
            return self._input < _INPUT

    def give(self, piece: memoryview) -> None:
        """The next bytes of the stream that has begun last."""
        with self._changed:
            self._parts[-1].given.append(piece)
            self._input += len(piece)
            self._changed.notify_all()

    def end(self) -> None:
        """That stream is whole."""
        with self._changed:
            self._parts[-1].is_whole = True
            self._changed.notify_all()

    def take(self, most: int, *, may_wait: bool) -> bytes:
        """Some of the next bytes; none if there are none yet, or if a stream is done or wants more to be given.

        Raises what its decompressor did.
        """
        if not self._rest:
            made = self._next(may_wait)
            if len(made) <= most:
                return made
            self._rest = memoryview(made)
        piece, self._rest = self._rest[:most], self._rest[most:]
        return bytes(piece)

    def close(self) -> None:
        """End the threads, soon."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _next(self, may_wait: bool) -> bytes:
        with self._changed:
            while self._parts:
                first = self._parts[0]
                if first.made:
                    piece = first.made.popleft()
                    self._output -= len(piece)
                    self._changed.notify_all()
                    return piece
                if first.error:
                    raise type(first.error)(*first.error.args)  # a new one: what was raised refers to all of us
                if first.is_done:
                    self._parts.popleft()
                    self._changed.notify_all()
                    break
                if not may_wait or not (first.given or first.is_whole):
                    break
                self._changed.wait()
        return b""

    def _work(self) -> None:
        while part := self._awaited(lambda: self._unbegun, self._unbegun.popleft):
            try:
                self._decompress(part)
            except (lzma.LZMAError, MemoryError) as error:  # whoever takes its bytes shall hear of it
                part.error = error
            with self._changed:
                part.is_done = True
                self._changed.notify_all()

    def _decompress(self, part: _Part) -> None:
        member = lzma.LZMADecompressor(lzma.FORMAT_XZ, MEMORY)
        while not member.eof:
            piece: memoryview | None = memoryview(b"")
            if member.needs_input:
                piece = self._awaited(lambda: part.given or part.is_whole, lambda: self._given(part))
            if piece is None:
                return
            made = member.decompress(piece, _PIECE)
            if made and not self._awaited(lambda: self._has_room(part), partial(self._keep, part, made)):
                return
        if member.unused_data or part.given:
            raise lzma.LZMAError("Corrupt input data")

    def _given(self, part: _Part) -> memoryview:
        if not part.given:
            raise lzma.LZMAError("Corrupt input data")
        piece = part.given.popleft()
        self._input -= len(piece)
        return piece

    def _has_room(self, part: _Part) -> bool:
        """The first can always go on, and so all can."""
        return self._output < _OUTPUT or (part is self._parts[0] and not part.made)

    def _keep(self, part: _Part, made: bytes) -> bool:
        part.made.append(made)
        self._output += len(made)
        self._changed.notify_all()
        return True

    def _awaited(self, condition: Callable[[], object], action: Callable[[], _T]) -> _T | None:
        """What `action` returns as soon as it may be done; None when it will not be."""
        with self._changed:
            while not self._is_closed:
                if condition():
                    return action()
                self._changed.wait()
        return None
