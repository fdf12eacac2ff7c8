# SPDX-License-Identifier: GPL-2.0-or-later
"""What fills a disk that is larger than its image: the last partition, or the disk itself where there are none.

Of a BSD with a disklabel it is the last slice, whatever part of the system lies there: all of the label is the BSD's.
"""

from __future__ import annotations

from snf_image_helper.disks import lvm
from snf_image_helper.disks.disk import Disk, Place
from snf_image_helper.disks.disklabel import Labelled
from snf_image_helper.disks.disklabel_growth import last_slice
from snf_image_helper.disks.filesystems import probe
from snf_image_helper.disks.partitions import SwapPartition, growing
from snf_image_helper.system import WHOLE_DISK


def filling(disk: Disk, swap: SwapPartition | None) -> Place | None:
    """The place whose content is to fill the disk; `swap` is the partition that SWAP asks for. Raises GuestError.

    The last one, if it is the root's or what the root lies on: whatever else an image keeps at its end stays.
    """
    if found := label_of_root(disk):
        own = last_slice(found)
        return next((place for place in disk.places() if own and place.slice == own), None)
    last = _last(disk, swap)
    return last if last and _is_roots(disk, last) else None


def why_it_stays(disk: Disk, swap: SwapPartition | None) -> str:
    """What the last partition holds when it must not grow though its type allows it; "" when it may."""
    last = _last(disk, swap)
    if last is None or _is_roots(disk, last):
        return ""
    return probe([last.device])[last.device].type or "nothing known"


def label_of_root(disk: Disk) -> Labelled | None:
    """The disklabel of which the root is a slice, if it is one. Raises GuestError."""
    number = disk.system.root_partition if disk.system else None
    return next((found for found in disk.labels if number in found.slices), None)


def root_volume(disk: Disk, place: Place) -> tuple[lvm.Group, lvm.Volume] | None:
    """The logical volume of the root, with its group, if it lies on this place among others. Raises GuestError."""
    if disk.system is None or not disk.system.volume:
        return None
    found = probe([item.device for item in disk.places()])
    for group in lvm.groups_on([device for device, system in found.items() if system.type == lvm.MEMBER]):
        volume = group.volume(disk.system.volume)
        if volume and place.device in group.devices:
            return group, volume
    return None


def _last(disk: Disk, swap: SwapPartition | None) -> Place | None:
    if disk.table is None:
        return Place(WHOLE_DISK, disk.device)
    last = growing(disk.require_table(), swap)
    return Place(last.number, disk.node(last.number), last) if last else None


def _is_roots(disk: Disk, place: Place) -> bool:
    system = disk.system
    return system is not None and (
        system.root_partition == place.number
        or (probe([place.device])[place.device].type == lvm.MEMBER and root_volume(disk, place) is not None)
    )
