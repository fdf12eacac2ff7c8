# SPDX-License-Identifier: GPL-2.0-or-later
"""A private place in the helper's memory for what must not touch the guest: keys in the making, programs to run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = "/run"


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A new directory for root alone, with files and no directories in it; gone at the end."""
    path = Path(_MEMORY, f"snf-image-{os.urandom(8).hex()}")
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        for file in path.iterdir():
            file.unlink()
        path.rmdir()


@contextmanager
def program_file(content: bytes) -> Iterator[Path]:
    """An executable file with this content, for root alone; gone at the end."""
    with scratch_directory() as directory:
        path = directory / "program"
        path.write_bytes(content)
        path.chmod(0o700)
        yield path
