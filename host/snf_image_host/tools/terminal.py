# SPDX-License-Identifier: GPL-2.0-or-later
"""The operator's side of a shell in the helper VM: his input goes there in frames, and what it says comes to him.

On a terminal every key goes to the VM, and the terminal is as it was before whatever ends the run.
"""

from __future__ import annotations

import os
import signal
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from snf_image_host.vm.stream_port import Stream
from snf_image_shared.errors import HelperError
from snf_image_shared.shell import LARGEST, Frame, Terminal, Unpacker, packed, packed_size

_INPUT, _OUTPUT, _ERRORS = 0, 1, 2
_HIGHEST = 255
_NOWHERE = -1  # no descriptor has this number
_STRANGE = "the helper VM sent what is no frame of a shell's; run it again with -v to see its console"


def terminal_of(kind: str) -> Terminal | None:
    """The operator's terminal, if input and output are one; `kind` is TERM."""
    if not (os.isatty(_INPUT) and os.isatty(_OUTPUT)):
        return None
    size = os.get_terminal_size(_OUTPUT)
    is_plain = kind.isascii() and kind.isprintable() and 0 < len(kind) <= 64
    return Terminal(kind if is_plain else "dumb", size.lines, size.columns)


class Operator:
    """`status` is how the command has ended, None until it has."""

    def __init__(self, terminal: Terminal | None, to_vm: int) -> None:
        self.status: int | None = None
        self._has_started = False
        self._terminal = terminal
        self._to_vm = to_vm
        self._frames = Unpacker()
        self._lock = threading.Lock()
        self._is_gone = False

    def take(self, chunk: memoryview) -> None:
        """What comes from the VM. Raises HelperError for what is no frame."""
        try:
            for kind, content in self._frames.feed(chunk):
                self._take(kind, content)
        except ValueError as error:
            raise HelperError(_STRANGE) from error

    def send(self, frame: bytes) -> None:
        """A frame to the VM, as a whole; nothing if it is gone."""
        with self._lock, suppress(OSError):
            view = memoryview(frame)
            while view:
                view = view[os.write(self._to_vm, view) :]

    def leave(self) -> None:
        """Nothing is sent from now on: the descriptor's number may soon be another file's."""
        with self._lock:
            self._to_vm = _NOWHERE

    def send_size(self) -> None:
        """Tell of the window's size."""
        with suppress(OSError):
            size = os.get_terminal_size(_OUTPUT)
            self.send(packed_size(size.lines, size.columns))

    def _take(self, kind: Frame, content: bytes) -> None:
        match kind:
            case Frame.STARTED if not self._has_started:
                self._has_started = True
                if self._terminal:
                    tty.setraw(_INPUT, termios.TCSADRAIN)
                threading.Thread(target=self._read_input, daemon=True).start()
            case Frame.OUTPUT | Frame.ERRORS if self.status is None:
                self._say(_OUTPUT if kind is Frame.OUTPUT else _ERRORS, content)
            case Frame.ENDED if self.status is None:
                self.status = _status(content)
                self.send(packed(Frame.GOODBYE))
            case _:
                raise HelperError(_STRANGE)

    def _say(self, fd: int, content: bytes) -> None:
        """A reader that has gone ends the command, as in any pipe."""
        if self._is_gone:
            return
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(fd, view) :]
        except BrokenPipeError:
            self._is_gone = True
            self.send(packed(Frame.HANG_UP))

    def _read_input(self) -> None:
        with suppress(OSError):
            while piece := os.read(_INPUT, LARGEST):
                self.send(packed(Frame.INPUT, piece))
        self.send(packed(Frame.END_OF_INPUT))


@contextmanager
def joined(terminal: Terminal | None) -> Iterator[tuple[Operator, Stream]]:
    """An operator, and the stream that joins him to the VM, for the length of the block."""
    from_operator, to_vm = os.pipe()
    operator = Operator(terminal, to_vm)
    try:
        with _restored(operator) if terminal else nullcontext():
            yield operator, Stream(source=from_operator, sink=operator.take)
    finally:
        os.close(from_operator)  # first: a thread that waits for room in the pipe finds nobody there any more
        operator.leave()
        os.close(to_vm)


@contextmanager
def _restored(operator: Operator) -> Iterator[None]:
    """The terminal is as it was before, whatever ends the block; until then its size is followed."""
    before = termios.tcgetattr(_INPUT)
    resized = signal.signal(
        signal.SIGWINCH, lambda *_: threading.Thread(target=operator.send_size, daemon=True).start()
    )
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, resized)
        termios.tcsetattr(_INPUT, termios.TCSADRAIN, before)


def _status(content: bytes) -> int:
    """Raises ValueError."""
    status = int(content)
    if not 0 <= status <= _HIGHEST:
        raise ValueError(f"a status of {status}")
    return status
