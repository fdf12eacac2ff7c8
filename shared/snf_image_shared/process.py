# SPDX-License-Identifier: GPL-2.0-or-later
"""The one way to run another program: an argument list, no shell, closed stdin, a deadline, the C locale.

It never logs its arguments, and secrets do not belong in them: they go through `stdin`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
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
        outcome = (
            f"was killed by signal {-finished.status}"
            if finished.status < 0
            else f"failed with status {finished.status}"
        )
        raise ProcessError(program, outcome, finished.stderr or finished.stdout)
    return finished


def _text(output: bytes) -> str:
    return output.decode("utf-8", errors="replace")
