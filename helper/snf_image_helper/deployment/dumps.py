# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps of dump(8), restored onto new file systems by restore(8).

It asks nothing: every question is answered with yes, and there is no terminal. It keeps a table of all names in memory,
and lists of directories in files: those lie on the new root, under a name that no dump can know.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from snf_image_helper.deployment.cell import Cell
from snf_image_helper.deployment.chown_filter import under_chown_filter
from snf_image_helper.deployment.content import Content, Unpacker, reason, unpack_into, warn_of
from snf_image_helper.reporter import Reporter
from snf_image_shared.errors import GuestError

_TABLE = "restoresymtable"  # for the next dump of a series, which there is none of
_RESTORE = Unpacker(
    ("restore", "-r", "-y", "-f", "-"),
    noise=re.compile(
        r"^restore: (?:cannot open /dev/tty|\./(?:lost\+found|boot): File exists)|^Dump tape is compressed"
    ),
    cures=(
        (re.compile(r" \./boot(?:->.*|): .*(?:File exists|directory)"), "deploy it without a /boot partition"),
        (
            re.compile("End-of-input|[Rr]ead error|file header|Changing volumes|Insufficient data"),
            "it is cut short, or only one volume of several",
        ),
        (re.compile(""), "it is damaged, or was made of a file system in use: make the dump again"),
    ),
)
# It ends well also where half of a dump is missing, so what it says is what counts, but for these.
_LESSER = re.compile(r"xattr|\bEA\b|skipped socket|zero length symbolic link")
# restore does not read what follows the end of a dump; who wrote it, and what comes next, are not to be kept waiting.
_TO_THE_END = ("tee", "--output-error=warn-nopipe", "/dev/null")


def restore(content: Content, cell: Cell, report: Reporter) -> None:
    """Restore the dump of the root; what it has below /boot lands on that file system, if there is one.

    Raises GuestError, ProcessError, OSError.
    """
    _restore(content, cell, report, "")


def restore_boot(content: Content, cell: Cell, report: Reporter) -> None:
    """Restore the dump of /boot, on its own file system or else on the root. To be called after restore().

    Raises GuestError, ProcessError, OSError.
    """
    boot = cell.unpacked / "boot"
    boot.mkdir(mode=0o755, exist_ok=True)
    if boot.is_symlink():
        raise GuestError("the dump of the root has a link at /boot: there is no place for the dump of /boot")
    _restore(content, cell, report, "/boot")


def _restore(content: Content, cell: Cell, report: Reporter, at: str) -> None:
    place = cell.unpacked / at.lstrip("/")
    found = place / "lost+found"
    had_found = found.is_dir()
    scratch = cell.unpacked / f".{os.urandom(12).hex()}"
    scratch.mkdir(mode=0o700)
    try:
        environment = {"TMPDIR": f"{cell.tree}/{scratch.name}"}
        with under_chown_filter() as filtered:
            unpacker = replace(_RESTORE, at=at, under=filtered, env=environment)
            said = unpack_into(cell, content, unpacker, _TO_THE_END)
        if not had_found:
            with suppress(OSError):  # it is not there, or has something in it
                found.rmdir()
    finally:
        dates = place.stat()
        (place / _TABLE).unlink(missing_ok=True)
        for left in os.scandir(scratch):
            Path(left.path).unlink()
        scratch.rmdir()
        os.utime(place, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    _judge(content, said, report)


def _judge(content: Content, said: Sequence[str], report: Reporter) -> None:
    faults = [line for line in said if not _LESSER.search(line)]
    if faults:
        worst = [line for line in faults if "End-of-input" in line] or faults
        raise GuestError(f"{content.name} cannot be unpacked: {reason(worst, _RESTORE)}")
    warn_of(content, said, report)
