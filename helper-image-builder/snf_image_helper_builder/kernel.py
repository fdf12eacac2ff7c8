# SPDX-License-Identifier: GPL-2.0-or-later
"""Take the kernel proper out of a Debian vmlinuz, so that QEMU starts it directly (PVH), unpacked.

Sources: Documentation/arch/x86/boot.rst (setup header), xen/include/public/elfnote.h, elf(5).
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from snf_image_shared.process import run

_ZSTD = b"\x28\xb5\x2f\xfd"
_XZ = b"\xfd7zXZ\x00"
_GZIP = b"\x1f\x8b"
_PT_NOTE = 4
_PHYS32_ENTRY = 18


def write_bootable_kernel(vmlinuz: Path, destination: Path) -> bool:
    """Write the PVH kernel inside `vmlinuz`, or `vmlinuz` itself where there is none. Says whether it is PVH.

    Raises OSError, and ProcessError when zstd fails.
    """
    compressed = payload(vmlinuz.read_bytes())
    kernel = _decompressed(compressed, destination) if compressed else b""
    pvh = has_pvh_entry(kernel)
    destination.write_bytes(kernel if pvh else vmlinuz.read_bytes())
    return pvh


def payload(bzimage: bytes) -> bytes:
    """The compressed kernel inside a bzImage, without the four bytes of its size; empty when this is no bzImage."""
    if bzimage[0x202:0x206] != b"HdrS" or len(bzimage) < 0x250:
        return b""
    (boot_protocol,) = struct.unpack_from("<H", bzimage, 0x206)
    if boot_protocol < 0x0208:
        return b""
    setup_sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    content = bzimage[start : start + length]
    # The kernel's build appends the uncompressed size to every format but gzip, where it already is the trailer.
    return content if content.startswith(_GZIP) else content[:-4]


def has_pvh_entry(elf: bytes) -> bool:
    """Whether this 64-bit little-endian ELF carries the Xen note that names a 32-bit physical entry point."""
    if elf[:6] != b"\x7fELF\x02\x01" or len(elf) < 64:
        return False
    (table,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    for number in range(count):
        at = table + number * size
        if at + 56 > len(elf):
            return False
        (kind,) = struct.unpack_from("<I", elf, at)
        offset, length = struct.unpack_from("<Q", elf, at + 8)[0], struct.unpack_from("<Q", elf, at + 32)[0]
        if kind == _PT_NOTE and (b"Xen", _PHYS32_ENTRY) in _notes(elf[offset : offset + length]):
            return True
    return False


def _notes(segment: bytes) -> Iterator[tuple[bytes, int]]:
    at = 0
    while at + 12 <= len(segment):
        name_size, content_size, kind = struct.unpack_from("<III", segment, at)
        yield segment[at + 12 : at + 12 + name_size].rstrip(b"\0"), kind
        at += 12 + _padded(name_size) + _padded(content_size)


def _padded(size: int) -> int:
    return (size + 3) & ~3


def _decompressed(content: bytes, scratch_beside: Path) -> bytes:
    """Empty for a compression that Debian does not use. zstd runs over files: Python 3.11 does not read it."""
    if content.startswith(_XZ):
        return lzma.LZMADecompressor().decompress(content)
    if content.startswith(_GZIP):
        return zlib.decompressobj(wbits=31).decompress(content)
    if not content.startswith(_ZSTD):
        return b""
    packed, unpacked = scratch_beside.with_suffix(".zst"), scratch_beside.with_suffix(".elf")
    try:
        packed.write_bytes(content)
        run(["zstd", "-q", "-d", "-f", "-o", str(unpacked), str(packed)])
        return unpacked.read_bytes()
    finally:
        packed.unlink(missing_ok=True)
        unpacked.unlink(missing_ok=True)
