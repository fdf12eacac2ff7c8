# SPDX-License-Identifier: GPL-2.0-or-later
"""BSD disklabels as the tests write and read them: a second implementation, that knows nothing of the helper's.

Fields and their places: sys/sys/disklabel.h of NetBSD and OpenBSD, sys/sys/disk/bsd.h of FreeBSD.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum

MAGIC = 0x82564557
SWAP, FFS, MSDOS = 1, 7, 8
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

_HEAD = "<IHH16s16s6I"  # magic to secperunit
_CLASSIC = "HHI4H3I20s20s"  # spares, alternate cylinders, rpm, skews, timings, flags, drive data, spare
_OPENBSD = "8sIHHIII20sHH16s"  # d_uid, acylinders, bstarth, bendh, bstart, bend, flags, spare4, secperunith, version
_TAIL = "IHHII"  # magic, checksum, npartitions, boot area, superblock
_CLASSIC_SLICE, _OPENBSD_SLICE = "<IIIBBH", "<IIHHBBH"


class System(StrEnum):
    """Whose label it is."""

    FREEBSD = "freebsd"
    NETBSD = "netbsd"
    OPENBSD = "openbsd"


@dataclass(frozen=True)
class Slice:
    """`start` and `size` in sectors, as the label has them; `kind` is p_fstype."""

    start: int
    size: int
    kind: int
    fragment: int = 2048
    per_block: int = 8


@dataclass(frozen=True)
class Label:
    """`slices` by letter. `begin` and `end` are OpenBSD's bounds, `uid` its DUID in hexadecimal."""

    system: System
    total: int
    slices: dict[str, Slice]
    heads: int
    track: int
    cylinders: int
    count: int = 16
    begin: int = 0
    end: int = 0
    uid: str = "0" * 16
    version: int = 1

    def encode(self) -> bytes:
        """The bytes of the label with its checksum."""
        low = self.total & 0xFFFFFFFF
        cylinder = self.heads * self.track
        geometry = (512, self.track, self.heads, self.cylinders, cylinder, low)
        head = (MAGIC, 4, 0, b"phony", b"fictitious", *geometry)
        middle: tuple[int | bytes, ...] = (0, 0, 0, 3600, 1, 0, 0, 0, 0, 0, b"", b"")
        if self.system is System.OPENBSD:
            bounds = (self.begin >> 32, self.end >> 32, self.begin & 0xFFFFFFFF, self.end & 0xFFFFFFFF)
            middle = (bytes.fromhex(self.uid), 0, *bounds, 0, b"", self.total >> 32, self.version, b"")
        form = _HEAD + (_OPENBSD if self.system is System.OPENBSD else _CLASSIC) + _TAIL
        fields = (*head, *middle, MAGIC, 0, self.count, 8192, 65536)
        raw = bytearray(struct.pack(form, *fields))
        for letter in LETTERS[: self.count]:
            raw += self._slice(self.slices.get(letter, Slice(0, 0, 0, 0, 0)))
        struct.pack_into("<H", raw, 136, checksum(bytes(raw)))
        return bytes(raw)

    def _slice(self, item: Slice) -> bytes:
        if self.system is not System.OPENBSD:
            return struct.pack(_CLASSIC_SLICE, item.size, item.start, item.fragment, item.kind, item.per_block, 0)
        # DISKLABELV1_FFS_FRAGBLOCK: log2 of the block less 12, times 8, and log2 of its fragments plus 1
        block = item.fragment * item.per_block
        code = ((block.bit_length() - 13) << 3) | item.per_block.bit_length() if block else 0
        high = (item.start >> 32, item.size >> 32)
        low = (item.size & 0xFFFFFFFF, item.start & 0xFFFFFFFF)
        return struct.pack(_OPENBSD_SLICE, *low, *high, item.kind, code, 1)


def checksum(raw: bytes) -> int:
    """The XOR of all 16-bit words; 0 for a label that holds its own."""
    total = 0
    for (word,) in struct.iter_unpack("<H", raw):
        total ^= word
    return total


def decode(raw: bytes, system: System) -> Label:
    """Read a label. Raises AssertionError for one that its own system would not take."""
    magic, _, _, _, _, size, track, heads, cylinders, cylinder, low = struct.unpack_from(_HEAD, raw)
    second, _, count, _, _ = struct.unpack_from("<" + _TAIL, raw, 132)
    whole = raw[: 148 + 16 * count]
    assert (magic, second, size, cylinder) == (MAGIC, MAGIC, 512, heads * track)
    assert checksum(whole) == 0, "the checksum is wrong"
    if system is not System.OPENBSD:
        slices = {
            letter: Slice(start, length, kind, fragment, per_block)
            for letter, (length, start, fragment, kind, per_block, _) in zip(
                LETTERS, struct.iter_unpack(_CLASSIC_SLICE, whole[148:]), strict=False
            )
            if length
        }
        return Label(system, low, slices, heads, track, cylinders, count)
    uid, _, begin_high, end_high, begin, end, _, _, high, version, _ = struct.unpack_from("<" + _OPENBSD, raw, 64)
    found = {
        letter: Slice(start | start_high << 32, length | length_high << 32, kind, *_fragments(code))
        for letter, (length, start, start_high, length_high, kind, code, _) in zip(
            LETTERS, struct.iter_unpack(_OPENBSD_SLICE, whole[148:]), strict=False
        )
        if length or length_high
    }
    bounds = (begin | begin_high << 32, end | end_high << 32)
    return Label(system, low | high << 32, found, heads, track, cylinders, count, *bounds, uid.hex(), version)


def _fragments(code: int) -> tuple[int, int]:
    """Bytes of a fragment, and how many make a block."""
    if not code:
        return 0, 0
    per_block = 1 << ((code & 7) - 1)
    return (1 << ((code >> 3) + 12)) // per_block, per_block
