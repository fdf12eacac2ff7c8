# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test wants to know of a deployed guest, read from its disk at once: the next step changes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from images.inspection import Tree, exists, read_file

ROOT_PARTITION = 1
_INTERFACES = "/etc/network/interfaces"


@dataclass(frozen=True)
class Guest:
    """`shadow` is root's line of /etc/shadow, in fields; `greeting` is None without a file of that name."""

    hostname: str
    hosts: str
    shadow: tuple[str, ...]
    interfaces: str
    greeting: bytes | None


def read_guest(disk: Path, greeting: str = "/etc/greeting") -> Guest:
    """Read it from the small image's root file system. `greeting` is the path of an injected file."""
    tree = Tree(disk, ROOT_PARTITION)

    def text(path: str) -> str:
        return read_file(tree, path).decode()

    rows = [tuple(line.split(":")) for line in text("/etc/shadow").splitlines()]
    return Guest(
        text("/etc/hostname").strip(),
        text("/etc/hosts"),
        next(row for row in rows if row[0] == "root"),
        text(_INTERFACES),
        read_file(tree, greeting) if exists(tree, greeting) else None,
    )
