# SPDX-License-Identifier: GPL-2.0-or-later
"""A VHDX image, before QEMU sees it: is it one whole disk, closed by its writer, and is all of it there?

Layout: [MS-VHDX] Virtual Hard Disk v2 File Format. All numbers are little-endian.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from snf_image_host.decoding.checks import Check, Stored, enforce
from snf_image_host.decoding.vhdx_regions import (
    DISK_SIZE,
    FILE_PARAMETERS,
    PARENT,
    SECTOR_SIZE,
    Region,
    read_header,
    read_items,
    read_regions,
)
from snf_image_shared.errors import ImageError

_MIB = 1 << 20
_HAS_PARENT = 2  # of the file parameters' flags
_MOST_BLOCKS = 4 << 20
_LARGEST = 64 << 40
_ABSENT, _PRESENT = frozenset((0, 1, 2, 3)), 6  # states of a block: the absent ones read as zeros
_PIECE = 1 << 20  # bytes of the table looked at in one go


@dataclass(frozen=True)
class Parameters:
    """What the metadata say, in bytes. An item that is not there is 0."""

    block_size: int
    flags: int
    disk_size: int
    sector_size: int
    has_locator: bool

    @property
    def blocks(self) -> int:
        return -(-self.disk_size // self.block_size)

    @property
    def chunk(self) -> int:
        """Blocks in the table between two entries for bitmaps, which only differences have."""
        return (self.sector_size << 23) // self.block_size

    @property
    def entries(self) -> int:
        """All entries of the table."""
        return self.blocks + (self.blocks - 1) // self.chunk


CHECKS: tuple[Check[Parameters], ...] = (
    Check(
        "vhdx-parent",
        lambda p: not p.flags & _HAS_PARENT and not p.has_locator,
        "is the difference to another VHDX image: merge it with that",
    ),
    Check(
        "vhdx-sector-size",
        lambda p: p.sector_size == 512,
        "has sectors of {0.sector_size} bytes, but an instance's disk has 512: convert it to 512-byte sectors",
    ),
    Check(
        "vhdx-block-size",
        lambda p: _MIB <= p.block_size <= 256 * _MIB and not p.block_size & (p.block_size - 1),
        "has blocks of {0.block_size} bytes",
    ),
    Check(
        "vhdx-size",
        lambda p: 0 < p.disk_size <= _LARGEST and p.disk_size % 512 == 0 and p.blocks <= _MOST_BLOCKS,
        "is a disk of {0.disk_size} bytes",
    ),
)


def inspect_vhdx(fd: int) -> int:
    """Bytes of the disk. Raises ImageError."""
    stored = Stored.open(fd)
    read_header(stored)
    blocks, metadata = read_regions(stored)
    items = read_items(stored, metadata)
    parameters = Parameters(
        block_size=_number(items, FILE_PARAMETERS, slice(0, 4)),
        flags=_number(items, FILE_PARAMETERS, slice(4, 8)),
        disk_size=_number(items, DISK_SIZE, slice(0, 8)),
        sector_size=_number(items, SECTOR_SIZE, slice(0, 4)),
        has_locator=PARENT in items,
    )
    enforce(CHECKS, parameters)
    _check_blocks(stored, parameters, blocks)
    return parameters.disk_size


def _number(items: dict[bytes, bytes], guid: bytes, part: slice) -> int:
    return int.from_bytes(items.get(guid, b"")[part], "little")


def _check_blocks(stored: Stored, parameters: Parameters, region: Region) -> None:
    """Raise ImageError unless every block lies in the file, whole, and none is shared."""
    if region.length < 8 * parameters.entries:
        raise ImageError(f"has a table of {region.length} bytes for {parameters.entries} blocks (check vhdx-table)")
    seen = set[int]()
    for first in range(0, parameters.entries, _PIECE // 8):
        count = min(_PIECE // 8, parameters.entries - first)
        text = stored.read(region.offset + 8 * first, 8 * count, "table of blocks")
        for number, entry in enumerate(array("Q", text), first):
            if (number + 1) % (parameters.chunk + 1):  # the others are for bitmaps
                _check_block(stored, parameters, entry, seen)


def _check_block(stored: Stored, parameters: Parameters, entry: int, seen: set[int]) -> None:
    state, offset = entry & 7, (entry >> 20) * _MIB
    if state in _ABSENT:
        return
    if state != _PRESENT:
        raise ImageError(f"has a block in state {state}, which only differences have (check vhdx-block-state)")
    if offset < _MIB or offset in seen:
        raise ImageError(f"has two things at byte {offset} (check vhdx-blocks-apart)")
    if offset + parameters.block_size > stored.size:
        raise ImageError(
            f"needs {offset + parameters.block_size} bytes for the block at byte {offset}, and has {stored.size}: "
            "it is cut short or damaged; publish it again (check vhdx-blocks-inside)"
        )
    seen.add(offset)
