# SPDX-License-Identifier: GPL-2.0-or-later
"""An instance's disk -> an open Target or Source, wherever its bytes are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from snf_image_host.disks import InstanceDisk
from snf_image_host.settings import Settings
from snf_image_host.sources import Source, open_device
from snf_image_host.targets import Target, open_target


@contextmanager
def open_disks(
    disks: Sequence[InstanceDisk], settings: Settings
) -> Iterator[tuple[Target, *tuple[Target | Source, ...]]]:
    """All disks of an instance, checked and locked, for the length of the block. The first is writable.

    Raises DiskError.
    """
    with ExitStack() as stack:
        first = stack.enter_context(open_target(disks[0].path))
        yield (first, *[stack.enter_context(_opened(disk, settings)) for disk in disks[1:]])


def _opened(disk: InstanceDisk, settings: Settings) -> AbstractContextManager[Target | Source]:
    return open_target(disk.path) if disk.access == "rw" else open_device(disk.path)
