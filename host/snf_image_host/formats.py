# SPDX-License-Identifier: GPL-2.0-or-later
"""What the first bytes of a file say it is: to refuse what was declared to be something else, never to interpret it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

FIRMWARE_MAGIC = b"GNTOVMF\0"  # superblock of Ganeti 4.0's firmware disk
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


def foreign_stream(head: bytes) -> Kind | None:
    """What begins with `head` that another OS provider's export may have written, or None for what may be a disk.

    A raw disk of data may begin with anything its tenant likes, so this alone is no reason to refuse a stream.
    """
    kind = recognise(head)
    if kind is not None:
        return None if kind is _LUKS else kind
    for order in ("<", ">"):
        # dump(8), protocols/dumprestore.h: a first record of type TS_TAPE, and a magic number 24 bytes into it.
        if len(head) >= 28 and struct.unpack_from(f"{order}i20xi", head) in _DUMPS:
            return Kind("a dump(8) of a file system", _UNPACK)
    if head.startswith((b"xFSdump0", b"070701", b"070702")):
        return Kind("a dump of XFS" if head.startswith(b"x") else "a cpio archive", _UNPACK)
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


_UNPACK = "unpack it and publish the disk image that is inside"
_LUKS = Kind("an encrypted LUKS volume", "publish the decrypted disk")
_DUMPS = frozenset((1, magic) for magic in (60011, 60012, 0x19540119))  # old, new, and FreeBSD's for UFS2
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
    (0, b"LUKS\xba\xbe", _LUKS),
    (0, b"\x1f\x8b\x08", _compressed("gzip")),
    (0, b"\x1f\x9d", _compressed("compress")),
    (0, b"\xfd7zXZ\x00", _compressed("xz")),
    (0, b"\x28\xb5\x2f\xfd", _compressed("zstd")),
    (0, b"\x04\x22\x4d\x18", _compressed("lz4")),
    (0, b"\x02\x21\x4c\x18", _compressed("lz4")),
    (0, b"\x89LZO\x00\r\n\x1a\n", _compressed("lzop")),
    (0, b"PK\x03\x04", Kind("a zip archive", _UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", _UNPACK)),
    (257, b"ustar", Kind("a tar archive", _UNPACK)),
)
