# SPDX-License-Identifier: GPL-2.0-or-later
"""The one way to run another program: an argument list, no shell, closed stdin, a deadline, the C locale.

It never logs its arguments, and secrets do not belong in them: they go through `stdin`.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from snf_image_shared.errors import SnfImageError

SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_ERROR_TAIL = 10
_KEPT = 4 << 20  # bytes of what a program says that may say anything
_GRACE = 90.0  # seconds that a program has to end by itself


class ProcessError(SnfImageError):
    """A program failed. The text is the program's name, how it ended, and the last line of its standard error."""

    def __init__(self, program: str, outcome: str, stderr: str = "") -> None:
        lines = [line for line in stderr.splitlines() if line.strip()]
        self.program = program
        self.outcome = outcome
        self.stderr_tail = tuple(lines[-_ERROR_TAIL:])
        super().__init__(f"{program} {outcome}" + (f": {lines[-1].strip()}" if lines else ""))


@dataclass(frozen=True)
class Finished:
    """How a program ended: exit status, and both outputs decoded as UTF-8 with replacement."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Limits:
    """`timeout` is in seconds; `accept` are the exit statuses that are no error; `pass_fds` keep their own numbers.

    With `stdout`, an open file, the standard output goes there byte for byte, and Finished has none of it.
    """

    timeout: float = 120.0
    accept: frozenset[int] = frozenset({0})
    pass_fds: Iterable[int] = ()
    stdout: int | None = None


def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    env: dict[str, str] | None = None,
    limits: Limits | None = None,
) -> Finished:
    """Run `argv` to its end. `env` is added to PATH and LC_ALL=C, which are all the environment there is.

    Raises ProcessError when the program cannot be started, outlives the deadline (it is killed),
    or ends with a status outside `limits.accept`.
    """
    limits = limits or Limits()
    program = Path(argv[0]).name
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            stdout=subprocess.PIPE if limits.stdout is None else limits.stdout,
            stderr=subprocess.PIPE,
            env={"PATH": SEARCH_PATH, "LC_ALL": "C", **(env or {})},
            timeout=limits.timeout,
            pass_fds=tuple(limits.pass_fds),
            check=False,
        )
    except FileNotFoundError as error:
        raise ProcessError(program, "is not installed") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in an argument, which a tenant may have written
        reason = error.strerror if isinstance(error, OSError) else error
        raise ProcessError(program, f"cannot be started: {reason}") from error
    except subprocess.TimeoutExpired as error:
        raise ProcessError(program, f"did not finish within {limits.timeout:g} seconds") from error
    finished = Finished(done.returncode, _text(done.stdout or b""), _text(done.stderr))
    if finished.status not in limits.accept:
        raise ProcessError(program, outcome(finished.status), finished.stderr or finished.stdout)
    return finished


def run_attached(argv: Sequence[str], *, env: dict[str, str] | None = None) -> int:
    """Run a program on our own input and outputs, for a person: its exit status, as a shell has it.

    Raises ProcessError when it cannot be started.
    """
    try:
        done = subprocess.run(list(argv), env={"PATH": SEARCH_PATH, "LC_ALL": "C", **(env or {})}, check=False)
    except OSError as error:
        raise ProcessError(Path(argv[0]).name, f"cannot be started: {error.strerror}") from error
    return 128 - done.returncode if done.returncode < 0 else done.returncode


def run_on_line(argv: Sequence[str], hear: Callable[[bytes], None], limits: Limits) -> Finished:
    """Run a program that ends when its standard input does: at the latest when we end, however that is.

    It is in a session of its own, so that a key at our terminal reaches us alone: then its input ends, and it has time
    to end by itself. `hear` gets what it says on standard error, at once; Finished has none of it, and any status.

    Raises ProcessError when it cannot be started, or outlives the deadline.
    """
    program = Path(argv[0]).name
    try:
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": SEARCH_PATH, "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as error:
        raise ProcessError(program, f"cannot be started: {error.strerror}") from error
    said = bytearray()
    with child:
        try:
            _follow(child, said, hear, limits.timeout)
        except BaseException as reason:
            if child.stdin:
                child.stdin.close()
            try:
                _follow(child, said, hear, _GRACE)
            except TimeoutError:
                hear(b"[WARNING] %s does not end, and is killed: what it has begun may go on\n" % program.encode())
            finally:
                _kill(child)
            if isinstance(reason, TimeoutError):
                raise ProcessError(program, f"did not finish within {limits.timeout:g} seconds") from reason
            raise
    return Finished(child.returncode, _text(bytes(said)), "")


def run_capped(argv: Sequence[str], *, name: str, env: dict[str, str], limits: Limits) -> Finished:
    """As run(), for a stranger's program: it has nothing to read, and both its outputs are `stdout`, the end of them.

    `name` is what messages call it. What it leaves running is not waited for; who starts it sees to it that nothing of
    it lives on. No signal is blocked for it, as all are for us once a disk boots.
    """
    deadline = time.monotonic() + limits.timeout
    try:
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": SEARCH_PATH, "LC_ALL": "C", **env},
            # Only where it is needed, which is after all threads have ended.
            preexec_fn=_unblock_signals if signal.pthread_sigmask(signal.SIG_BLOCK, ()) else None,  # noqa: PLW1509
        )
    except (OSError, ValueError) as error:
        raise ProcessError(name, f"cannot be started: {error}") from error
    said = bytearray()
    with child:
        try:
            _listen(child, deadline, said)
            child.wait(max(0.1, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            raise ProcessError(name, f"did not finish within {limits.timeout:g} seconds", _text(bytes(said))) from error
        finally:
            _kill(child)
    finished = Finished(child.returncode, _text(bytes(said[-_KEPT:])), "")
    if finished.status not in limits.accept:
        raise ProcessError(name, outcome(finished.status), finished.stdout)
    return finished


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _listen(child: subprocess.Popen[bytes], deadline: float, said: bytearray) -> None:
    """Keep the last bytes of all that it says, to its end. Raises TimeoutError."""
    pipe = child.stdout.fileno() if child.stdout else -1
    ended = os.pidfd_open(child.pid)
    try:
        while True:
            left = deadline - time.monotonic()
            ready = select.select([pipe, ended], [], [], max(0.0, left))[0]
            if left <= 0 or not ready:
                raise TimeoutError
            # A program that it has left running may have its output for ever.
            piece = os.read(pipe, 1 << 16) if pipe in ready else b""
            if not piece:
                return
            said += piece
            if len(said) > 2 * _KEPT:
                del said[:-_KEPT]
    finally:
        os.close(ended)


def _follow(child: subprocess.Popen[bytes], said: bytearray, hear: Callable[[bytes], None], patience: float) -> None:
    """Take what it says until it has ended. Raises TimeoutError."""
    deadline = time.monotonic() + patience
    outputs = {pipe.fileno() for pipe in (child.stdout, child.stderr) if pipe}
    while outputs:
        ready = select.select(outputs, [], [], max(0.0, deadline - time.monotonic()))[0]
        if not ready:
            raise TimeoutError
        for fd in ready:
            piece = os.read(fd, 1 << 16)
            if not piece:
                outputs.discard(fd)
            elif child.stdout and fd == child.stdout.fileno():
                said += piece
            else:
                hear(piece)
    try:
        child.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise TimeoutError from error


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.kill()
        child.wait()
    if child.stdout:
        child.stdout.close()


def outcome(status: int) -> str:
    """The status of subprocess, which has signals below zero, in words."""
    return f"was killed by signal {-status}" if status < 0 else f"failed with status {status}"


def _text(output: bytes) -> str:
    return output.decode("utf-8", errors="replace")
