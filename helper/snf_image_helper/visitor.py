# SPDX-License-Identifier: GPL-2.0-or-later
"""A command of the operator's, joined to the stream port: on a terminal of its own, or with three pipes."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from snf_image_shared.errors import GuestError, HelperError
from snf_image_shared.shell import LARGEST, Frame, Shell, Terminal, Unpacker, packed, unpacked_size

_ENOUGH = 4 * LARGEST  # bytes that wait for a slow reader before no more is read for him
_END_OF_FILE = b"\x04"  # what a terminal takes for it
_PATIENCE = 30.0  # seconds for what was killed to be gone, and for the node's last word


@dataclass
class _Ends:
    """Our descriptors: where the command's input is written to, None once it is closed, and what its outputs are.

    `given` are the command's own.
    """

    input: int | None
    outputs: dict[int, Frame]
    given: tuple[int, int, int]

    def close_input(self) -> None:
        if self.input is not None and self.input not in self.outputs:
            os.close(self.input)
        self.input = None

    def close(self) -> None:
        self.close_input()
        for fd in self.outputs:
            os.close(fd)
        self.outputs.clear()


@dataclass
class _Flow:
    """What is on its way."""

    to_port: bytearray = field(default_factory=bytearray)
    to_command: bytearray = field(default_factory=bytearray)
    input_ended: bool = False
    is_over: bool = False


class Visit:
    """One command's time in the helper VM. `port` is the stream's descriptor."""

    def __init__(self, port: int, wanted: Shell) -> None:
        os.set_blocking(port, False)
        self._port = port
        self._wanted = wanted
        self._frames = Unpacker()
        self._flow = _Flow()

    def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> int:
        """Run it to its end, and end all that it leaves: its status, as a shell has it. Raises GuestError if late."""
        others = _processes()
        ends = _on_terminal(self._wanted.terminal) if self._wanted.terminal else _on_pipes()
        command = ["setsid", *(["--ctty"] if self._wanted.terminal else []), "--wait", *argv]
        try:
            pid = os.posix_spawnp(
                command[0],
                command,
                dict(environment),
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(ends.given)],
                setsigdef=[signal.SIGPIPE],
            )
        finally:
            for fd in set(ends.given):
                os.close(fd)
        self._flow.to_port += packed(Frame.STARTED)
        try:
            return self._attend(pid, ends, others)
        finally:
            ends.close()

    def say_goodbye(self, status: int) -> None:
        """Tell how it ended, and wait until the node has heard it: what is on its way would be lost with the VM."""
        self._flow.to_port += packed(Frame.ENDED, str(status).encode("ascii"))
        deadline = time.monotonic() + _PATIENCE
        while self._flow.to_port or not self._flow.is_over:
            if time.monotonic() > deadline:
                raise HelperError("the node did not take the command's last words")
            self._move_port(_poll({self._port: self._port_events()}).get(self._port, 0), None)

    def _attend(self, pid: int, ends: _Ends, others: frozenset[int]) -> int:
        """Carry everything to and fro until the command has ended and all that it said has gone."""
        deadline = time.monotonic() + self._wanted.timeout if self._wanted.timeout else None
        ended = os.pidfd_open(pid)
        status, is_late = None, False
        try:
            while status is None or ends.outputs or self._flow.to_port:
                ready = _poll(self._awaited(ends) | ({ended: select.POLLIN} if status is None else {}))
                if ended in ready:
                    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    _end_all_but(others)
                elif status is None and deadline is not None and time.monotonic() > deadline:
                    is_late = True
                    _end_all_but(others)
                elif status is None and self._flow.is_over:
                    _end_all_but(others)
                self._move_port(ready.get(self._port, 0), ends)
                self._move_input(ends, ready)
                self._move_outputs(ends, ready)
        finally:
            os.close(ended)
        if is_late:
            raise GuestError(f"the command took longer than {self._wanted.timeout} seconds and was killed")
        return 128 - status if status < 0 else status

    def _awaited(self, ends: _Ends) -> dict[int, int]:
        events = {self._port: self._port_events()}
        if len(self._flow.to_port) < _ENOUGH:
            events |= dict.fromkeys(ends.outputs, select.POLLIN)
        if self._flow.to_command and ends.input is not None:
            events[ends.input] = events.get(ends.input, 0) | select.POLLOUT
        return events

    def _port_events(self) -> int:
        wanted = select.POLLIN if len(self._flow.to_command) < _ENOUGH else 0
        return wanted | (select.POLLOUT if self._flow.to_port else 0)

    def _move_port(self, ready: int, ends: _Ends | None) -> None:
        with suppress(BlockingIOError):
            if ready & select.POLLOUT:
                del self._flow.to_port[: os.write(self._port, self._flow.to_port[:LARGEST])]
        with suppress(BlockingIOError):
            if ready & select.POLLIN:
                for kind, content in self._frames.feed(os.read(self._port, LARGEST)):
                    self._take(kind, content, ends)

    def _take(self, kind: Frame, content: bytes, ends: _Ends | None) -> None:
        match kind:
            case Frame.INPUT:
                self._flow.to_command += content if ends and ends.input is not None else b""
            case Frame.END_OF_INPUT:
                self._flow.input_ended = True
            case Frame.SIZE:
                if self._wanted.terminal and ends and ends.input is not None:
                    _set_size(ends.input, *unpacked_size(content))
            case Frame.HANG_UP | Frame.GOODBYE:
                self._flow.is_over = True
            case _:
                raise HelperError(f"the node sent a frame {kind!r}, which only the helper sends")

    def _move_input(self, ends: _Ends, ready: Mapping[int, int]) -> None:
        if ends.input is None:
            self._flow.to_command.clear()
            return
        if self._flow.to_command and ready.get(ends.input, 0) & (select.POLLOUT | select.POLLERR):
            try:
                del self._flow.to_command[: os.write(ends.input, self._flow.to_command)]
            except BlockingIOError:
                pass
            except OSError:  # it reads no more
                ends.close_input()
        if self._flow.input_ended and not self._flow.to_command:
            if self._wanted.terminal and ends.input is not None:
                self._flow.to_command += _END_OF_FILE
                self._flow.input_ended = False
            else:
                ends.close_input()

    def _move_outputs(self, ends: _Ends, ready: Mapping[int, int]) -> None:
        for fd in [each for each in ends.outputs if ready.get(each, 0) & ~select.POLLOUT]:
            try:
                chunk = os.read(fd, LARGEST)
            except BlockingIOError:
                continue
            except OSError:  # a terminal that nobody has open any more
                chunk = b""
            if chunk:
                self._flow.to_port += packed(ends.outputs[fd], chunk)
            else:
                if ends.input == fd:
                    ends.input = None
                del ends.outputs[fd]
                os.close(fd)


def _on_terminal(terminal: Terminal) -> _Ends:
    ours, theirs = os.openpty()
    _set_size(ours, terminal.rows, terminal.columns)
    os.set_blocking(ours, False)
    return _Ends(ours, {ours: Frame.OUTPUT}, (theirs, theirs, theirs))


def _on_pipes() -> _Ends:
    read_input, write_input = os.pipe()
    read_output, write_output = os.pipe()
    read_errors, write_errors = os.pipe()
    for fd in (write_input, read_output, read_errors):
        os.set_blocking(fd, False)
    outputs = {read_output: Frame.OUTPUT, read_errors: Frame.ERRORS}
    return _Ends(write_input, outputs, (read_input, write_output, write_errors))


def _set_size(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _poll(events: Mapping[int, int]) -> dict[int, int]:
    """What is ready within a second."""
    poll = select.poll()
    for fd, wanted in events.items():
        poll.register(fd, wanted)
    return dict(poll.poll(1000))


def _processes() -> frozenset[int]:
    return frozenset(int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())


def _end_all_but(others: frozenset[int]) -> None:
    """Kill what came after `others`, and wait until it has let go of what was mounted. Raises GuestError.

    Who is not the first process has neighbours that are none of his business.
    """
    if os.getpid() != 1:
        raise HelperError("only the first program of a helper VM ends what a command leaves")
    deadline = time.monotonic() + _PATIENCE
    while left := [pid for pid in _processes() - others if _is_alive(pid)]:
        if time.monotonic() > deadline:
            raise GuestError("what the command has started cannot be killed; its storage may hang")
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    """Neither a thread of the kernel nor a process that has ended: both have no program."""
    try:
        Path(f"/proc/{pid}/exe").readlink()
    except OSError:
        return False
    return pid != os.getpid()
