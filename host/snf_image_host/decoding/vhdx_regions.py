# SPDX-License-Identifier: GPL-2.0-or-later
"""The outer layers of a VHDX image: its two headers, its two tables of regions, and its metadata items.

Layout: [MS-VHDX] Virtual Hard Disk v2 File Format. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from uuid import UUID

from snf_image_host.decoding.checks import Check, Stored, enforce
from snf_image_shared.errors import ImageError

_KIB, _MIB = 1 << 10, 1 << 20
_NOTHING = bytes(16)
_HEADERS_AT, _HEADER_LENGTH = (64 * _KIB, 128 * _KIB), 4 * _KIB
_TABLES_AT, _TABLE_LENGTH = (192 * _KIB, 256 * _KIB), 64 * _KIB
_MOST_ENTRIES = 2047
_HEADER = struct.Struct("<4sIQ16s16s16sHHIQ")
_TABLE = struct.Struct("<4sIII")
_REGION = struct.Struct("<16sQII")
_ITEMS = struct.Struct("<8sHH20x")
_ITEM = struct.Struct("<16sIII4x")
_IS_REQUIRED = 4  # of an item's flags
_LONGEST_ITEM = 16  # bytes of those that are read


def _guid(text: str) -> bytes:
    return UUID(text).bytes_le


BLOCKS = _guid("2dc27766-f623-4200-9d64-115e9bfd4a08")  # the BAT
_METADATA = _guid("8b7ca206-4790-4b9a-b8fe-575f050f886e")
FILE_PARAMETERS = _guid("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
DISK_SIZE = _guid("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
SECTOR_SIZE = _guid("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PARENT = _guid("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
_KNOWN_ITEMS = {
    FILE_PARAMETERS: 8,
    DISK_SIZE: 8,
    SECTOR_SIZE: 4,
    PARENT: None,
    _guid("cda348c7-445d-4471-9cc9-e9885251c556"): 4,  # the physical sector's size
    _guid("beca12ab-b2e6-4523-93ef-c309e000c746"): 16,  # the disk's own id
}


@dataclass(frozen=True)
class Header:
    """The newer one of the two."""

    signature: bytes
    checksum: int
    sequence: int
    file_writer: bytes
    data_writer: bytes
    log: bytes
    log_version: int
    version: int
    log_length: int
    log_at: int


HEADER_CHECKS: tuple[Check[Header], ...] = (
    Check("vhdx-version", lambda h: h.version == 1, "is a VHDX image of version {0.version}, not 1"),
    Check(
        "vhdx-log",
        lambda h: h.log == _NOTHING,
        "was not closed by its writer, and has a log to be replayed: shut the machine down and export it, "
        "or run 'qemu-img check -r all' on a copy",
    ),
)


@dataclass(frozen=True)
class Region:
    """Where something lies in the file, in bytes."""

    offset: int
    length: int


def read_header(stored: Stored) -> Header:
    """The header in force. Raises ImageError."""
    if stored.read(0, 8, "signature") != b"vhdxfile":
        raise ImageError("is no VHDX image (check vhdx-signature)")
    valid = []
    for at in _HEADERS_AT:
        text = stored.read(at, _HEADER_LENGTH, "header")
        header = Header(*_HEADER.unpack_from(text))
        if header.signature == b"head" and header.checksum == _checksum(text):
            valid.append(header)
    if not valid or len({header.sequence for header in valid}) != len(valid):
        raise ImageError("has no header that is whole: it is damaged; publish it again (check vhdx-header)")
    header = max(valid, key=lambda header: header.sequence)
    enforce(HEADER_CHECKS, header)
    return header


def read_regions(stored: Stored) -> tuple[Region, Region]:
    """The table of blocks, and the metadata. Raises ImageError."""
    for at in _TABLES_AT:
        text = stored.read(at, _TABLE_LENGTH, "table of regions")
        signature, checksum, count, _ = _TABLE.unpack_from(text)
        if signature == b"regi" and count <= _MOST_ENTRIES and checksum == _checksum(text):
            return _regions([_REGION.unpack_from(text, _TABLE.size + n * _REGION.size) for n in range(count)])
    raise ImageError("has no table of regions that is whole: it is damaged; publish it again (check vhdx-regions)")


def _regions(entries: list[tuple[bytes, int, int, int]]) -> tuple[Region, Region]:
    found: dict[bytes, Region] = {}
    end = _MIB
    for guid, offset, length, is_required in sorted(entries, key=lambda entry: entry[1]):
        if offset < end or offset % _MIB or length % _MIB or not length or guid in found:
            raise ImageError(f"has a region of {length} bytes at byte {offset}, where none can be (check vhdx-regions)")
        if guid not in {BLOCKS, _METADATA} and is_required & 1:
            raise ImageError(f"has the unknown region {UUID(bytes_le=guid)} (check vhdx-regions)")
        end = offset + length
        found[guid] = Region(offset, length)
    if not {BLOCKS, _METADATA} <= found.keys():
        raise ImageError("has no table of blocks, or no metadata (check vhdx-regions)")
    return found[BLOCKS], found[_METADATA]


def read_items(stored: Stored, region: Region) -> dict[bytes, bytes]:
    """The metadata items by their id, as they are stored. Raises ImageError."""
    table = stored.read(region.offset, _TABLE_LENGTH, "metadata")
    signature, _, count = _ITEMS.unpack_from(table)
    if signature != b"metadata" or count > _MOST_ENTRIES:
        raise ImageError(f"has metadata with {count} items that cannot be read (check vhdx-metadata)")
    items: dict[bytes, bytes] = {}
    for number in range(count):
        guid, offset, length, flags = _ITEM.unpack_from(table, _ITEMS.size + number * _ITEM.size)
        if guid not in _KNOWN_ITEMS:
            if flags & _IS_REQUIRED:
                raise ImageError(f"has the unknown metadata item {UUID(bytes_le=guid)} (check vhdx-metadata)")
            continue
        is_inside = offset >= _TABLE_LENGTH and offset + length <= region.length
        if guid in items or not is_inside or _KNOWN_ITEMS[guid] not in {None, length}:
            raise ImageError(f"has a metadata item of {length} bytes at {offset} (check vhdx-metadata)")
        items[guid] = stored.read(region.offset + offset, min(length, _LONGEST_ITEM), "metadata item")
    return items


def _checksum(text: bytes) -> int:
    """CRC-32C of a structure whose second word is the checksum itself, taken as zeros."""
    table = _crc_table()
    value = 0xFFFFFFFF
    for byte in (*text[:4], 0, 0, 0, 0, *text[8:]):
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901 - a register
        table.append(value)
    return tuple(table)
