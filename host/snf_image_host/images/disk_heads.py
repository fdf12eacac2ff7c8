# SPDX-License-Identifier: GPL-2.0-or-later
"""What the first bytes of a disk show: a partition table, a file system, a CD. For refusals; nothing is followed.

Also the unprivileged decoder imports this.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_PARTITION_TABLE = "a partition table"
_EXT = "an ext file system"
_NTFS = "an NTFS file system"
_CD = "the file system of a CD (ISO 9660)"

_GPT = b"EFI PART\x00\x00\x01\x00"
_BOOT_FLAGS = frozenset((0x00, 0x80))
_PROTECTIVE = 0xEE
_EXT_AT = 1024  # of the superblock (linux: fs/ext4/ext4.h, struct ext4_super_block)
_CD_AT = 32768  # ECMA-119 6.2: the descriptors begin in sector 16


def gpt_sector_size(head: bytes) -> int | None:
    """Bytes per sector for which the GUID partition table at the start of a disk was made; None without one."""
    for size in (512, 4096):
        if head[size : size + 12] == _GPT:
            return size
    return None


def is_partitioned(head: bytes) -> bool:
    """Whether a disk begins with a GPT, or with an MBR of its own that has a partition and no senseless entry."""
    return gpt_sector_size(head) is not None or _has_mbr(head)


def is_ext(head: bytes) -> bool:
    """Whether an ext2, ext3 or ext4 file system begins here, by more than its two bytes of magic."""
    if len(head) < _EXT_AT + 100:
        return False
    inodes, blocks = struct.unpack_from("<II", head, _EXT_AT)
    block_size = int.from_bytes(head[_EXT_AT + 24 : _EXT_AT + 28], "little")
    magic = int.from_bytes(head[_EXT_AT + 56 : _EXT_AT + 58], "little")
    revision = int.from_bytes(head[_EXT_AT + 76 : _EXT_AT + 80], "little")
    return magic == 0xEF53 and inodes > 0 and blocks > 0 and block_size <= 6 and revision <= 1


def is_ntfs(head: bytes) -> bool:
    """Whether an NTFS file system begins here."""
    return head[3:11] == b"NTFS    " and is_boot_sector(head)


def is_cd(head: bytes) -> bool:
    """Whether this is the image of a CD, which may be a disk as well."""
    return head[_CD_AT + 1 : _CD_AT + 6] == b"CD001"


def is_boot_sector(head: bytes) -> bool:
    """Whether firmware would run the first sector."""
    return head[510:512] == b"\x55\xaa"


def contents(head: bytes) -> tuple[str, ...]:
    """All of these that `head` shows, as they complete "it has …"; what lies inside partitions may be among them."""
    return tuple(_contents(head))


def marks_of_a_disk(head: bytes) -> tuple[str, ...]:
    """As contents(), and a boot sector alone counts as well: for a file that is not to be a disk at all."""
    found = contents(head)
    return found if found or not is_boot_sector(head) else ("a boot sector",)


def _contents(head: bytes) -> Iterator[str]:
    if is_partitioned(head):
        yield _PARTITION_TABLE
    if is_ext(head):
        yield _EXT
    if is_ntfs(head):
        yield _NTFS
    if is_cd(head):
        yield _CD


def _has_mbr(head: bytes) -> bool:
    """A file system's boot sector ends like an MBR; where that has entries, it has text or code."""
    if not is_boot_sector(head):
        return False
    entries = [struct.unpack_from("<B3xB3xII", head, at) for at in range(446, 510, 16)]
    used = [(start, length) for _, kind, start, length in entries if kind]
    return (
        all(flag in _BOOT_FLAGS and kind != _PROTECTIVE for flag, kind, _, _ in entries)
        and bool(used)
        and all(start > 0 and length > 0 for start, length in used)
    )
