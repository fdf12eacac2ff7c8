# SPDX-License-Identifier: GPL-2.0-or-later
"""A file system -> a dump(8) of all of it, made from a device that nobody writes to.

The helper has no name and no fstab, so a dump tells nothing but the file system's label, its device here, and the time.
"""

from __future__ import annotations

import os
import re

from snf_image_shared.errors import GuestError
from snf_image_shared.pipeline import chain
from snf_image_shared.process import Limits

_PATIENCE = 7 * 24 * 3600.0  # seconds: the host's deadline is the one that counts
_BLOCKS = re.compile(r"DUMP: Volume 1 (\d+) blocks ")  # of 1024 bytes
_NEEDS_RECOVERY, _INCOMPAT_OFFSET = 0x4, 1024 + 0x60  # struct ext4_super_block: s_feature_incompat


def dump(device: str, out: int) -> None:
    """Write it to the descriptor. Raises ProcessError."""
    _dump(device, out)


def measure(device: str) -> int:
    """How many bytes the dump has: found by making one for nobody. Raises GuestError, ProcessError."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        said = _dump(device, nowhere)
    finally:
        os.close(nowhere)
    found = _BLOCKS.search(said)
    if found is None:
        raise GuestError(f"dump does not say how large the dump of {device} is")
    return int(found[1]) << 10


def has_open_journal(device: str) -> bool:
    """Whether the newest changes are only in the journal, as in a snapshot of a running instance. Raises OSError."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return bool(int.from_bytes(os.pread(fd, 4, _INCOMPAT_OFFSET), "little") & _NEEDS_RECOVERY)
    finally:
        os.close(fd)


def _dump(device: str, out: int) -> str:
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # A port may take less at once than it is given, which dump takes for its tape's end.
        command = ["dump", "-0", "-q", "-f", "-", device]
        made, _ = chain([command, ["cat"]], nothing, Limits(timeout=_PATIENCE, stdout=out))
    finally:
        os.close(nothing)
    return made.stderr
