# SPDX-License-Identifier: GPL-2.0-or-later
"""A volume group on a partition of an image, written as bytes: lvcreate(8) wants a kernel with the device mapper.

Source: LVM2's lib/format_text/layout.h, lib/label/label.c, lib/misc/crc.c (the CRC starts at 0xf597a6cf).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from images.partitions import MIB, SECTOR, SECTORS_PER_MIB, Partition

_EXTENT = 4 * SECTORS_PER_MIB
_START = SECTORS_PER_MIB
_AREA = 4096  # bytes: where the metadata area begins
_HEADER = 512
_TEXT = """contents = "Text Format Volume Group"
version = 1
description = ""
creation_host = "template"
creation_time = 1

{group} {{
id = "{group_id}"
seqno = 1
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
extent_size = {extent}
max_lv = 0
max_pv = 0
metadata_copies = 0

physical_volumes {{
pv0 {{
id = "{pv_id}"
device = "/dev/vda"
status = ["ALLOCATABLE"]
flags = []
dev_size = {size}
pe_start = {start}
pe_count = {count}
}}
}}

logical_volumes {{
{volume} {{
id = "{volume_id}"
status = ["READ", "WRITE", "VISIBLE"]
flags = []
creation_time = 1
creation_host = "template"
segment_count = 1
segment1 {{
start_extent = 0
extent_count = {count}
type = "striped"
stripe_count = 1
stripes = [
"pv0", 0
]
}}
}}
}}
}}
"""


@dataclass(frozen=True)
class Group:
    """A volume group with one logical volume that takes all of it; ids have 32 letters and digits."""

    name: str
    volume: str
    id: str = "TeMpLaTeTeMpLaTeTeMpLaTeGrOuP001"
    pv_id: str = "TeMpLaTeTeMpLaTeTeMpLaTePhYs0001"
    volume_id: str = "TeMpLaTeTeMpLaTeTeMpLaTeVoLu0001"

    @property
    def device(self) -> str:
        """As the guest and its fstab call the volume; no name here has a hyphen."""
        return f"/dev/mapper/{self.name}-{self.volume}"

    def area(self, partition: Partition) -> Partition:
        """Where on the disk the logical volume lies, as if it were a partition."""
        return Partition(0, partition.start + _START, _extents(partition) * _EXTENT, partition.type)

    def write(self, disk: Path, partition: Partition) -> None:
        """Make the still empty partition the group's physical volume."""
        with disk.open("r+b") as file:
            file.seek(partition.offset + SECTOR)
            file.write(_label(self, partition))
            file.seek(partition.offset + _AREA)
            file.write(_metadata(self, partition))


def _extents(partition: Partition) -> int:
    return (partition.size - _START) // _EXTENT


def _label(group: Group, partition: Partition) -> bytes:
    areas = struct.pack("<4Q", _START * SECTOR, 0, 0, 0) + struct.pack("<4Q", _AREA, MIB - _AREA, 0, 0)
    extension = struct.pack("<II2Q", 2, 1, 0, 0)
    body = group.pv_id.encode() + struct.pack("<Q", partition.length) + areas + extension
    checked = struct.pack("<I8s", 32, b"LVM2 001") + body
    checked += bytes(SECTOR - 20 - len(checked))
    return struct.pack("<8sQI", b"LABELONE", 1, _crc(checked)) + checked


def _metadata(group: Group, partition: Partition) -> bytes:
    text = _TEXT.format(
        group=group.name,
        volume=group.volume,
        group_id=_hyphenated(group.id),
        pv_id=_hyphenated(group.pv_id),
        volume_id=_hyphenated(group.volume_id),
        extent=_EXTENT,
        size=partition.size,
        start=_START,
        count=_extents(partition),
    ).encode() + bytes(1)
    place = struct.pack("<QQII", _HEADER, len(text), _crc(text), 0)
    checked = struct.pack("<16sIQQ", b" LVM2 x[5A%r0N*>", 1, _AREA, MIB - _AREA) + place
    checked += bytes(_HEADER - 4 - len(checked))
    return struct.pack("<I", _crc(checked)) + checked + text


def _crc(content: bytes) -> int:
    return zlib.crc32(content, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def _hyphenated(identity: str) -> str:
    """As lvm shows it: 6-4-4-4-4-4-6."""
    pieces, at = [], 0
    for length in (6, 4, 4, 4, 4, 4, 6):
        pieces.append(identity[at : at + length])
        at += length
    return "-".join(pieces)
