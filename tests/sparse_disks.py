# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that are files and mostly holes: copied and compared without writing the holes, or reading them."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 1 << 16
_ZEROS = bytes(_BLOCK)


def copy_disk(disk: Path, to: Path) -> Path:
    """A copy with the same bytes and mode, and holes where there are only zeros. shutil would write half a GiB each."""
    subprocess.run(["cp", "--sparse=always", str(disk), str(to)], check=True)
    return to


def digest(disk: Path) -> str:
    """The same text for two disks if and only if every byte of them is the same, wherever they have holes."""
    with disk.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        found = hashlib.sha256(f"{size}".encode())
        for offset in _blocks_with_data(file.fileno(), size):
            block = os.pread(file.fileno(), _BLOCK, offset)
            if block != _ZEROS[: len(block)]:
                found.update(f" {offset} {len(block)} ".encode() + block)
    return found.hexdigest()


def _blocks_with_data(fd: int, size: int) -> Iterator[int]:
    """Offsets of all blocks that may be anything but zeros, in order."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError:  # ENXIO: there is no more data
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        offset = start // _BLOCK * _BLOCK
        while offset < end:
            yield offset
            offset += _BLOCK
