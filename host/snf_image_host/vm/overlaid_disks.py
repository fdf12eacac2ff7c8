# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that the helper VM may write to, and that stays as it is: what is written goes into memory, and is forgotten.

So a journal is replayed as the guest's own kernel would, and a file system is read as it will be found.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from snf_image_host.images.sources import Source
from snf_image_host.vm.drives import Drive
from snf_image_shared.process import Limits, run

LARGEST = 1 << 30  # bytes of memory that the VM can fill at most; the largest journals have as much
_SECTOR = 512


@dataclass(frozen=True)
class Overlaid:
    """As Attachable says."""

    below: Drive
    overlay: int

    def drive(self) -> Drive:
        """The disk as QEMU gets it."""
        return replace(self.below, writable=True, overlay=self.overlay)


@contextmanager
def overlaid(disk: Source) -> Iterator[Overlaid]:
    """The disk with an overlay, for the length of the block. Raises ProcessError."""
    memory = os.memfd_create("snf-image-overlay", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        size = -(-disk.size // _SECTOR) * _SECTOR
        create = ["qemu-img", "create", "-q", "-f", "qcow2", f"/proc/self/fd/{memory}", str(size)]
        run(create, limits=Limits(pass_fds=(memory,)))
        os.truncate(memory, LARGEST)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        yield Overlaid(disk.drive(), memory)
    finally:
        os.close(memory)
