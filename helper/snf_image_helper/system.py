# SPDX-License-Identifier: GPL-2.0-or-later
"""What kind of system is on the disk, as far as a plan needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from snf_image_shared.errors import GuestError

WHOLE_DISK = 0  # the "partition" of a file system that has the disk for itself


class OsFamily(StrEnum):
    """The values of the property OSFAMILY."""

    LINUX = "linux"
    WINDOWS = "windows"
    WINDOWS_LEGACY = "windows-legacy"
    FREEBSD = "freebsd"
    OPENBSD = "openbsd"
    NETBSD = "netbsd"


class Care(StrEnum):
    """How the system takes what is ordered: tasks change its files, or Ignition does it at its first boot."""

    TASKS = "tasks"
    IGNITION = "ignition"


class IgnitionGuest(StrEnum):
    """Systems that are set up by Ignition at their first boot."""

    FLATCAR = "Flatcar"
    COREOS = "CoreOS"
    MICROOS = "MicroOS"


@dataclass(frozen=True)
class Ignition:
    """Who is set up by Ignition, and the number of the partition where it looks for its configuration."""

    guest: IgnitionGuest
    partition: int


@dataclass(frozen=True)
class System:
    """`root_partition` is its number in the partition table, or WHOLE_DISK.

    `volume` names the logical volume "GROUP/NAME" of the root when that partition is LVM's, else it is "".
    """

    family: OsFamily
    root_partition: int
    volume: str = ""
    ignition: Ignition | None = None

    @property
    def care(self) -> Care:
        """Who does what is ordered."""
        return Care.TASKS if self.ignition is None else Care.IGNITION


class UnknownGuestError(GuestError):
    """Nothing that can be customised was found: an encrypted root, an unknown layout. UNKNOWN_GUEST decides then."""
