# SPDX-License-Identifier: GPL-2.0-or-later
"""Containers that are found to be acceptable here, and decoded by QEMU in a jail of its own."""

from __future__ import annotations

from dataclasses import dataclass

from snf_image_host.copying.edges import EdgesLast
from snf_image_host.decoding.content import Tick
from snf_image_host.decoding.vdi import inspect_vdi
from snf_image_host.decoding.vhdx import inspect_vhdx
from snf_image_host.decoding.vmdk import inspect_vmdk
from snf_image_shared.errors import ImageError

INSPECTORS = {"vmdk": inspect_vmdk, "vhdx": inspect_vhdx, "vdi": inspect_vdi}


@dataclass(frozen=True)
class Inspected:
    """A Content that only says its size."""

    size: int | None

    def fill(self, disk: EdgesLast, tick: Tick) -> int:
        """Never asked for."""
        raise ImageError("is not to be decoded here")


def open_inspected(fd: int, kind: str) -> Inspected:
    """The container in the file `fd`. Raises ImageError."""
    return Inspected(INSPECTORS[kind](fd))
