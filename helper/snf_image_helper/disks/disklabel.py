# SPDX-License-Identifier: GPL-2.0-or-later
"""BSD disklabels: what one says, whether it can be true, and which partitions the kernel makes of it.

Pure: nothing here reads or writes a disk. The fields are those of sys/sys/disklabel.h of NetBSD and OpenBSD and of
sys/sys/disk/bsd.h of FreeBSD. A label lies in the second sector of its partition and counts sectors of the disk.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from snf_image_helper.disks.partitions import Partition
from snf_image_helper.system import OsFamily
from snf_image_shared.errors import GuestError

SECTOR = 512  # no BSD has labels on disks of other sectors that Linux would read as well
LABEL_OFFSET = SECTOR
LONGEST = 2 * SECTOR  # bytes: 52 partitions, as OpenBSD has them since 7.8
UNUSED, SWAP, FFS = 0, 1, 7  # p_fstype
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HEAD, _ENTRY = 148, 16
_MAGIC = (0x82564557).to_bytes(4, "little")
_MAGIC2_AT, _CHECKSUM_AT, _COUNT_AT = 132, 136, 138
_MOST = {OsFamily.FREEBSD: 20, OsFamily.NETBSD: 22, OsFamily.OPENBSD: 52}
# The letters that stand for the whole disk, or for all of the system's own part of it.
_RAW = {OsFamily.FREEBSD: "c", OsFamily.NETBSD: "cd", OsFamily.OPENBSD: "c"}
_FIRST_NUMBER = 5
_KINDS = {1: "swap", 7: "4.2BSD", 8: "MSDOS", 9: "4.4LFS", 10: "unknown", 12: "ISO9660", 13: "boot", 17: "ext2fs"}
_KINDS |= {14: "vinum", 18: "NTFS", 19: "RAID", 20: "ccd", 27: "ZFS"}

PARENTS = {
    "a5": OsFamily.FREEBSD,
    "a6": OsFamily.OPENBSD,
    "a9": OsFamily.NETBSD,
    "824CC7A0-36A8-11E3-890A-952519AD3F61": OsFamily.OPENBSD,
}


@dataclass(frozen=True)
class Slice:
    """One partition of a label; `start` counts from the begin of the disk, `kind` is p_fstype."""

    letter: str
    start: int
    size: int
    kind: int

    @property
    def end(self) -> int:
        """The last sector."""
        return self.start + self.size - 1

    @property
    def kind_name(self) -> str:
        """What disklabel(8) calls its kind."""
        return _KINDS.get(self.kind, f"type {self.kind}")


@dataclass(frozen=True)
class Disklabel:
    """A label with all its bytes; `base` is what its offsets count from.

    `slices` are the entries that are in use, in their order.
    """

    family: OsFamily
    raw: bytes
    base: int
    slices: tuple[Slice, ...]

    @property
    def raw_letters(self) -> str:
        """The letters of no file system's own."""
        return _RAW[self.family]

    @property
    def duid(self) -> str:
        """OpenBSD's name of the disk, as fstab has it before a letter; "" for a label without one."""
        uid = self.raw[64:72] if self.family is OsFamily.OPENBSD else bytes(8)
        return uid.hex() if any(uid) else ""

    def number(self, offset: int) -> int:
        """The 32-bit number there."""
        return int.from_bytes(self.raw[offset : offset + 4], "little")

    def own(self, parent: Partition) -> tuple[Slice, ...]:
        """The slices that lie in the label's partition, without those that stand for the whole of it."""
        return tuple(
            item
            for item in self.slices
            if item.letter not in self.raw_letters and item.size and _inside(item, parent.start, parent.end)
        )


@dataclass(frozen=True)
class Labelled:
    """A partition with a label in it; `slices` lead from the numbers by which they are called here."""

    parent: Partition
    label: Disklabel
    slices: Mapping[int, Slice]


def has_label(raw: bytes) -> bool:
    """Whether the second sector of a partition begins as a label does."""
    return raw[:4] == _MAGIC


