# SPDX-License-Identifier: GPL-2.0-or-later
"""Real block devices for tests: loop devices over files, detached again whatever happens. Needs root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def loop_device(backing: Path, *options: str) -> Iterator[Path]:
    """A loop device over `backing`, with options of losetup such as `--read-only` or `--sector-size=4096`."""
    made = subprocess.run(
        ["losetup", "--find", "--show", *options, str(backing)], check=True, capture_output=True, text=True
    )
    device = made.stdout.strip()
    try:
        yield Path(device)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
