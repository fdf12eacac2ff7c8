# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies on the instance's other disks, which nobody divides: a reinstalled guest has its data there."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import probe, spelled

# As the guest calls them: virtio, Xen, SCSI, IDE; in Ganeti's order.
_BY_ORDER = re.compile(r"/dev/(?:v|xv|s|h)d([b-z])([0-9]*)")
_BY_LINK = re.compile(r"/dev/disk/by-(uuid|label)/(.*)")


class OtherDisks:
    """Looked at when they are first asked for."""

    def __init__(self, disk: Disk) -> None:
        self._devices = disk.devices[1:]

    def has(self, device: str) -> bool:
        """Whether a device as fstab names it ("UUID=...", "/dev/vdb1") is on one of them and can be mounted."""
        if not self._devices:
            return False
        if named := _BY_ORDER.fullmatch(device):
            node = self._node(ord(named[1]) - ord("b"), named[2])
            return bool(node and probe([node])[node].type)
        if linked := _BY_LINK.fullmatch(device):
            device = f"{linked[1]}={linked[2]}"
        name, _, value = device.partition("=")
        match name.upper():
            case "UUID":
                return value.lower() in self._names[0]
            case "LABEL":
                return spelled(value) in self._names[1]
            case _:
                return False

    def _node(self, index: int, number: str) -> str | None:
        device = self._devices[index] if index < len(self._devices) else None
        return _partitions(device).get(number) if device and number else device

    @cached_property
    def _names(self) -> tuple[frozenset[str], frozenset[str]]:
        """UUIDs and labels of file systems."""
        nodes = [*self._devices]
        for device in self._devices:
            nodes += _partitions(device).values()
        found = probe(nodes).values()
        uuids = frozenset(system.uuid.lower() for system in found if system.uuid)
        return uuids, frozenset(system.label for system in found if system.label)


def _partitions(device: str) -> dict[str, str]:
    """Number -> device node, of those that the kernel knows."""
    place = Path("/sys/block", Path(device).name)
    return {entry.read_text().strip(): f"/dev/{entry.parent.name}" for entry in place.glob("*/partition")}
