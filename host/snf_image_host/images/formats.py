# SPDX-License-Identifier: GPL-2.0-or-later
"""What the first bytes of a file say it is: to refuse what was declared to be something else, never to interpret it.

Magic numbers, each at its place, and nothing behind them. Also the unprivileged decoder imports this.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import Enum

FIRMWARE_MAGIC = b"GNTOVMF\0"  # superblock of Ganeti 4.0's firmware disk
HEAD = 36 << 10  # bytes that the functions below want to see: the mark of a CD's file system lies 32 KiB in

_DECOMPRESS = "decompress it and publish the result"
_CONVERT = "convert it with 'qemu-img convert -f {name} -O raw' and publish the result"
_UNPACK = "unpack it and publish the disk image that is inside"


class Wrapping(Enum):
    """How the bytes of a disk lie in a file that is not the disk itself."""

    CONTAINER = "container"
    COMPRESSION = "compression"
    OTHER = "other"


@dataclass(frozen=True)
class Kind:
    """`text` completes "it is …"; `cure` is what the publisher of the image does about it.

    `name` is the container's as QEMU says it, the compression's as its program does, "" for anything else.
    """

    text: str
    cure: str
    name: str = ""
    wrapping: Wrapping = Wrapping.OTHER


def recognise(head: bytes) -> Kind | None:
    """The container, archive or page that begins with `head`, or None for what may be the start of a disk."""
    return next(iter(wrappers(head)), None)


def wrappers(head: bytes) -> tuple[Kind, ...]:
    """Every container, compression, archive or page that `head` may be; more than one is somebody's trick."""
    found = [kind for offset, magic, kind in _MAGICS if head[offset : offset + len(magic)] == magic]
    text = head[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        found.append(Kind("a web page", "download the image again: a server answered with a page in its place"))
    if text.startswith(b"# disk descriptorfile") or _VMDK_TEXT.match(head[:_PROBED]):
        found.append(_container("a VMDK descriptor", "vmdk", name=""))
    if head.startswith(b"QFI\xfb"):
        is_first = head[4:8] == b"\0\0\0\x01"
        found.append(_container("a QCOW image of version 1", "qcow") if is_first else _QCOW2)
    if head.startswith(b"BZh") and head[4:10] in {_BZIP2_BLOCK, _BZIP2_END}:
        found.append(_compressed("bzip2"))
    if _is_skippable(head):
        found.append(_behind_skippable(head))
    return tuple(found)


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


def _is_skippable(head: bytes) -> bool:
    """Whether this is a frame that zstd and lz4 both skip, as `pzstd` and archives with an index begin."""
    return b"\x50" <= head[:1] <= b"\x5f" and head[1:4] == b"\x2a\x4d\x18"


def _behind_skippable(head: bytes) -> Kind:
    at = 0
    while _is_skippable(head[at : at + 4]) and len(head) >= at + 8:
        at += 8 + int.from_bytes(head[at + 4 : at + 8], "little")
    for magic, name in ((_ZSTD, "zstd"), (_LZ4, "lz4")):
        if head[at : at + 4] == magic:
            return _compressed(name)
    return Kind("compressed (zstd or lz4)", _DECOMPRESS)


def _container(text: str, driver: str, *, name: str | None = None) -> Kind:
    return Kind(text, _CONVERT.format(name=driver), driver if name is None else name, Wrapping.CONTAINER)


def _compressed(name: str) -> Kind:
    return Kind(f"compressed ({name})", _DECOMPRESS, name, Wrapping.COMPRESSION)


_PROBED = 2048  # bytes in which QEMU and ours look for a VMDK's text: it looks for comments, blank lines, and a version
_VMDK_TEXT = re.compile(rb"(?:#[^\n]*\n| *\r?\n)*version=[1-3]\r?\n")
_BZIP2_BLOCK, _BZIP2_END = b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90"
_ZSTD, _LZ4 = b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
_QCOW2 = _container("a QCOW2 image", "qcow2")
_LUKS = Kind("an encrypted LUKS volume", "publish the decrypted disk")
_DUMPS = frozenset((1, magic) for magic in (60011, 60012, 0x19540119))  # old, new, and FreeBSD's for UFS2
_MAGICS: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"QED\x00", _container("a QED image", "qed")),
    (0, b"KDMV", _container("a VMDK image", "vmdk")),
    (0, b"COWD", _container("a VMDK image of ESX 2", "vmdk", name="")),
    (0, b"vhdxfile", _container("a VHDX image", "vhdx")),
    (0, b"conectix", _container("a VHD image", "vpc")),
    (64, b"\x7f\x10\xda\xbe", _container("a VDI image", "vdi")),
    (0, b"WithoutFreeSpace", _container("a Parallels image", "parallels")),
    (0, b"WithouFreSpacExt", _container("a Parallels image", "parallels")),
    (0, b"Bochs Virtual HD Image", _container("a Bochs image", "bochs")),
    (0, b"#!/bin/sh\n#V2.0 Format\n", _container("a cloop image", "cloop")),
    (0, b"LUKS\xba\xbe", _LUKS),
    (0, b"\x3a\xff\x26\xed", Kind("a sparse image of Android", "convert it with simg2img and publish the result")),
    (0, b"\x1f\x8b\x08", _compressed("gzip")),
    (0, b"\x1f\x9d", _compressed("compress")),
    (0, b"\xfd7zXZ\x00", _compressed("xz")),
    (0, _ZSTD, _compressed("zstd")),
    (0, _LZ4, _compressed("lz4")),
    (0, b"\x02\x21\x4c\x18", _compressed("lz4 -l")),
    (0, b"\x89LZO\x00\r\n\x1a\n", _compressed("lzop")),
    (0, b"PK\x03\x04", Kind("a zip archive", _UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", _UNPACK)),
    (0, b"Rar!\x1a\x07", Kind("a rar archive", _UNPACK)),
    (257, b"ustar", Kind("a tar archive", _UNPACK)),
)
