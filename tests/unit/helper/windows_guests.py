# SPDX-License-Identifier: GPL-2.0-or-later
"""Phony Windows guests as plain directories, and their registry as programs other than ours read it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from phony_windows import PHONY_WINDOWS, PhonyWindows
from snf_image_helper.guest import Guest
from snf_image_helper.system import OsFamily, System
from unit.helper.guest_trees import guest_in

SERVER = PHONY_WINDOWS["phony-windows-server-2022"]
XP = PHONY_WINDOWS["phony-windows-xp"]


def windows_guest(root: Path, phony: PhonyWindows = SERVER) -> Guest:
    """A guest whose C: is laid out in `root`."""
    guest = guest_in(phony.make(root))
    guest.system = System(OsFamily.WINDOWS_LEGACY if phony.legacy else OsFamily.WINDOWS, 2)
    return guest


def hive_file(guest: Guest, name: str) -> Path:
    """The file of a hive, whatever the case."""
    found = [path for path in Path(guest.root).glob("*/[sS]ystem32/config/*") if path.name.upper() == name]
    assert len(found) == 1
    return found[0]


def exported(hive: Path, key: str) -> str:
    """A key and what is below it, as hivexregedit and as reged export it, which are the same but for their heads."""
    by_hivex = _run("hivexregedit", "--export", "--prefix", "HKLM", str(hive), "\\" + key.strip("\\"))
    other = hive.with_name("exported.reg")
    _run("reged", "-x", str(hive), "HKLM", key, str(other))
    by_reged = other.read_text(encoding="latin-1")
    other.unlink()
    assert _keys(by_reged) == _keys(by_hivex), "hivex and reged read different things"
    return by_hivex


def snapshot(root: str) -> dict[str, tuple[int, int]]:
    """Inode and time of change of each file and directory: what a second run must leave as it is."""
    found = {}
    for path in Path(root).rglob("*"):
        status = os.lstat(path)
        found[str(path.relative_to(root))] = status.st_ino, status.st_mtime_ns
    return found


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode in {0, 2}, f"{argv}: {done.stdout}{done.stderr}"  # reged's 2: nothing is changed
    return done.stdout


def _keys(text: str) -> list[str]:
    """The keys, and the names of their values; in the notation of the values the two differ."""
    keys = re.findall(r"^\[(.*)\]\s*$", text, re.MULTILINE)
    return sorted(key.rstrip("\\").casefold() for key in keys)
