# SPDX-License-Identifier: GPL-2.0-or-later
"""What the first bytes of a file say it is: to refuse what was declared to be something else, never to interpret it."""

from __future__ import annotations

from dataclasses import dataclass

HEAD = 4608  # bytes that recognise() wants to see: a 4096-byte sector and the header in the next one

_DECOMPRESS = "decompress it and publish the result"
_CONVERT = "convert it with 'qemu-img convert -f {name} -O raw' and publish the result"


@dataclass(frozen=True)
class Kind:
    """`text` completes "it is …"; `cure` is what the publisher of the image does about it."""

    text: str
    cure: str


def recognise(head: bytes) -> Kind | None:
    """The container, archive or page that begins with `head`, or None for what may be the start of a disk."""
    for offset, magic, kind in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return kind
    text = head[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return Kind("a web page", "download the image again: a server answered with a page in its place")
    if text.startswith(b"# disk descriptorfile"):
        return _container("a VMDK descriptor", "vmdk")
    if head.startswith(b"BZh") and head[4:10] == b"\x31\x41\x59\x26\x53\x59":
        return _compressed("bzip2")
    if b"\x50" <= head[:1] <= b"\x5f" and head[1:4] == b"\x2a\x4d\x18":
        return _compressed("zstd or lz4")  # a skippable frame before the first real one
    return None


def gpt_sector_size(head: bytes) -> int | None:
    """Bytes per sector for which the GUID partition table at the start of a disk was made; None without one."""
    for size in (512, 4096):
        if head[size : size + 12] == b"EFI PART\x00\x00\x01\x00":
            return size
    return None


def _container(text: str, name: str) -> Kind:
    return Kind(text, _CONVERT.format(name=name))


def _compressed(name: str) -> Kind:
    return Kind(f"compressed ({name})", _DECOMPRESS)


_MAGICS: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"QFI\xfb", _container("a QCOW image", "qcow2")),
    (0, b"QED\x00", _container("a QED image", "qed")),
    (0, b"KDMV", _container("a VMDK image", "vmdk")),
    (0, b"COWD", _container("a VMDK image", "vmdk")),
    (0, b"vhdxfile", _container("a VHDX image", "vhdx")),
    (0, b"conectix", _container("a VHD image", "vpc")),
    (64, b"\x7f\x10\xda\xbe", _container("a VDI image", "vdi")),
    (0, b"WithoutFreeSpace", _container("a Parallels image", "parallels")),
    (0, b"WithouFreSpacExt", _container("a Parallels image", "parallels")),
    (0, b"LUKS\xba\xbe", Kind("an encrypted LUKS volume", "publish the decrypted disk")),
    (0, b"\x1f\x8b\x08", _compressed("gzip")),
    (0, b"\x1f\x9d", _compressed("compress")),
    (0, b"\xfd7zXZ\x00", _compressed("xz")),
    (0, b"\x28\xb5\x2f\xfd", _compressed("zstd")),
    (0, b"\x04\x22\x4d\x18", _compressed("lz4")),
    (0, b"\x02\x21\x4c\x18", _compressed("lz4")),
    (0, b"\x89LZO\x00\r\n\x1a\n", _compressed("lzop")),
    (0, b"PK\x03\x04", Kind("a zip archive", "unpack it and publish the disk image that is inside")),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", "unpack it and publish the disk image that is inside")),
    (257, b"ustar", Kind("a tar archive", "unpack it and publish the disk image that is inside")),
)
