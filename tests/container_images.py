# SPDX-License-Identifier: GPL-2.0-or-later
"""VMDK, VDI and VHDX images that are wrong in one place: real ones, made by qemu-img once, with bytes exchanged."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path

KIB, MIB = 1 << 10, 1 << 20
SIZE = 3 * MIB + 512

VMDK = {  # field -> place and format (VMware, Virtual Disk Format 5.0)
    "magic": (0, "4s"),
    "version": (4, "<I"),
    "flags": (8, "<I"),
    "capacity": (12, "<Q"),
    "grain": (20, "<Q"),
    "descriptor_at": (28, "<Q"),
    "descriptor_length": (36, "<Q"),
    "table": (44, "<I"),
    "directory_at": (56, "<Q"),
    "unclean": (72, "<B"),
    "newlines": (73, "4s"),
    "compression": (77, "<H"),
}
VDI = {  # VirtualBox, VDICore.h
    "signature": (64, "<I"),
    "version": (68, "<I"),
    "kind": (76, "<I"),
    "map_at": (340, "<I"),
    "blocks_at": (344, "<I"),
    "sector_size": (360, "<I"),
    "disk_size": (368, "<Q"),
    "block_size": (376, "<I"),
    "block_extra": (380, "<I"),
    "blocks": (384, "<I"),
    "link": (424, "16s"),
    "parent": (440, "16s"),
}


@cache
def made(driver: str, options: str) -> bytes:
    """A small image by qemu-img, with data at its start and in its last sector."""
    with tempfile.TemporaryDirectory() as directory:
        raw, image = Path(directory, "raw"), Path(directory, "image")
        raw.write_bytes((b"data" * (70 * KIB)).ljust(SIZE - 512, b"\0") + b"end." * 128)
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", driver, "-o", options, raw, image], check=True)
        return image.read_bytes()


def sparse() -> bytes:
    return made("vmdk", "subformat=monolithicSparse")


def stream() -> bytes:
    return made("vmdk", "subformat=streamOptimized")


def vdi() -> bytes:
    return made("vdi", "static=off")


def vhdx() -> bytes:
    return made("vhdx", "subformat=dynamic,block_size=1M")


def with_fields(image: bytes, layout: dict[str, tuple[int, str]], **values: int | bytes) -> bytes:
    """The image with those fields of its header exchanged."""
    changed = bytearray(image)
    for name, value in values.items():
        place, form = layout[name]
        struct.pack_into(form, changed, place, value)
    return bytes(changed)


def with_bytes(image: bytes, place: int, data: bytes) -> bytes:
    """The image with bytes exchanged; it grows if they lie behind its end."""
    return image[:place].ljust(place, b"\0") + data + image[place + len(data) :]


def with_text(image: bytes, *changes: tuple[bytes, bytes]) -> bytes:
    """A VMDK image with words of its descriptor exchanged."""
    length = struct.unpack_from("<Q", image, 36)[0] * 512
    text = image[512 : 512 + length].rstrip(b"\0")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    assert len(text) <= length
    return with_bytes(image, 512, text.ljust(length, b"\0"))


def with_footer(image: bytes, **values: int | bytes) -> bytes:
    """A VMDK stream as VMware writes one: the directory's place is in a footer, whose fields may be exchanged."""
    directory = struct.unpack_from("<Q", image, VMDK["directory_at"][0])[0]
    header = with_fields(image[:512], VMDK, directory_at=(1 << 64) - 1)
    footer = with_fields(header, VMDK, **{"directory_at": directory, **values})
    marker = struct.pack("<QII", 1, 0, 3).ljust(512, b"\0")
    return header + image[512:] + marker + footer + bytes(512)


def _crc(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 * (byte & 1))
    return byte


_CRCS = [_crc(byte) for byte in range(256)]


def crc32c(data: bytes) -> int:
    """The checksum of VHDX structures."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRCS[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def checked(image: bytes, place: int, length: int) -> bytes:
    """The image with the checksum of the VHDX structure at that place made right."""
    structure = with_bytes(image[place : place + length], 4, bytes(4))
    return with_bytes(image, place + 4, struct.pack("<I", crc32c(structure)))


HEADERS, HEADER_LENGTH = (64 * KIB, 128 * KIB), 4 * KIB
REGIONS, REGIONS_LENGTH = (192 * KIB, 256 * KIB), 64 * KIB


def with_header(image: bytes, offset: int, data: bytes, *, number: int | None = None) -> bytes:
    """A VHDX image with bytes of both headers, or of one, exchanged."""
    for at in HEADERS if number is None else HEADERS[number : number + 1]:
        image = checked(with_bytes(image, at + offset, data), at, HEADER_LENGTH)
    return image


def with_regions(image: bytes, offset: int, data: bytes) -> bytes:
    """A VHDX image with bytes of its tables of regions exchanged; entries begin at 16 and have 32 bytes."""
    for at in REGIONS:
        image = checked(with_bytes(image, at + offset, data), at, REGIONS_LENGTH)
    return image


def region(image: bytes, guid: str) -> tuple[int, int]:
    """Where the entry of a region stands in its table, and where the region lies in the file."""
    at = image.index(bytes.fromhex(guid), REGIONS[0])
    return at - REGIONS[0], struct.unpack_from("<Q", image, at + 16)[0]


BLOCKS = "6677c22d23f600429d64115e9bfd4a08"  # GUIDs as they are stored
METADATA = "06a27c8b90479a4bb8fe575f050f886e"
FILE_PARAMETERS = "3767a1ca36fa434db3b633f0aa44e76b"
DISK_SIZE = "2442a52f1bcd7648b2115dbed83bf4b8"
SECTOR_SIZE = "1dbf41816fa90947ba47f233a8faab5f"
PHYSICAL = "c748a3cd5d4471449cc9e9885251c556"
PARENT = "2d5fd3a80bb34d45abf7d3d84834ab0c"


def with_item(image: bytes, guid: str, data: bytes, *, skip: int = 0) -> bytes:
    """A VHDX image with bytes of a metadata item exchanged."""
    _, metadata = region(image, METADATA)
    entry = image.index(bytes.fromhex(guid), metadata)
    offset = struct.unpack_from("<I", image, entry + 16)[0]
    return with_bytes(image, metadata + offset + skip, data)


def with_entry(image: bytes, guid: str, data: bytes, *, skip: int = 0) -> bytes:
    """A VHDX image with bytes of a metadata item's entry exchanged: GUID, offset, length, flags."""
    _, metadata = region(image, METADATA)
    return with_bytes(image, image.index(bytes.fromhex(guid), metadata) + skip, data)
