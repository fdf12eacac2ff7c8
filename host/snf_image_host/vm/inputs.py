# SPDX-License-Identifier: GPL-2.0-or-later
"""Files for the helper VM that are too large for the config device: each is a read-only disk of its own."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from snf_image_host.vm.drives import Drive
from snf_image_host.vm.qemu import input_serial
from snf_image_shared.deployment import Input


@dataclass
class Inputs:
    """The files in order; whoever opened a descriptor closes it."""

    drives: list[Drive] = field(default_factory=list)
    size: int = 0

    def add(self, name: str, fd: int) -> Input:
        """A file, open for reading alone, all of it; `name` is for messages."""
        length = os.fstat(fd).st_size
        serial = input_serial(len(self.drives))
        self.drives.append(Drive(fd))
        self.size += length
        return Input(name, serial, length)
