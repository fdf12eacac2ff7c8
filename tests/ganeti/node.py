# SPDX-License-Identifier: GPL-2.0-or-later
"""One Debian machine in namespaces of its own: nothing it does is seen outside, and nothing of it outlives the test.

Its root is a directory below the cache. It ends when we do, however we end; what a killed run left there is removed by
the next one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from images.ganeti_node import ganeti_node, unpack
from snf_image_shared.process import Finished, Limits, run

_FIRST_PROCESS = Path(__file__).with_name("first_process.py")
_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")
_PREFIX = ".running-node-"
_ANY_STATUS = frozenset(range(256))
_START_SECONDS = _END_SECONDS = 120.0
_SECONDS = 1800.0


class NodeError(Exception):
    """The node did not start, or a command of its own failed; the text has all that was said."""


@dataclass(frozen=True)
class Node:
    """`root` is its file system as seen from here, without its mounts; `pid` is its first process."""

    root: Path
    pid: int

    @property
    def own_word(self) -> str:
        """What no other node on this machine is called."""
        return self.root.parent.name.removeprefix(_PREFIX)

    def try_(self, *argv: str, stdin: bytes = b"") -> Finished:
        """Run a program in the node, whatever its status. Raises ProcessError when it takes too long."""
        return run(self.command(*argv), stdin=stdin, limits=Limits(_SECONDS, _ANY_STATUS))

    def run(self, *argv: str) -> str:
        """Run a program in the node and give what it printed. Raises NodeError."""
        ended = self.try_(*argv)
        if ended.status:
            raise NodeError(f"{' '.join(argv)} ended with {ended.status}:\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def command(self, *argv: str) -> list[str]:
        """The argument list that runs a program in the node from here."""
        return ["nsenter", f"--target={self.pid}", *_NAMESPACES, "--", *argv]

    def path(self, inside: str) -> Path:
        """Where a file of the node is seen from here, its mounts included, as long as it runs."""
        return Path(f"/proc/{self.pid}/root", inside.removeprefix("/"))

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        """Make a file in the node, with the directories above it."""
        path = self.root / inside.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)


@contextmanager
def running_node(suite: str, cache: Path, hostname: str) -> Iterator[Node]:
    """A node of the Debian `suite`, without network. Raises NodeError, ProcessError."""
    _remove_left_over(cache)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=cache))
    held = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        root = directory / "root"
        root.mkdir()
        unpack(ganeti_node(suite, cache), root)
        with _first_process(root, hostname) as pid:
            yield Node(root, pid)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(held)


@contextmanager
def _first_process(root: Path, hostname: str) -> Iterator[int]:
    """Its number as seen from here. It dies with this process, and takes everything in its namespaces with it."""
    unshare = [
        "setpriv",
        "--pdeathsig=KILL",
        "unshare",
        *_NAMESPACES,
        "--propagation=private",
        "--fork",
        "--kill-child",
    ]
    process = subprocess.Popen(
        [*unshare, "/usr/bin/python3", "-I", str(_FIRST_PROCESS), str(root), hostname],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for us: we then end it in order
    )
    try:
        if not process.stdout or process.stdout.readline() != "ready\n":
            process.kill()
            raise NodeError(f"the node did not start:\n{process.communicate()[1]}")
        yield int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_END_SECONDS)
        process.kill()
        process.wait()


def _remove_left_over(cache: Path) -> None:
    for directory in cache.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            held = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory)
            finally:
                os.close(held)
