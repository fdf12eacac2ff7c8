# SPDX-License-Identifier: GPL-2.0-or-later
"""What comes before a dump of a file system: boot code and a partition table, in the first MiB of the disk.

Nothing of the dump is looked at. Its loader has to be in its own boot sector, its root named by UUID or label.
"""

from __future__ import annotations

import secrets
import struct

from snf_image_host.copying.edges import EdgesLast
from snf_image_host.disks.targets import EDGE
from snf_image_host.images.boot_code import BOOT_CODE, LARGEST
from snf_image_host.images.names import DUMPS
from snf_image_shared.errors import ImageError

SECTOR = 512  # bytes: what the guest and its BIOS see, whatever the storage below has
_START = EDGE // SECTOR
_MOST_SECTORS = 1 << 32  # of a disk, as the numbers in a partition table have 32 bits
_ACTIVE = 0x80
_TYPES = {"linux": 0x83, "windows": 0x07}
# The geometry that every BIOS and partitioning tool assumes, and what stands for a sector beyond its 1024 cylinders.
_HEADS, _SECTORS = 255, 63
_BEYOND = b"\xfe\xff\xff"


def start_of_image(img_format: str) -> int:
    """Where an image of that format begins on the disk, in bytes."""
    return EDGE if img_format in DUMPS else 0


def size_on_disk(img_format: str, size: int) -> int:
    """Bytes that a disk must have for an image of `size` bytes. A dump takes whole sectors, behind the prologue."""
    return EDGE + _sectors(size) * SECTOR if img_format in DUMPS else size


def check_addressable(name: str, img_format: str, size: int) -> None:
    """Raise ImageError, beginning with `name`, for a dump of `size` bytes that no partition table can hold."""
    if img_format in DUMPS and size_on_disk(img_format, size) > _MOST_SECTORS * SECTOR:
        raise ImageError(
            f"{name} has {size} bytes, and the partition that {img_format} gives it has to end below 2 TiB: "
            "publish the whole disk with a GPT, as diskdump"
        )


def put_prologue(disk: EdgesLast, img_format: str, size: int) -> None:
    """Put what the format needs into the head of the disk, for an image of `size` bytes.

    The one partition holds all of a dump; the last sector of one that has no whole number of them is filled with zeros.
    Raises ImageError for a dump that is too large, DiskError.
    """
    family = DUMPS.get(img_format)
    if family is None:
        return
    check_addressable("the image", img_format, size)
    count = _sectors(size)
    written = disk.rounded(size)
    if written < count * SECTOR:
        disk.zero(written, count * SECTOR - written)
    sector = boot_record(_TYPES[family], count, secrets.token_bytes(4))
    disk.memory[: len(sector)] = sector


def boot_record(kind: int, count: int, signature: bytes) -> bytes:
    """The first sector of a disk with one partition, active, of `count` sectors from the first MiB on.

    `kind` is its type, `signature` the disk's own four bytes.
    """
    first, last = _geometry(_START), _geometry(_START + count - 1)
    entry = struct.pack("<B3sB3sII", _ACTIVE, first, kind, last, _START, count)
    return BOOT_CODE.ljust(LARGEST, b"\0") + signature + bytes(2) + entry.ljust(64, b"\0") + b"\x55\xaa"


def _sectors(size: int) -> int:
    return -(-size // SECTOR)


def _geometry(sector: int) -> bytes:
    """Head, sector and cylinder as an entry has them."""
    track, sector = divmod(sector, _SECTORS)
    cylinder, head = divmod(track, _HEADS)
    if cylinder > 1023:
        return _BEYOND
    return bytes((head, (sector + 1) | (cylinder >> 2 & 0xC0), cylinder & 0xFF))
