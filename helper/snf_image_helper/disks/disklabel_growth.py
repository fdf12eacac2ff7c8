# SPDX-License-Identifier: GPL-2.0-or-later
"""How a BSD's partition and the disklabel in it fill a larger disk: arithmetic alone.

The rules are those of snf-image 0.23, whose images keep their meaning.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from snf_image_helper.disks.disklabel import SWAP, Disklabel, Labelled, Slice, changed
from snf_image_helper.disks.partitions import Partition
from snf_image_helper.system import OsFamily

MBR_SECTORS = 1 << 32  # what an msdos table reaches
_MOST = (1 << 32) - 1  # of a field of 32 bits
_SECTORS_PER_UNIT, _CYLINDERS = 60, 52  # where the fields are: disklabel.h
_UNIT_HIGH, _END_HIGH, _END = 112, 78, 84  # OpenBSD's alone
_NETBSD_CYLINDERS, _NETBSD_LARGE = 16383, 16514064
_ALIGNMENT = 32  # sectors, of OpenBSD's last slice
_ASSISTED = (16, 32, 64, 128)  # heads, before 255
_TRACK = 63
_LAST_CYLINDER = 1023


@dataclass(frozen=True)
class LabelChange:
    """What is to be written: the label, and the partition it lies in; `grown` is the slice that becomes larger."""

    parent: Partition
    raw: bytes
    grown: Slice | None = None


def last_slice(found: Labelled) -> Slice | None:
    """The one that fills the disk: the last in its partition, unless that is swap."""
    last = max(found.label.own(found.parent), key=lambda item: item.start, default=None)
    return None if last is None or last.kind == SWAP else last


def enlarged(found: Labelled, size: int, total: int) -> LabelChange:
    """The label when its partition has `size` sectors, of a disk of `total` ones. Nothing ever shrinks."""
    label = found.label
    parent = replace(found.parent, size=max(size, found.parent.size))
    fields: dict[int, tuple[int, int]]
    match label.family:
        case OsFamily.OPENBSD:
            end = parent.start + parent.size
            fields = {_UNIT_HIGH: (2, total >> 32), _END_HIGH: (2, end >> 32), _END: (4, end & _MOST)}
            fields[_SECTORS_PER_UNIT] = (4, total & _MOST)
            whole, slices = total, {"c": (0, total)}
        case OsFamily.NETBSD:
            whole = min(total, _MOST)
            fields = {_SECTORS_PER_UNIT: (4, whole)}
            slices = {"c": (parent.start, parent.size), "d": (0, whole)}
        case _:
            whole = parent.size
            fields = {_SECTORS_PER_UNIT: (4, whole)}
            slices = {"c": (parent.start, whole)}
    fields[_CYLINDERS] = (4, _cylinders(label, whole))
    grown = _grown(found, parent)
    if grown:
        slices[grown.letter] = (grown.start, grown.size)
    return LabelChange(parent, changed(label, fields=fields, slices=slices), grown)


def mbr_entry(entry: bytes, change: LabelChange, label: Disklabel, total: int) -> bytes:
    """The 16 bytes of a partition in an MBR, with another size; its flag, begin and type stay."""
    last = change.parent.end
    chs = _chs_netbsd(last, total) if label.family is OsFamily.NETBSD else _chs_of_label(last, label)
    return entry[:5] + packed_chs(*chs) + entry[8:12] + change.parent.size.to_bytes(4, "little")


def packed_chs(cylinder: int, head: int, sector: int) -> bytes:
    """The three bytes of a place in an MBR."""
    return struct.pack("BBB", head, sector | (cylinder >> 2) & 0xC0, cylinder & 0xFF)


def assisted_heads(total: int) -> int:
    """The heads of a disk of `total` sectors that a BIOS invents: "LBA assisted translation"."""
    return next((heads for heads in _ASSISTED if total <= (_LAST_CYLINDER + 1) * heads * _TRACK), 255)


def _grown(found: Labelled, parent: Partition) -> Slice | None:
    last = last_slice(found)
    if last is None:
        return None
    size = parent.end + 1 - last.start
    if found.label.family is OsFamily.OPENBSD:
        size -= size % _ALIGNMENT
    return replace(last, size=size) if size > last.size else None


def _cylinders(label: Disklabel, total: int) -> int:
    if label.family is OsFamily.NETBSD and total >= _NETBSD_LARGE:
        return _NETBSD_CYLINDERS
    return min(total // label.number(56), _MOST)


def _chs_netbsd(sector: int, total: int) -> tuple[int, int, int]:
    heads = assisted_heads(total)
    cylinder, rest = divmod(sector, heads * _TRACK)
    return min(cylinder, _LAST_CYLINDER), rest // _TRACK, rest % _TRACK + 1


def _chs_of_label(sector: int, label: Disklabel) -> tuple[int, int, int]:
    track, heads = label.number(44), label.number(48)
    cylinder, rest = divmod(sector, track * heads)
    if cylinder > _LAST_CYLINDER or track > _TRACK or heads > 255:
        return _LAST_CYLINDER, 254, _TRACK
    return cylinder, rest // track, rest % track + 1
