# SPDX-License-Identifier: GPL-2.0-or-later
"""A VDI image, before QEMU sees it: is it one whole disk of its own, and is all of it there?

Layout: VirtualBox, src/VBox/Storage/VDICore.h; QEMU, block/vdi.c. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass

from snf_image_host.decoding.checks import Check, Stored, enforce
from snf_image_shared.errors import ImageError

_HEADER = struct.Struct("<IIIII256sIIIIIIIQIIII16s16s16s16s")  # from byte 64 on
_HEADER_AT = 64
_DYNAMIC, _FIXED = 1, 2
_NOTHING = bytes(16)
_BLOCK = 1 << 20  # QEMU reads no other size, and nobody writes one
_MOST_BLOCKS = (64 << 40) // _BLOCK
_FREE = 0xFFFFFFFE  # this or above: a block that reads as zeros
_PIECE = 1 << 20  # bytes of the map looked at in one go


@dataclass(frozen=True)
class Header:
    """What the file says of itself. Offsets and sizes in bytes."""

    signature: int
    version: int
    length: int
    kind: int
    flags: int
    comment: bytes
    map_at: int
    blocks_at: int
    cylinders: int
    heads: int
    sectors: int
    sector_size: int
    unused: int
    disk_size: int
    block_size: int
    block_extra: int
    blocks: int
    allocated: int
    own: bytes
    last_snapshot: bytes
    link: bytes
    parent: bytes


CHECKS: tuple[Check[Header], ...] = (
    Check("vdi-signature", lambda h: h.signature == 0xBEDA107F, "is no VDI image"),
    Check("vdi-version", lambda h: h.version == 0x10001, "is a VDI image of version {0.version:#x}, not 1.1"),
    Check(
        "vdi-type",
        lambda h: h.kind in {_DYNAMIC, _FIXED},
        "is a VDI image of type {0.kind}: a snapshot or difference cannot be used alone; clone it with its parents",
    ),
    Check(
        "vdi-parent",
        lambda h: h.link == h.parent == _NOTHING,
        "is a VDI image that has a parent: clone it together with that",
    ),
    Check("vdi-sector-size", lambda h: h.sector_size == 512, "has sectors of {0.sector_size} bytes, not 512"),
    Check(
        "vdi-block-size",
        lambda h: h.block_size == _BLOCK and h.block_extra == 0,
        "has blocks of {0.block_size} bytes with {0.block_extra} beside each, not of 1 MiB: clone it",
    ),
    Check(
        "vdi-offsets",
        lambda h: h.map_at % 512 == 0 and h.blocks_at % 512 == 0 and h.map_at >= 512,
        "has its map at byte {0.map_at} and its blocks at byte {0.blocks_at}, which are no sectors",
    ),
    Check("vdi-size", lambda h: h.disk_size > 0, "is an empty disk"),
    Check(
        "vdi-blocks",
        lambda h: h.blocks == -(-h.disk_size // _BLOCK) and h.blocks <= _MOST_BLOCKS,
        "has {0.blocks} blocks for a disk of {0.disk_size} bytes",
    ),
    Check(
        "vdi-map",
        lambda h: h.map_at + 4 * h.blocks <= h.blocks_at,
        "has a map of {0.blocks} blocks at byte {0.map_at} that runs into the blocks at byte {0.blocks_at}",
    ),
)


def inspect_vdi(fd: int) -> int:
    """Bytes of the disk, whole sectors. Raises ImageError."""
    stored = Stored.open(fd)
    header = Header(*_HEADER.unpack(stored.read(_HEADER_AT, _HEADER.size, "header")))
    enforce(CHECKS, header)
    _check_map(stored, header)
    return -(-header.disk_size // 512) * 512


def _check_map(stored: Stored, header: Header) -> None:
    """Raise ImageError unless every block lies in the file: behind its end QEMU would read zeros without a word."""
    last = header.blocks - 1
    for first in range(0, header.blocks, _PIECE // 4):
        count = min(_PIECE // 4, header.blocks - first)
        entries = array("I", stored.read(header.map_at + 4 * first, 4 * count, "map of blocks"))
        if first + count == header.blocks:  # the last block of the disk may be there in part
            _check_block(stored, header, entries.pop(), header.disk_size - last * _BLOCK)
        used = [entry for entry in entries if entry < _FREE] if max(entries, default=0) >= _FREE else entries
        _check_block(stored, header, max(used, default=_FREE), _BLOCK)


def _check_block(stored: Stored, header: Header, entry: int, length: int) -> None:
    end = header.blocks_at + entry * _BLOCK + length
    if entry < _FREE and end > stored.size:
        raise ImageError(
            f"needs {end} bytes for its block {entry}, and has {stored.size}: it is cut short or damaged; "
            "publish it again (check vdi-blocks-inside)"
        )
