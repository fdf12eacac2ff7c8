# SPDX-License-Identifier: GPL-2.0-or-later
"""The disk that a tool works on: opened for reading alone, and refused while anybody could be writing to it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snf_image_host import kernel
from snf_image_host.images.sources import Source, open_device
from snf_image_shared.errors import DiskError

_CURE = "stop the instance first, or give a snapshot of the disk"


@contextmanager
def idle_disk(path: Path) -> Iterator[Source]:
    """The disk, which nobody else has in use when it is opened. Raises DiskError."""
    with open_device(path) as disk:
        if not disk.size:
            raise DiskError(f"{disk.name} has a size of 0 bytes; activate the instance's disks")
        check_idle(disk)
        yield disk


def check_idle(disk: Source) -> None:
    """Raise DiskError if somebody has it in use by now."""
    if stat.S_ISBLK(os.fstat(disk.fd).st_mode):
        _check_not_held(disk)
    if kernel.is_range_locked(disk.fd):
        raise DiskError(f"{disk.name} is locked by another program, probably a running QEMU: {_CURE}")


def _check_not_held(disk: Source) -> None:
    """Raise DiskError for a block device that is mounted, or that something of the kernel's lies on."""
    try:
        # O_EXCL on a block device: not mounted, no swap, no part of LVM, MD or device mapper.
        os.close(os.open(f"/proc/self/fd/{disk.fd}", os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise DiskError(f"{disk.name} cannot be opened: {error.strerror}; check the storage below it") from error
        raise DiskError(
            f"{disk.name} is in use: it is mounted, or swap, LVM, RAID or device mapper hold it: {_CURE}"
        ) from error
