# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that the host gave as read-only disks: found by serial number, and read no further than they are long."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from snf_image_helper.disks.disk import Disk
from snf_image_shared.deployment import Input


@contextmanager
def opened(wanted: Input) -> Iterator[int]:
    """A descriptor at the first byte of the device, which may be longer than the file. Raises GuestError, OSError."""
    device = Disk.open((wanted.serial,)).device
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def only(wanted: Input) -> list[str]:
    """The command that passes on the file itself of what stands at its first byte."""
    return ["head", "-c", str(wanted.length)]
