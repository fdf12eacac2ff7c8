# SPDX-License-Identifier: GPL-2.0-or-later
"""An archive as it comes, led through programs that unpack it; and what is said when they cannot."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper.deployment.cell import Cell
from snf_image_shared.errors import GuestError
from snf_image_shared.pipeline import chain
from snf_image_shared.process import Limits, ProcessError

_PATIENCE = 24 * 3600.0  # seconds: the host's deadline is the one that counts
# Not of an extended attribute: those have a limit of their own, of which the kernel says the same.
_FULL = re.compile(r"^(?!.*(?:attribute|ACL)).*No space left on device")
_MIB = 1 << 20


@dataclass(frozen=True)
class Content:
    """What is to be unpacked: `length` bytes from where the descriptor stands, or all that comes if that is None.

    `name` is for messages; whoever opened the descriptor closes it.
    """

    name: str
    fd: int
    length: int | None = None


def unpack_into(content: Content, commands: Sequence[Sequence[str]], cell: Cell) -> tuple[str, ...]:
    """Run the programs of which the last one unpacks. The answer is what that said, by lines.

    Raises GuestError when a file system is full, ProcessError.
    """
    # Behind the last byte of a file a device goes on with zeros.
    only = [] if content.length is None else [["head", "-c", str(content.length)]]
    try:
        done = chain([*only, *commands], content.fd, Limits(timeout=_PATIENCE), hopeless=_FULL)
    except ProcessError as error:
        if any(_FULL.search(line) for line in error.stderr_tail):
            raise GuestError(f"{content.name} does not fit: {_fullest(cell)}") from error
        raise
    return tuple(done[-1].stderr.splitlines())


def _fullest(cell: Cell) -> str:
    boot = cell.unpacked / "boot"
    has_boot = os.path.ismount(boot)
    places = [(cell.unpacked, "the root", "give a larger disk")]
    places += [(boot, "/boot", "set a larger BOOT_SIZE")] if has_boot else []
    path, name, cure = min(places, key=lambda place: _share_left(place[0]))
    figures = os.statvfs(path)
    size = figures.f_blocks * figures.f_frsize // _MIB
    if figures.f_files and not figures.f_ffree:
        return f"{name}, of {size} MiB, has room for no more than {figures.f_files} files; {cure}"
    return f"{name} has {size} MiB, and all of it is used; {cure}"


def _share_left(path: Path) -> float:
    """Of bytes or of files, whichever is scarcer."""
    figures = os.statvfs(path)
    return min(figures.f_bfree / figures.f_blocks, figures.f_ffree / figures.f_files if figures.f_files else 1.0)
