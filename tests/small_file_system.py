# SPDX-License-Identifier: GPL-2.0-or-later
"""A file system that is soon full, unmounted again whatever happens. Needs root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_file_system(directory: Path, mib: int, files: int = 100) -> Iterator[Path]:
    """An empty one of `mib` MiB and so many `files` on `directory`, which is made, and root's alone."""
    directory.mkdir(parents=True)
    options = f"size={mib}m,nr_inodes={files + 1},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)
