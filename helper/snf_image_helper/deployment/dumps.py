# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps of dump(8), restored onto new file systems by restore(8).

It asks nothing: every question is answered with yes, and there is no terminal. It keeps a table of all names in memory,
and lists of directories in files: those lie on the new root, under a name that no dump can know.
"""

from __future__ import annotations

import os
from pathlib import Path

from snf_image_helper.deployment.cell import Cell
from snf_image_helper.deployment.content import Content, Unpacker, unpack_into
from snf_image_helper.reporter import Reporter
from snf_image_shared.errors import GuestError

_TABLE = "restoresymtable"  # for the next dump of a series, which there is none of


def restore(content: Content, cell: Cell, report: Reporter) -> None:
    """Restore the dump of the root; what it has below /boot lands on that file system, if there is one.

    Raises GuestError, ProcessError, OSError.
    """
    _restore(content, cell, "")


def restore_boot(content: Content, cell: Cell, report: Reporter) -> None:
    """Restore the dump of /boot, on its own file system or else on the root. To be called after restore().

    Raises GuestError, ProcessError, OSError.
    """
    boot = cell.unpacked / "boot"
    boot.mkdir(mode=0o755, exist_ok=True)
    if boot.is_symlink():
        raise GuestError("the dump of the root has a link at /boot: there is no place for the dump of /boot")
    _restore(content, cell, "/boot")


def _restore(content: Content, cell: Cell, at: str) -> None:
    place = cell.unpacked / at.lstrip("/")
    scratch = cell.unpacked / f".{os.urandom(12).hex()}"
    scratch.mkdir(mode=0o700)
    try:
        environment = {"TMPDIR": f"{cell.tree}/{scratch.name}"}
        unpack_into(cell, content, Unpacker(("restore", "-r", "-y", "-f", "-"), at, environment))
    finally:
        dates = place.stat()
        (place / _TABLE).unlink(missing_ok=True)
        for left in os.scandir(scratch):
            Path(left.path).unlink()
        scratch.rmdir()
        os.utime(place, ns=(dates.st_atime_ns, dates.st_mtime_ns))
