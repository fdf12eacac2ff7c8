# SPDX-License-Identifier: GPL-2.0-or-later
"""Running processes, as tests look for them in /proc. One that has ended meanwhile has no words and no children."""

from __future__ import annotations

from pathlib import Path


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> list[int]:
    """All descendants of a process."""
    try:
        found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [*found, *(further for child in found for further in children(child))]