def parse(raw: bytes, parent: Partition) -> Disklabel:
    """Read the label of a partition, given LONGEST bytes. Raises GuestError for one that its system would not take."""
    family = PARENTS[parent.type]
    count = int.from_bytes(raw[_COUNT_AT : _COUNT_AT + 2], "little")
    if raw[:4] != _MAGIC or raw[_MAGIC2_AT : _MAGIC2_AT + 4] != _MAGIC:
        raise _refused(parent, "lacks its second magic number")
    if not 1 <= count <= _MOST[family]:
        raise _refused(parent, f"says that it has {count} partitions, {family} has at most {_MOST[family]}")
    raw = raw[: _HEAD + count * _ENTRY]
    if checksum(raw):
        raise _refused(parent, "has a wrong checksum")
    sector, track, tracks, _, cylinder = struct.unpack_from("<5I", raw, 40)
    if sector != SECTOR:
        raise _refused(parent, f"counts sectors of {sector} bytes, and only those of {SECTOR} are supported")
    if not track or not tracks or not cylinder:
        raise _refused(parent, "has a geometry with a zero in it")
    # FreeBSD's offsets count from its partition, unless c says where that begins: block/partitions/msdos.c, parse_bsd.
    is_relative = family is OsFamily.FREEBSD and (count < 3 or int.from_bytes(raw[184:188], "little") == 0)
    label = Disklabel(family, raw, parent.start if is_relative else 0, ())
    return Disklabel(family, raw, label.base, tuple(_slices(label)))


def check(label: Disklabel, parent: Partition) -> None:
    """Refuse a label whose slices overlap, or reach out of their partition. Raises GuestError."""
    inside = sorted(label.own(parent), key=lambda item: item.start)
    for one, other in pairwise(inside):
        if other.start <= one.end:
            raise _refused(parent, f"has overlapping partitions {one.letter} and {other.letter}")
    for item in label.slices:
        apart = item.end < parent.start or item.start > parent.end
        if item.size and not apart and item not in inside and item.letter not in label.raw_letters:
            raise _refused(parent, f"has a partition {item.letter} that reaches beyond partition {parent.number}")


def numbered(label: Disklabel, parent: Partition, first: int) -> tuple[Mapping[int, Slice], int]:
    """What the kernel calls the slices when the next free number is `first`, and the next one after them.

    As parse_bsd() in block/partitions/msdos.c: in the order of their letters; the slice that is the whole partition
    has that one's number, and what does not lie within it has none. Of slices beyond the 16th the kernel knows nothing;
    they get the numbers that follow.
    """
    found: dict[int, Slice] = {}
    own = label.own(parent)
    for item in label.slices:
        if (item.start, item.size) == (parent.start, parent.size):
            number = parent.number
        elif not _inside(item, parent.start, parent.end):
            continue
        else:
            number, first = first, first + 1
        if item in own:
            found[number] = item
    return found, first


def first_number(numbers: tuple[int, ...]) -> int:
    """The number of the first slice, given those of the partition table: 5, or the one after the highest."""
    return max((_FIRST_NUMBER, *(number + 1 for number in numbers)))


def checksum(raw: bytes) -> int:
    """The XOR of all 16-bit words: 0 for a label with the right checksum in it."""
    total = 0
    for (word,) in struct.iter_unpack("<H", raw):
        total ^= word
    return total


def changed(label: Disklabel, *, fields: Mapping[int, tuple[int, int]], slices: Mapping[str, tuple[int, int]]) -> bytes:
    """The bytes of the label with other `fields` (offset -> length in bytes, number) and `slices` (start and size).

    Its checksum is right; letters that the label has no entry for are passed over.
    """
    raw = bytearray(label.raw)
    for offset, (length, number) in fields.items():
        raw[offset : offset + length] = number.to_bytes(length, "little")
    for letter, (start, size) in slices.items():
        at = _HEAD + _ENTRY * _LETTERS.index(letter)
        if at < len(raw):
            offset = start - label.base
            struct.pack_into("<II", raw, at, size & 0xFFFFFFFF, offset & 0xFFFFFFFF)
            if _is_wide(label):
                struct.pack_into("<HH", raw, at + 8, offset >> 32, size >> 32)
    raw[_CHECKSUM_AT : _CHECKSUM_AT + 2] = bytes(2)
    raw[_CHECKSUM_AT : _CHECKSUM_AT + 2] = checksum(bytes(raw)).to_bytes(2, "little")
    return bytes(raw)


def _slices(label: Disklabel) -> Iterator[Slice]:
    for letter, at in zip(_LETTERS, range(_HEAD, len(label.raw), _ENTRY), strict=False):
        size, start, start_high, size_high, kind = struct.unpack_from("<IIHHB", label.raw, at)
        if _is_wide(label):
            start, size = start | start_high << 32, size | size_high << 32
        if kind != UNUSED:
            yield Slice(letter, start + label.base, size, kind)


def _is_wide(label: Disklabel) -> bool:
    """Whether offsets and sizes have 48 bits: OpenBSD's labels of d_version 1, which others have not had since 4.0."""
    return label.family is OsFamily.OPENBSD and label.raw[114:116] != bytes(2)


def _inside(item: Slice, start: int, end: int) -> bool:
    return start <= item.start and item.end <= end


def _refused(parent: Partition, why: str) -> GuestError:
    return GuestError(f"the disklabel in partition {parent.number} {why}; repair it with disklabel(8) in the image")
