# SPDX-License-Identifier: GPL-2.0-or-later
"""What a deployment could leave behind on a test's node, which is quiet enough to look at all of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ganeti.node import Node
from leaks import Traces

_PATIENCE = 120.0  # seconds for what was killed to be gone
# Ganeti's own: what it logs, remembers and locks.
_GANETIS = ("var/log/ganeti", "var/lib/ganeti", "run/ganeti", "run/lock")
# The only thing of ours that a deployment may leave, and empty: a directory of what lasts until the next boot.
_OURS = "run/snf-image"
_GANETIS_PROGRAMS = ("/usr/sbin/ganeti-", "/usr/share/ganeti/", "/usr/lib/ganeti/")


def traces(node: Node) -> Traces:
    """Look around: loop devices over the node's files, and no processes of Ganeti's."""
    loops = node.run("losetup", "--all", "--noheadings", "--list", "--output=NAME,BACK-FILE").splitlines()
    return Traces(
        frozenset(Path(f"/proc/{node.pid}/mountinfo").read_text().splitlines()),
        frozenset(loop for loop in loops if f" {loop_directory(node)}/" in loop),
        files(node),
        frozenset(program for program in programs(node).values() if not _is_ganetis(program)),
    )


def loop_directory(node: Node) -> str:
    """Where the files behind its loop devices lie. Every node sees all others' devices, and these names with them."""
    return f"/srv/ganeti/volumes-{node.own_word}"


def check_nothing_left(node: Node, before: Traces) -> None:
    """Fail if anything is there that was not there `before`, and stays."""
    deadline = time.monotonic() + _PATIENCE
    while (left := traces(node).beyond(before)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []


def programs(node: Node) -> dict[int, str]:
    """Every process by its number there: its arguments, a blank between them; a zombie has none left."""
    found = {}
    for process in node.path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                if words := (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0"):
                    found[int(process.name)] = b" ".join(words).decode("utf-8", "replace")
    return {number: words for number, words in found.items() if words}


def _is_ganetis(program: str) -> bool:
    """One of its daemons, or of the processes that it makes for a job. Scripts of an OS lie elsewhere."""
    words = program.split(" ")[:3]
    return any(word.startswith(_GANETIS_PROGRAMS) for word in words) and "/os/" not in program


def files(node: Node) -> frozenset[str]:
    """Every file and directory but Ganeti's own, without the first slash."""
    return frozenset(_files(node))


def _files(node: Node) -> Iterator[str]:
    """Every file of the root and of the places in memory, but for Ganeti's own."""
    for top in (node.root, node.path("/run"), node.path("/dev/shm")):
        place = "" if top == node.root else top.relative_to(node.path("/")).as_posix()
        for directory, names, files in os.walk(top):
            inside = Path(place, Path(directory).relative_to(top))
            names[:] = [name for name in names if str(inside / name) not in _GANETIS]
            yield from (str(inside / name) for name in (*names, *files) if str(inside / name) != _OURS)
