# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the administrator's own programs lie, and which of them may be run: those that nobody but root can change.

Nothing is run here, and nothing of a program is read.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Set
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def os_directory(root: Path) -> Path:
    """The OS definition as Ganeti sees it: in the prefix of this installation, wherever that is (install.py)."""
    library = Path(__file__).resolve().parents[2]
    prefix = library.parents[1] if library.parts[-2:] == ("lib", "snf-image") else root / "usr"
    return prefix / "share/ganeti/os/snf-image"


def find_programs(directory: Path, kind: str, taken: Set[str]) -> tuple[dict[str, Path], list[str]]:
    """Each program in `directory`/`kind` by its name, which is none of `taken`; a warning for all that is passed over.

    An entry is a program, or a directory with a program of the same name in it.
    """
    place = directory / kind
    try:
        entries = sorted(place.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}, []
    except OSError as error:
        return {}, [f"{place}: cannot be read: {error.strerror}; no program in it is run"]
    if doubt := entries and (_doubt(directory) or _doubt(place)):
        return {}, [f"{doubt}, so no program in it is run"]
    found, warnings = dict[str, Path](), list[str]()
    for entry in entries:
        path = entry / entry.name if entry.is_dir() else entry
        if doubt := _refusal(entry.name, path, taken):
            warnings.append(f"{doubt}; it is ignored")
        else:
            found[entry.name] = path
    return found, warnings


def _refusal(name: str, path: Path, taken: Set[str]) -> str | None:
    """Why the program is not run."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
        return f"{str(path)!r}: only letters, digits and _ . + - may be in a program's name"
    if name in taken:
        return f"{path}: {name!r} is the name of what is built in"
    try:
        is_program = path.is_file() and os.access(path, os.X_OK)
        real = path.resolve()
    except OSError as error:
        return f"{path}: cannot be found: {error.strerror}"
    if not is_program:
        return f"{path}: is not an executable file"
    return _doubt(path.parent) or _doubt(real.parent) or _doubt(real)


def _doubt(path: Path) -> str | None:
    """Why somebody other than root could have had a hand in it."""
    try:
        status = path.stat()
    except OSError as error:
        return f"{path}: cannot be examined: {error.strerror}"
    if status.st_uid:
        return f"{path}: belongs to another user than root"
    if status.st_mode & _OTHERS_WRITE:
        return f"{path}: can be written by others than root"
    return None
