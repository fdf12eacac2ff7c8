# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests of the BSD families: phony ones laid out, or a few files."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from phony_guests import BSD
from snf_image_helper.guest import Guest
from snf_image_helper.system import OsFamily, System
from unit.helper.guest_trees import guest_in

FAMILIES = (OsFamily.FREEBSD, OsFamily.NETBSD, OsFamily.OPENBSD)


def family_of(name: str) -> OsFamily:
    """The family of a phony guest."""
    return OsFamily(name.split("-")[1])


def phony_bsd(root: Path, name: str) -> Guest:
    """A phony BSD laid out below `root`."""
    return bsd_with(BSD[name].make(root / "guest"), family_of(name))


def bsd_with(root: Path, family: OsFamily, files: Mapping[str, str | bytes] | None = None) -> Guest:
    """A guest of the family whose root is `root`, with these files besides."""
    guest = guest_in(root, files)
    guest.system = System(family, 1)
    return guest


def files_of(guest: Guest) -> dict[str, tuple[object, ...]]:
    """All files with what a write would change: content, owner, mode, i-node, time."""
    found: dict[str, tuple[object, ...]] = {}
    for path in Path(guest.root).rglob("*"):
        if path.is_file() or path.is_symlink():
            about = path.lstat()
            content: object = path.readlink() if path.is_symlink() else path.read_bytes()
            owned = (about.st_mode, about.st_uid, about.st_gid)
            found[str(path.relative_to(guest.root))] = (content, *owned, about.st_ino, about.st_mtime_ns)
    return found


_RC_SUBR = 'load_rc_config() { :; }\nrun_rc_command() { eval "$start_cmd"; }\n_rc_subr_loaded=:\n'


def run_script(guest: Guest, path: str, commands: Mapping[str, str]) -> str:
    """Run a script of the guest as its rc would, /etc being the guest's and `commands` all there is besides the usual.

    What it said.
    """
    root = Path(guest.root)
    bin_directory = root.parent / "commands"
    bin_directory.mkdir(exist_ok=True)
    for name, text in commands.items():
        (bin_directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (bin_directory / name).chmod(0o755)
    script = (root / path.lstrip("/")).read_text().replace("/etc/", f"{root}/etc/")
    script = script.replace("$_rc_subr_loaded . ", ". ")
    (root / "etc/rc.subr").write_text(_RC_SUBR)
    done = subprocess.run(
        ["sh", "-s", "start"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{bin_directory}:/usr/bin:/bin"},
        timeout=30,
    )
    assert not done.stderr, done.stderr
    return done.stdout
