# SPDX-License-Identifier: GPL-2.0-or-later
"""What fills a disk that is larger than its image: the last partition, or the disk itself where there are none."""

from __future__ import annotations

from snf_image_helper import lvm
from snf_image_helper.disk import Disk, Place
from snf_image_helper.filesystems import EXT, F2FS, probe
from snf_image_helper.partitions import SwapPartition, growing
from snf_image_helper.system import WHOLE_DISK

# File systems that a task lets grow, and NTFS, which Windows itself does.
_GROW = EXT | {F2FS, "xfs", "btrfs", "ntfs"}


def filling(disk: Disk, swap: SwapPartition | None) -> Place | None:
    """The place whose content is to fill the disk; `swap` is the partition that SWAP asks for. Raises GuestError."""
    if disk.table is None:
        return Place(WHOLE_DISK, disk.device)
    last = growing(disk.require_table(), swap)
    return Place(last.number, disk.node(last.number), last) if last else None


def why_it_stays(disk: Disk, swap: SwapPartition | None) -> str:
    """What the last partition holds when it must not grow though its type allows it; "" when it may.

    The root's grows, and what the root lies on. So does, as ever since snf-image 0.1, one that holds a file system
    which can grow: then it is the image's place for data.
    """
    place = filling(disk, swap)
    system = disk.system
    if place is None or (system and system.root_partition == place.number):
        return ""
    kind = probe([place.device])[place.device].type
    if kind in _GROW or (kind == lvm.MEMBER and root_volume(disk, place) is not None):
        return ""
    return kind or "nothing known"


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
