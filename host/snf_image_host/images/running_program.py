# SPDX-License-Identifier: GPL-2.0-or-later
"""A program of the administrator's own while it runs, and the certain end of it and of everything that it started."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import IO

from snf_image_host.configuration.backends import Backend
from snf_image_host.progress import printable
from snf_image_host.vm.jail import Jail, check_programs
from snf_image_host.vm.leash import leash
from snf_image_shared.errors import ImageError
from snf_image_shared.process import SEARCH_PATH

# Root's own view of the node, but for a name space of processes: whatever the program leaves behind ends with it.
_AS_ROOT = ("bwrap", "--dev-bind", "/", "/", "--proc", "/proc", "--unshare-pid", "--die-with-parent")
_CAPABLE = ("--cap-add", "ALL")
_PIPE = 1 << 20  # bytes the kernel buffers, where the limit of the host allows
_MOST_LINES = 100  # of standard error that are passed on
_LONGEST_LINE = 500  # bytes
_PIECE = 64 << 10  # bytes read at once


class SilentError(Exception):
    """The program took too long."""


@contextmanager
def running(
    program: Backend, arguments: Sequence[str], say: Callable[[str], None] | None = None
) -> Iterator[RunningProgram]:
    """Run the program for the length of the block. To be entered before any thread is started, because it forks.

    It runs as the user that its configuration names, with this node's files read-only, or else as root. `say` gets the
    lines of its standard error. Raises ImageError if it cannot be started, ConfigurationError for the user.
    """
    argv = _argv(program, arguments)
    with leash() as held, ExitStack() as stack:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": SEARCH_PATH, "LC_ALL": "C"},
                cwd="/",
                bufsize=0,
                pass_fds=[held],
                start_new_session=True,
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL in an argument
            reason = error.strerror if isinstance(error, OSError) else error
            raise ImageError(f"the {program} cannot be started: {reason}") from error
        stack.callback(_end, process)
        yield RunningProgram(program, process, say)


class RunningProgram:
    """A program with both its outputs. Not for several threads at once. Deadlines are on the monotonic clock."""

    def __init__(self, program: Backend, process: subprocess.Popen[bytes], say: Callable[[str], None] | None) -> None:
        self.program = program
        self._process = process
        self._output, self._errors = _pipe(process.stdout), _pipe(process.stderr)
        self._poll = select.poll()
        for pipe in (self._output, self._errors):
            self._poll.register(pipe, select.POLLIN)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, _PIPE)
        self._say = say
        self._told = 0
        self._line = b""  # the unfinished one, or the last
        self._last = ""

    def readinto(self, view: memoryview, deadline: float) -> int:
        """Some bytes of the standard output, 0 at its end. Raises SilentError if there are none in time."""
        while (left := deadline - time.monotonic()) > 0:
            ready = {fd for fd, _ in self._poll.poll(left * 1000)}
            if self._errors.fileno() in ready:
                self._read_errors()
            if self._output.fileno() in ready and (count := self._output.readinto(view)) is not None:
                if not count:
                    self._poll.unregister(self._output)
                return count
        raise SilentError

    def check_success(self, deadline: float) -> None:
        """Wait for its end, after that of its output. Raises SilentError, or ImageError if it failed."""
        with contextlib.suppress(ProcessLookupError):
            ended = os.pidfd_open(self._process.pid)
            try:
                self._poll.register(ended, select.POLLIN)
                while (left := deadline - time.monotonic()) > 0:
                    ready = {fd for fd, _ in self._poll.poll(left * 1000)}
                    if self._errors.fileno() in ready:
                        self._read_errors()
                    elif ended in ready:
                        break
            finally:
                os.close(ended)
        status = self._process.poll()
        if status is None:
            raise SilentError
        self._tell(self._line)
        if status:
            raise ImageError(f"the {self.program} failed with status {status}{self._last and f': {self._last}'}")

    def _read_errors(self) -> None:
        piece = self._errors.read(_PIECE)
        if piece is None:
            return
        if not piece:
            self._poll.unregister(self._errors)
            return
        *lines, self._line = (self._line + piece).split(b"\n")
        self._line = self._line[:_LONGEST_LINE]
        for line in lines:
            self._tell(line)

    def _tell(self, line: bytes) -> None:
        text = printable(line[:_LONGEST_LINE].decode("utf-8", "replace").strip())
        if not text:
            return
        self._last = text
        self._told += 1
        if self._say and self._told <= _MOST_LINES:
            self._say(f"{self.program.name}: {text}" if self._told < _MOST_LINES else f"{self.program.name}: ...")


def _argv(program: Backend, arguments: Sequence[str]) -> list[str]:
    check_programs("bwrap", "setpriv")
    command = [str(program.program), *arguments]
    if not program.user:
        return [*_AS_ROOT, *_CAPABLE, "--", *command]
    return Jail(program.user, binds=(Path("/"),), has_network=True, setting=str(program.user_file)).argv(command)


def _pipe(file: IO[bytes] | None) -> FileIO:
    assert isinstance(file, FileIO)  # noqa: S101 - PIPE without a buffer
    os.set_blocking(file.fileno(), False)
    return file


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()
