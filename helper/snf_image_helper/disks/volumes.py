# SPDX-License-Identifier: GPL-2.0-or-later
"""All that can be mounted on the first disk, partitions and logical volumes, and all that a guest's fstab calls it.

Nothing else is a candidate: a label or UUID that is equal to one of the helper's own file systems, or to something
left on another disk, changes nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper.disks import lvm
from snf_image_helper.disks.disk import Disk, Place
from snf_image_helper.disks.filesystems import MOUNTABLE, FileSystem, probe, spelled
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import System, UnknownGuestError
from snf_image_shared.errors import GuestError

_SUSPENDED = "swsuspend"  # what blkid calls a swap area that holds the memory of a suspended system
_FIRST_DISK = re.compile(r"/dev/(?:(?:s|v|h|xv)da|nvme0n1p|mmcblk0p)([1-9][0-9]{0,2})")
_WHOLE_DISK = re.compile(r"/dev/(?:(?:s|v|h|xv)da|nvme0n1|mmcblk0)")


@dataclass(frozen=True)
class Volumes:
    """`systems` are what lies on each device; `names` lead from a tag and its value to the device."""

    disk: Disk
    systems: Mapping[str, FileSystem]
    names: Mapping[tuple[str, str], str]
    places: tuple[Place, ...]

    def root(self, system: System) -> FileSystem:
        """Where the root is. Raises GuestError when there is nothing that can be mounted."""
        if system.volume:
            device = self.names.get(("volume", system.volume))
            if device is None:
                raise GuestError(f"there is no logical volume {system.volume} that can be used")
            return self._mountable(device, f"the logical volume {system.volume}")
        return self._numbered(system.root_partition)

    def named(self, device: str) -> tuple[FileSystem, str | None]:
        """What the first field of an fstab line means, and a warning.

        Raises GuestError when that is nothing of the image's disk, or cannot be mounted.
        """
        tag, value = _tag(device)
        if tag is None:
            found = _FIRST_DISK.fullmatch(device)
            if found:
                number = int(found[1])
                return self._numbered(number), (
                    f"{device} is taken as partition {number} of the first disk; better write UUID="
                )
            if self.disk.table is None and _WHOLE_DISK.fullmatch(device):
                return self._mountable(self.disk.device, "the disk"), f"{device} is taken as the first disk"
            raise GuestError("such a device is not supported, write UUID=")
        if tag == "label":
            value = spelled(value)
        node = self.names.get((tag, value.lower() if tag.endswith("uuid") else value))
        if node is None:
            raise GuestError("no partition of the image has this name")
        return self._mountable(node, self.called(node)), None

    def called(self, device: str) -> str:
        """What a device is called in a message."""
        return next((item.name for item in self.places if item.device == device), device)

    def on(self, place: Place) -> FileSystem:
        """What lies there."""
        return self.systems[place.device]

    def _numbered(self, number: int) -> FileSystem:
        place = next((item for item in self.places if item.number == number), None)
        if place is None:
            numbers = self.disk.numbers if self.disk.table else "the disk has no partition table"
            raise GuestError(f"there is no partition {number} (there are {numbers})")
        return self._mountable(place.device, place.name)

    def _mountable(self, device: str, called: str) -> FileSystem:
        system = self.systems[device]
        if system.type not in MOUNTABLE:
            raise GuestError(
                f"{called} holds {system.type or 'no known file system'}, which cannot be mounted; "
                f"only {', '.join(sorted(MOUNTABLE))} can"
            )
        return system


@contextmanager
def volumes_of(disk: Disk, system: System, report: Reporter, *, read_only: bool = False) -> Iterator[Volumes]:
    """Look at everything on the disk once; logical volumes can be used until the end, with `read_only` only to read.

    Raises GuestError when the volume group of the root cannot be used; that of others is a warning.
    """
    places = disk.places()
    systems = probe([item.device for item in places])
    members = [device for device, found in systems.items() if found.type == lvm.MEMBER]
    with lvm.active(_groups(members, system, report), read_only=read_only) as logical:
        systems |= probe([item.device for item in logical])
        yield Volumes(disk, systems, _names(places, logical, systems), places)


def refuse_suspended(disk: Disk, system: System, report: Reporter) -> None:
    """A system that sleeps on the disk has file systems in its memory, and would write that memory over our changes.

    Raises GuestError.
    """
    with volumes_of(disk, system, report, read_only=True) as volumes:
        for device, found in volumes.systems.items():
            if found.type == _SUSPENDED:
                raise GuestError(f"it is suspended to {volumes.called(device)}; start it and shut it down")


def _groups(members: list[str], system: System, report: Reporter) -> tuple[lvm.Group, ...]:
    if not members:
        return ()
    try:
        return lvm.groups_on(members)
    except UnknownGuestError as error:
        if system.volume:
            raise
        report.warning(f"Logical volumes are left alone: {error}")
        return ()


def _names(
    places: tuple[Place, ...], logical: tuple[lvm.Volume, ...], systems: Mapping[str, FileSystem]
) -> Mapping[tuple[str, str], str]:
    names: dict[tuple[str, str], str] = {}
    for place in places:
        if place.partition:
            names.setdefault(("partuuid", place.partition.uuid.lower()), place.device)
            names.setdefault(("partlabel", place.partition.name), place.device)
    for volume in logical:
        names.setdefault(("volume", volume.full_name), volume.device)
        names.setdefault(("mapper", volume.mapper_name), volume.device)
    for device, system in systems.items():
        names.setdefault(("uuid", system.uuid.lower()), device)
        names.setdefault(("label", system.label), device)
    return {(tag, value): device for (tag, value), device in names.items() if value}


def _tag(device: str) -> tuple[str | None, str]:
    """("uuid", value) and its like, for TAG=value as well as /dev/disk/by-tag/value; (None, device) for the rest."""
    found = re.fullmatch(r"(UUID|LABEL|PARTUUID|PARTLABEL)=(\"?)(.*)\2", device)
    if found:
        return found[1].lower(), found[3]
    found = re.fullmatch(r"/dev/disk/by-(uuid|label|partuuid|partlabel)/(.+)", device)
    if found:
        # udev writes what may not stand in a file name as \xNN.
        raw = re.sub(rb"\\x([0-9a-f]{2})", lambda escape: bytes.fromhex(escape[1].decode()), os.fsencode(found[2]))
        return found[1], raw.decode("utf-8", "replace")
    found = re.fullmatch(r"/dev/mapper/([^/]+)", device)
    if found:
        return "mapper", found[1]
    path = Path(device).parts
    if len(path) == 4 and path[:2] == ("/", "dev") and path[2] not in {"disk", "block"}:
        return "volume", f"{path[2]}/{path[3]}"
    return None, device
