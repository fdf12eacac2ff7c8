# SPDX-License-Identifier: GPL-2.0-or-later
"""What kind of system is on the disk, as far as a plan needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class OsFamily(StrEnum):
    """The values of the property OSFAMILY."""

    LINUX = "linux"
    WINDOWS = "windows"
    WINDOWS_LEGACY = "windows-legacy"
    FREEBSD = "freebsd"
    OPENBSD = "openbsd"
    NETBSD = "netbsd"


@dataclass(frozen=True)
class System:
    """`root_partition` is its number in the partition table."""

    family: OsFamily
    root_partition: int
