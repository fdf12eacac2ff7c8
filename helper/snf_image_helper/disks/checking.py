# SPDX-License-Identifier: GPL-2.0-or-later
"""What the checkers of file systems say of one that cannot be used. Nothing is repaired here."""

from __future__ import annotations

import re

from snf_image_helper.problems import printable
from snf_image_shared.process import Limits, ProcessError, run

_SECONDS = 120.0
_ANY_STATUS = frozenset(range(256))
_LONGEST = 160  # characters of a finding
_CHECKERS = {
    "ext2": ("e2fsck", "-f", "-n"),
    "ext3": ("e2fsck", "-f", "-n"),
    "ext4": ("e2fsck", "-f", "-n"),
    "xfs": ("xfs_repair", "-n"),
    "btrfs": ("btrfs", "check", "--readonly"),
    "f2fs": ("fsck.f2fs", "--dry-run"),
    "vfat": ("fsck.vfat", "-n"),
}
# What a checker says before it has found anything, and that it found nothing.
_NOISE = re.compile(
    r"e2fsck \d|fsck\.\w+ \d|Pass \d|Phase \d|\[\d/\d\]|Opening filesystem|Checking filesystem|UUID:|Warning[:!]|Info:"
    r"|\s+- |Done: |Dry run|No modify flag|found \d+ bytes|total |btree space|file data blocks| referenced "
    r"|.*\[Ok\.\.\]|\s*(from|to)?\s*\"|Cannot get host|Repair may fail|the image and the host|\s*$"
)


def finding(device: str, kind: str) -> str:
    """Like "e2fsck says: Superblock checksum does not match", or "" when its checker has nothing to say of it."""
    checker = _CHECKERS.get(kind)
    if checker is None:
        return ""
    try:
        done = run([*checker, device], limits=Limits(_SECONDS, _ANY_STATUS))
    except ProcessError as error:
        return str(error)
    if not done.status:
        return ""
    said = first_finding(f"{done.stderr}\n{done.stdout}")
    return f"{checker[0]} says: {said}" if said else f"{checker[0]} finds errors (status {done.status})"


def first_finding(output: str) -> str:
    """The first line of a checker's output that tells of a fault, or ""."""
    lines = (line for line in output[: 1 << 16].splitlines() if not _NOISE.match(line))
    return printable(next(lines, "").strip())[:_LONGEST]
