# SPDX-License-Identifier: GPL-2.0-or-later
"""NTFS volumes in every state that Windows leaves one in, written by the structures that are public.

Sources: linux-ntfs "NTFS Documentation" ($Volume, $LogFile); the offsets are those of version 3.1.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from unit.helper.disk_images import sh

OPTIONS = "ignore_case,windows_names"  # as the guest's own Windows takes names
_VOLUME, _LOGFILE = 3, 2  # records of the MFT
_FLAGS, _DATA = 0x70, 0x80  # $VOLUME_INFORMATION, $DATA
_RECORD = 1024


@contextmanager
def written_to(device: str | Path, place: Path, options: str = OPTIONS) -> Iterator[Path]:
    """A place where the test itself writes to an NTFS, as it is spelled there."""
    place.mkdir(parents=True, exist_ok=True)
    sh("lowntfs-3g", "-o", f"streams_interface=xattr,{options}", str(device), str(place))
    try:
        yield place
    finally:
        sh("umount", str(place))
        # A file, unlike a device, is unmounted before its driver has written all.
        sh("sh", "-c", f"while pgrep -f '^lowntfs-3g .* {device} {place}$' >/dev/null; do sleep 0.02; done")


def attribute(path: Path, name: str) -> bytes:
    """An extended attribute of any length: os.getxattr() tries with 128 bytes, and lowntfs-3g answers EIO."""
    room = ctypes.create_string_buffer(65536)
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.getxattr(os.fsencode(path), name.encode(), room, ctypes.c_size_t(len(room)))
    assert found >= 0, os.strerror(ctypes.get_errno())
    return room.raw[:found]


def set_flags(disk: Path, offset: int, flags: int) -> None:
    """Write the flags of the volume that begins at `offset` bytes: 1 is dirty."""
    with disk.open("r+b") as file:
        for base in _copies(file, offset):
            at = base + _VOLUME * _RECORD
            file.seek(at)
            record = file.read(_RECORD)
            place = _attribute(record, _FLAGS)
            file.seek(at + place + struct.unpack_from("<H", record, place + 20)[0] + 10)
            file.write(struct.pack("<H", flags))


def leave_journal_open(disk: Path, offset: int) -> None:
    """Write restart pages into $LogFile that say: a client has it open, and the volume is not clean."""
    with disk.open("r+b") as file:
        mft, _ = _copies(file, offset)
        file.seek(mft + _LOGFILE * _RECORD)
        record = file.read(_RECORD)
        place = _attribute(record, _DATA)
        runs = place + struct.unpack_from("<H", record, place + 32)[0]
        length_size, start_size = record[runs] & 0xF, record[runs] >> 4
        start = int.from_bytes(record[runs + 1 + length_size : runs + 1 + length_size + start_size], "little")
        size = struct.unpack_from("<Q", record, place + 48)[0]
        file.seek(offset)
        file.seek(offset + start * _cluster(file.read(512)))
        file.write(_restart_page(size) * 2)


def bitlocker(disk: Path, offset: int) -> None:
    """Make the volume one that blkid takes for BitLocker's: libblkid/src/superblocks/bitlocker.c of util-linux."""
    metadata = 65536  # where such a volume describes itself
    header = bytearray(512)
    header[:11] = b"\xeb\x58\x90-FVE-FS-"
    header[160:176] = bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")
    header[176:184] = metadata.to_bytes(8, "little")
    header[510:] = b"\x55\xaa"
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(header)
        file.seek(offset + metadata)
        file.write(b"-FVE-FS-" + bytes([0, 0, 2, 0]))


def _copies(file: BinaryIO, offset: int) -> tuple[int, int]:
    """Where the MFT and the mirror of its first records begin."""
    file.seek(offset)
    boot = file.read(512)
    mft, mirror = struct.unpack_from("<QQ", boot, 48)
    return offset + mft * _cluster(boot), offset + mirror * _cluster(boot)


def _cluster(boot: bytes) -> int:
    """Bytes."""
    return int(struct.unpack_from("<H", boot, 11)[0]) * boot[13]


def _attribute(record: bytes, kind: int) -> int:
    place = struct.unpack_from("<H", record, 20)[0]
    while struct.unpack_from("<I", record, place)[0] != kind:
        place += struct.unpack_from("<I", record, place + 4)[0]
    return int(place)


def _restart_page(size: int) -> bytes:
    page = bytearray(4096)
    # Magic, update sequence at 30 of 9 words, checked up to 0, pages of 4096 bytes, restart area at 48, version 1.1.
    struct.pack_into("<4sHHQIIHHH", page, 0, b"RSTR", 30, 9, 0, 4096, 4096, 48, 1, 1)
    # LSN, one client, none free, client 0 in use, no flags, 44 bits of sequence, 48 bytes to the clients, the file.
    area = struct.pack("<QHHHHIHHQIHHI", 1, 1, 0xFFFF, 0, 0, 67 - size.bit_length(), 160 + 64, 64, size, 0, 48, 64, 0)
    page[48 : 48 + len(area)] = area
    client = struct.pack("<QQHHH6sI128s", 0, 0, 0xFFFF, 0xFFFF, 0, b"", 8, "NTFS".encode("utf-16-le"))
    page[48 + 64 : 48 + 64 + len(client)] = client
    struct.pack_into("<H", page, 30, 1)
    for end in range(510, 4096, 512):
        struct.pack_into("<H", page, end, 1)
    return bytes(page)
