# SPDX-License-Identifier: GPL-2.0-or-later
"""An archive as it comes, led through programs of which the last one unpacks it; and what is said when it cannot."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from snf_image_helper.deployment.cell import Cell
from snf_image_helper.reporter import Reporter
from snf_image_shared.errors import GuestError
from snf_image_shared.pipeline import PipelineError, chain
from snf_image_shared.process import Limits

_PATIENCE = 24 * 3600.0  # seconds: the host's deadline is the one that counts
# Not of an extended attribute: those have a limit of their own, of which the kernel says the same.
_FULL = re.compile(r"^(?!.*(?:attribute|ACL)).*(?:No space left on device|Wrote only \d+ of \d+ bytes)")
_LONGEST = 300  # characters of a line: the name of a file alone may have 4096 bytes
_MENTIONED = 3  # warnings that are passed on as they are
_MIB = 1 << 20


@dataclass(frozen=True)
class Content:
    """What is to be unpacked: `length` bytes from where the descriptor stands, or all that comes if that is None.

    `name` is for messages; whoever opened the descriptor closes it.
    """

    name: str
    fd: int
    length: int | None = None


@dataclass(frozen=True)
class Unpacker:
    """A program of the helper's that reads an archive, run in the directory `at` of the new tree, `under` another.

    `noise` is in lines that say nothing. `cures` complete the message for lines in which their pattern is found.
    """

    argv: Sequence[str]
    noise: re.Pattern[str]
    cures: tuple[tuple[re.Pattern[str], str], ...]
    at: str = ""
    under: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def unpack_into(cell: Cell, content: Content, unpacker: Unpacker, through: Sequence[str] = ()) -> tuple[str, ...]:
    """Lead the content `through` a program, if one is named, and into the unpacker. The answer are its words, by lines.

    Raises GuestError that says why it cannot be done.
    """
    # Behind the last byte of a file a device goes on with zeros.
    commands = [] if content.length is None else [["head", "-c", str(content.length)]]
    commands += [list(through)] if through else []
    commands.append([*unpacker.under, *cell.command(unpacker.argv, at=unpacker.at, env=unpacker.env)])
    try:
        done = chain(commands, content.fd, Limits(timeout=_PATIENCE), hopeless=_FULL)
    except PipelineError as error:
        if any(_FULL.search(line) for line in error.said):
            raise GuestError(f"{content.name} does not fit: {_fullest(cell)}") from error
        raise GuestError(f"{content.name} cannot be unpacked: {_failure(error, unpacker)}") from error
    if any("trailing garbage" in each.stderr for each in done[:-1]):
        raise GuestError(f"{content.name} cannot be unpacked: something else follows its compressed data")
    return tuple(line for line in done[-1].stderr.splitlines() if line.strip() and not unpacker.noise.search(line))


def reason(lines: Sequence[str], unpacker: Unpacker) -> str:
    """The first of the lines that failed it, how many there are, and the cure."""
    more = f" (and {len(lines) - 1} lines more)" if len(lines) > 1 else ""
    cure = next((f"; {cure}" for pattern, cure in unpacker.cures if pattern.search(lines[0])), "")
    return f"{shortened(lines[0].strip())}{more}{cure}"


def _failure(error: PipelineError, unpacker: Unpacker) -> str:
    lines = [line for line in error.said if not unpacker.noise.search(line)]
    if lines:
        return reason(lines, unpacker)
    return f"{unpacker.argv[0] if error.program in {'chroot', *unpacker.under} else error.program} {error.outcome}"


def warn_of(content: Content, lines: Sequence[str], report: Reporter) -> None:
    """Pass on what an unpacker says beside its work: the first lines, and how many there are."""
    for line in lines[:_MENTIONED]:
        report.warning(f"{content.name}: {shortened(line)}")
    if len(lines) > _MENTIONED:
        report.warning(f"{content.name}: {len(lines) - _MENTIONED} more such warnings")


def shortened(line: str) -> str:
    """A line that may name a file, fit to be shown."""
    text = "".join(char if char.isprintable() else "?" for char in line)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def _fullest(cell: Cell) -> str:
    boot = cell.unpacked / "boot"
    places = [(cell.unpacked, "the root", "give a larger disk")]
    places += [(boot, "/boot", "set a larger BOOT_SIZE")] if os.path.ismount(boot) else []
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
