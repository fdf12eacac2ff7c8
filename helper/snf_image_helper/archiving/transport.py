# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes to and from the stream port, and a part of what comes from there for a program that reads a pipe."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from snf_image_shared.exchange import ExchangeError

_PIECE = 1 << 16  # bytes
_EARLY = "the stream ends too early: look for the sender's error, and import it again"


def send(fd: int, content: bytes) -> None:
    """Write all of it. Raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


@dataclass
class Incoming:
    """What comes through the descriptor, in order; `held` was looked at before it was read."""

    fd: int
    held: bytes = b""

    def read(self, count: int) -> bytes:
        """Exactly so many bytes. Raises ExchangeError when the stream ends before."""
        found = bytearray()
        while len(found) < count:
            piece = self._some(count - len(found))
            if not piece:
                raise ExchangeError(_EARLY)
            found += piece
        return bytes(found)

    def look(self, count: int) -> bytes:
        """As read(), and what it gives is read once more. Raises ExchangeError."""
        self.held = self.read(count) + self.held
        return self.held[:count]

    def finish(self) -> None:
        """Read to the end."""
        while self._some(_PIECE):
            pass

    @contextmanager
    def pipe(self, count: int | None) -> Iterator[int]:
        """A pipe with the next `count` bytes, or all if that is None; they are taken even if nobody reads them.

        Raises ExchangeError at the end of the block when the stream ended before; that is then the one to tell.
        """
        source, sink = os.pipe()
        early: list[ExchangeError] = []
        thread = threading.Thread(target=self._pass_on, args=(sink, count, early), daemon=True)
        thread.start()
        try:
            yield source
        except BaseException:
            if early:
                raise early[0] from None
            raise
        finally:
            os.close(source)
            thread.join()
        if early:
            raise early[0]

    def _pass_on(self, sink: int, count: int | None, early: list[ExchangeError]) -> None:
        is_read = True
        try:
            for piece in self._pieces(count):
                if is_read:
                    try:
                        send(sink, piece)
                    except OSError:  # EPIPE: whoever read has seen enough
                        is_read = False
        except ExchangeError as error:
            early.append(error)
        finally:
            os.close(sink)

    def _pieces(self, count: int | None) -> Iterator[bytes]:
        while count is None and (piece := self._some(_PIECE)):
            yield piece
        while count:
            piece = self._some(min(count, _PIECE))
            if not piece:
                raise ExchangeError(_EARLY)
            count -= len(piece)
            yield piece

    def _some(self, count: int) -> bytes:
        if self.held:
            piece, self.held = self.held[:count], self.held[count:]
            return piece
        return os.read(self.fd, count)
