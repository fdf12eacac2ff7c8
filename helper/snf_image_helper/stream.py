# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtio port through which an archive comes from the host, or goes there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snf_image_shared.errors import HelperError
from snf_image_shared.process import run
from snf_image_shared.report import STREAM_PORT

_PATIENCE = 10.0  # seconds until the port has appeared


@contextmanager
def opened_stream() -> Iterator[int]:
    """A descriptor of the port, for both directions; reading ends when the host has given all. Raises HelperError."""
    run(["modprobe", "virtio_console"])
    deadline = time.monotonic() + _PATIENCE
    while (node := _node()) is None:
        if time.monotonic() > deadline:
            raise HelperError(f"the helper VM has no port {STREAM_PORT}; see the QEMU command in the log")
        time.sleep(0.02)
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _node() -> str | None:
    for entry in Path("/sys/class/virtio-ports").glob("*/name"):
        node = Path("/dev", entry.parent.name)
        if entry.read_text().strip() == STREAM_PORT and node.exists():
            return str(node)
    return None
