# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that run side by side, each reading what the one before it writes: a shell's pipeline without the shell."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from snf_image_shared.process import SEARCH_PATH, Finished, Limits, ProcessError, outcome

_KEPT = 64 << 10  # bytes of a program's first and of its last words
_LINE = 4096  # bytes of an unfinished line that are looked at together with what follows


class PipelineError(ProcessError):
    """One of the programs failed: `said` is all that was kept of its standard error, by lines."""

    def __init__(self, program: str, outcome: str, said: str = "") -> None:
        super().__init__(program, outcome, said)
        self.said = tuple(line for line in said.splitlines() if line.strip())


@dataclass
class _Said:
    """Standard error as it comes: a million complaints take no more memory than a few."""

    first: bytearray = field(default_factory=bytearray)
    last: bytearray = field(default_factory=bytearray)
    rest: bytes = b""

    def add(self, piece: bytes) -> bytes:
        """Keep it. The answer are the lines that it has completed."""
        room = _KEPT - len(self.first)
        self.first += piece[:room]
        self.last += piece[room:] if room < len(piece) else b""
        if len(self.last) > 2 * _KEPT:
            del self.last[:-_KEPT]
        lines, newline, rest = (self.rest + piece).rpartition(b"\n")
        self.rest = rest[-_LINE:]
        return lines + newline

    def text(self) -> str:
        """First and last words, with a line of dots where some are missing."""
        cut = len(self.last) > _KEPT
        between = b"\n...\n" if cut else b""
        return (bytes(self.first) + between + bytes(self.last[-_KEPT:])).decode("utf-8", errors="replace")


@dataclass
class _Link:
    """One of the programs."""

    program: str
    child: subprocess.Popen[bytes]
    ear: int
    said: _Said = field(default_factory=_Said)

    def end(self) -> None:
        """Kill it if it still runs, and let go of its pipes."""
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        if self.child.stdout:
            self.child.stdout.close()
        os.close(self.ear)


def chain(
    commands: Sequence[Sequence[str]],
    stdin: int,
    limits: Limits,
    *,
    hopeless: re.Pattern[str] | None = None,
) -> tuple[Finished, ...]:
    """Run them; `stdin` is what the first one reads, and the last one writes to `limits.stdout`.

    Without that its output counts as said. The deadline is that of all, and none of them outlives the call. Of what
    each says on standard error the first and the last 64 KiB are kept. A line in which `hopeless` is found ends all of
    them at once, and is why. Raises PipelineError as run() does, for the first that fails by itself: one that dies of
    another's end is not to blame.
    """
    deadline = time.monotonic() + limits.timeout
    with ExitStack() as stack:
        links: list[_Link] = []
        source = stdin
        for number, argv in enumerate(commands):
            sink = subprocess.PIPE if number < len(commands) - 1 else limits.stdout
            link = _started(argv, source, sink, limits)
            stack.callback(link.end)
            if links and links[-1].child.stdout:
                links[-1].child.stdout.close()  # the next one has it now
            if link.child.stdout:
                source = link.child.stdout.fileno()
            links.append(link)
        if not _followed(links, deadline, hopeless):
            running = next(link for link in links if link.child.poll() is None)
            raise PipelineError(running.program, f"did not finish within {limits.timeout:g} seconds")
        _judge(links, limits)
        return tuple(Finished(link.child.returncode, "", link.said.text()) for link in links)


def _started(argv: Sequence[str], stdin: int, stdout: int | None, limits: Limits) -> _Link:
    program = Path(argv[0]).name
    ear, mouth = os.pipe()
    os.set_blocking(ear, False)
    try:
        child = subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=mouth if stdout is None else stdout,
            stderr=mouth,
            env={"PATH": SEARCH_PATH, "LC_ALL": "C"},
            pass_fds=tuple(limits.pass_fds),
        )
    except (OSError, ValueError) as error:
        os.close(ear)
        if isinstance(error, FileNotFoundError):
            raise PipelineError(program, "is not installed") from error
        reason = error.strerror if isinstance(error, OSError) else error
        raise PipelineError(program, f"cannot be started: {reason}") from error
    finally:
        os.close(mouth)
    return _Link(program, child, ear)


def _followed(links: Sequence[_Link], deadline: float, hopeless: re.Pattern[str] | None) -> bool:
    """Listen until all have ended; False if the deadline comes first. Raises PipelineError for a hopeless line."""
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for link in links:
            pidfd = os.pidfd_open(link.child.pid)
            stack.callback(os.close, pidfd)
            selector.register(pidfd, selectors.EVENT_READ, (link, True))
            selector.register(link.ear, selectors.EVENT_READ, (link, False))
        running = len(links)
        while running:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready and time.monotonic() >= deadline:
                return False
            for key, _ in ready:
                link, has_ended = key.data
                if not _listen(link, hopeless) or has_ended:
                    selector.unregister(key.fileobj)
                running -= has_ended
        return True


def _listen(link: _Link, hopeless: re.Pattern[str] | None) -> bool:
    """Take what it has said by now; False at the end of it."""
    while True:
        try:
            piece = os.read(link.ear, 1 << 16)
        except BlockingIOError:
            return True
        if not piece:
            return False
        lines = link.said.add(piece).decode("utf-8", errors="replace")
        for line in lines.splitlines() if hopeless else ():
            if hopeless and hopeless.search(line):
                raise PipelineError(link.program, "gave up", line)


def _judge(links: Sequence[_Link], limits: Limits) -> None:
    for link in links:
        link.child.wait()
    failed = [link for link in links if link.child.returncode not in limits.accept]
    # Some end without a word, and not by SIGPIPE, when nobody reads on.
    own = [link for link in failed if link.child.returncode != -signal.SIGPIPE]
    for link in ([link for link in own if link.said.first.strip()] or own or failed)[:1]:
        raise PipelineError(link.program, outcome(link.child.returncode), link.said.text())
