# SPDX-License-Identifier: GPL-2.0-or-later
"""What the helper says of a guest that it has archived: which file systems the archive was made from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CapturedFileSystem:
    """`size` is that of its partition or logical volume, in bytes."""

    mount_point: str
    type: str
    size: int


@dataclass(frozen=True)
class Captured:
    """All that was mounted, the root first, and the bytes of swap space beside it."""

    file_systems: tuple[CapturedFileSystem, ...]
    swap: int = 0

    def at(self, mount_point: str) -> CapturedFileSystem | None:
        """What was mounted there."""
        return next((each for each in self.file_systems if each.mount_point == mount_point), None)
