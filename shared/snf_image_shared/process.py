# SPDX-License-Identifier: GPL-2.0-or-later
"""The one way to run another program: an argument list, no shell, closed stdin, a deadline, the C locale.

It never logs its arguments, and secrets do not belong in them: they go through `stdin`.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from snf_image_shared.errors import SnfImageError

SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_ERROR_TAIL = 10


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
        raise ProcessError(program, _outcome(finished.status), finished.stderr or finished.stdout)
    return finished


def chain(commands: Sequence[Sequence[str]], stdin: int, limits: Limits) -> None:
    """Run programs side by side, each with the output of the one before as input; `stdin` is the first one's.

    The last one's standard output goes to `limits.stdout`, or nowhere. The deadline is that of all. Raises ProcessError
    as run() does, for the first that fails by itself: one that dies of another's end (SIGPIPE) is not to blame.
    """
    deadline = time.monotonic() + limits.timeout
    with ExitStack() as stack:
        running: list[tuple[str, subprocess.Popen[bytes], tempfile._TemporaryFileWrapper[bytes]]] = []
        source: int = stdin
        for number, argv in enumerate(commands):
            last = number == len(commands) - 1
            sink = subprocess.PIPE if not last else (subprocess.DEVNULL if limits.stdout is None else limits.stdout)
            said = stack.enter_context(tempfile.NamedTemporaryFile())
            child = _started(argv, source, sink, said.fileno(), limits)
            if number:
                running[-1][1].stdout.close()  # type: ignore[union-attr]  # the child has it now
            stack.callback(_kill, child)
            running.append((Path(argv[0]).name, child, said))
            source = child.stdout.fileno() if child.stdout else -1
        for program, child, _ in running:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired as error:
                raise ProcessError(program, f"did not finish within {limits.timeout:g} seconds") from error
        failed = [each for each in running if each[1].returncode not in limits.accept]
        blamed = [each for each in failed if each[1].returncode != -signal.SIGPIPE] or failed
        for program, child, said in blamed[:1]:
            said.seek(0)
            raise ProcessError(program, _outcome(child.returncode), _text(said.read()))


def _started(argv: Sequence[str], stdin: int, stdout: int, stderr: int, limits: Limits) -> subprocess.Popen[bytes]:
    program = Path(argv[0]).name
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={"PATH": SEARCH_PATH, "LC_ALL": "C"},
            pass_fds=tuple(limits.pass_fds),
        )
    except FileNotFoundError as error:
        raise ProcessError(program, "is not installed") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ProcessError(program, f"cannot be started: {reason}") from error


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.kill()
        child.wait()
    if child.stdout:
        child.stdout.close()


def _outcome(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"failed with status {status}"


def _text(output: bytes) -> str:
    return output.decode("utf-8", errors="replace")
