# SPDX-License-Identifier: GPL-2.0-or-later
"""A VMDK image, before QEMU sees it: is it one whole disk in this one file, and is all of it there?

Layout: VMware, Virtual Disk Format 5.0. All numbers are little-endian; offsets count sectors of 512 bytes.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, replace

from snf_image_host.decoding.checks import Check, Stored, enforce
from snf_image_host.decoding.vmdk_descriptor import STREAM, Descriptor, parse_descriptor
from snf_image_shared.errors import ImageError

_SECTOR = 512
_HEADER = struct.Struct("<4sIIQQQQIQQQB4sH")
_NEWLINES, _REDUNDANT, _ZERO_GRAINS, _COMPRESSED, _MARKERS = 1 << 0, 1 << 1, 1 << 2, 1 << 16, 1 << 17
_KNOWN_FLAGS = _NEWLINES | _REDUNDANT | _ZERO_GRAINS | _COMPRESSED | _MARKERS
_AT_END = (1 << 64) - 1  # of the file, in the footer, is what stands for the directory's place
_DEFLATE = 1
_TABLE = 512  # entries of a grain table
_MOST_TABLES = 1 << 20
_LONGEST_DESCRIPTOR = 2047  # sectors, so less than 1 MiB
_MARKER = struct.Struct("<QII")  # sectors or position, bytes of what follows, type
_FOOTER_TYPE = 3
_END = 3 * _SECTOR  # bytes of the footer's marker, the footer, and the marker of the end


@dataclass(frozen=True)
class Header:
    """The first sector, or the footer."""

    magic: bytes
    version: int
    flags: int
    capacity: int
    grain: int
    descriptor_at: int
    descriptor_length: int
    table: int
    redundant_at: int
    directory_at: int
    overhead: int
    unclean: int
    newlines: bytes
    compression: int

    @property
    def is_compressed(self) -> bool:
        return bool(self.flags & _COMPRESSED)

    @property
    def tables(self) -> int:
        """How many grain tables the directory names."""
        return -(-self.capacity // (self.grain * _TABLE))


CHECKS: tuple[Check[Header], ...] = (
    Check("vmdk-magic", lambda h: h.magic == b"KDMV", "is no VMDK image"),
    Check("vmdk-version", lambda h: h.version in {1, 2, 3}, "is a VMDK image of version {0.version}, not 1 to 3"),
    Check("vmdk-flags", lambda h: not h.flags & ~_KNOWN_FLAGS, "is a VMDK image with unknown features ({0.flags:#x})"),
    Check("vmdk-capacity", lambda h: h.capacity > 0, "is a VMDK image of no size, whose data would be in other files"),
    Check(
        "vmdk-descriptor",
        lambda h: h.descriptor_at == 1 and 0 < h.descriptor_length <= _LONGEST_DESCRIPTOR,
        "is a VMDK image with {0.descriptor_length} sectors of descriptor at sector {0.descriptor_at}, not at sector 1",
    ),
    Check(
        "vmdk-newlines",
        lambda h: h.newlines == b"\n \r\n",
        "was changed by a transfer that takes it for text: publish it again",
    ),
    Check("vmdk-unclean", lambda h: not h.unclean, "was not closed by its writer: shut the machine down and export it"),
    Check(
        "vmdk-grain",
        lambda h: 8 <= h.grain <= 2048 and not h.grain & (h.grain - 1) and h.table == _TABLE,
        "is a VMDK image with grains of {0.grain} sectors, {0.table} in a table",
    ),
    Check(
        "vmdk-compression",
        lambda h: (bool(h.flags & _MARKERS), h.compression) == (h.is_compressed, _DEFLATE if h.is_compressed else 0),
        "is a VMDK image with compression {0.compression}, which its features {0.flags:#x} do not agree with",
    ),
    Check(
        "vmdk-size", lambda h: h.tables <= _MOST_TABLES, "is a VMDK image of {0.capacity} sectors, which is too large"
    ),
    Check(
        "vmdk-directory",
        lambda h: h.directory_at != _AT_END or h.is_compressed,
        "is a VMDK image without a directory",
    ),
)


def inspect_vmdk(fd: int) -> int:
    """Bytes of the disk. Raises ImageError."""
    stored = Stored.open(fd)
    header = _header(stored.read(0, _HEADER.size, "header"))
    enforce(CHECKS, header)
    text = stored.read(_SECTOR, header.descriptor_length * _SECTOR, "descriptor")
    _check_agreement(header, parse_descriptor(text))
    if header.directory_at == _AT_END:
        header = _footer(stored, header)
    _check_grains(stored, header)
    return header.capacity * _SECTOR


def _header(sector: bytes) -> Header:
    return Header(*_HEADER.unpack_from(sector))


def _check_agreement(header: Header, descriptor: Descriptor) -> None:
    if header.is_compressed != (descriptor.create_type == STREAM):
        raise ImageError(
            f"says {descriptor.create_type} in its descriptor, and its features {header.flags:#x} do not agree "
            "(check vmdk-agreement)"
        )
    if -(-descriptor.sectors // header.grain) != -(-header.capacity // header.grain):
        raise ImageError(
            f"has {header.capacity} sectors by its header and {descriptor.sectors} by its descriptor "
            "(check vmdk-agreement)"
        )


def _footer(stored: Stored, header: Header) -> Header:
    """The header again, with the directory's place. It is at the end of the file, before a marker that says so."""
    end = stored.read(stored.size - _END, _END, "footer")
    marker, footer = _MARKER.unpack_from(end), _header(end[_SECTOR:])
    if marker != (1, 0, _FOOTER_TYPE) or any(end[_MARKER.size : _SECTOR]) or any(end[2 * _SECTOR :]):
        raise ImageError("does not end as a VMDK stream does: it is cut short; publish it again (check vmdk-footer)")
    if footer.directory_at == _AT_END or replace(footer, directory_at=_AT_END) != header:
        raise ImageError("has a footer that says something else than its header (check vmdk-footer)")
    return footer


def _check_grains(stored: Stored, header: Header) -> None:
    """Raise ImageError unless every grain lies in the file: behind its end QEMU would read zeros without a word."""
    directory = array("I", stored.read(header.directory_at * _SECTOR, 4 * header.tables, "directory"))
    last_table = directory[-1]
    highest, tail = 0, 0
    for table in {*directory, last_table} - {0}:
        grains = array("I", stored.read(table * _SECTOR, 4 * _TABLE, "table of grains"))
        if table == last_table:
            last = (header.capacity - 1) // header.grain % _TABLE
            tail = grains[last]  # the last grain of the disk may be there in part
            grains[last] = 0
        highest = max(highest, *grains)
    if header.is_compressed:
        _check_compressed(stored, max(highest, tail))
    else:
        rest = (header.capacity - 1) % header.grain + 1
        _check_end(stored, highest, (highest + header.grain) * _SECTOR)
        _check_end(stored, tail, (tail + rest) * _SECTOR)


def _check_compressed(stored: Stored, grain: int) -> None:
    if grain > 1:
        _, length, _ = _MARKER.unpack(stored.read(grain * _SECTOR, _MARKER.size, "last grain"))
        _check_end(stored, grain, grain * _SECTOR + 12 + length)


def _check_end(stored: Stored, grain: int, end: int) -> None:
    """0 is no grain, and 1 one of zeros."""
    if grain > 1 and end > stored.size:
        raise ImageError(
            f"needs {end} bytes for the grain at sector {grain}, and has {stored.size}: it is cut short or damaged; "
            "publish it again (check vmdk-grains-inside)"
        )
