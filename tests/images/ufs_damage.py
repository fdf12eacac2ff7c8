# SPDX-License-Identifier: GPL-2.0-or-later
"""A UFS image for tests to read and to spoil, knowing nothing of the helper's own reader.

Places are those of struct fs, cg, ufs1_dinode and ufs2_dinode in FreeBSD's sys/ufs/ffs/fs.h and sys/ufs/ufs/dinode.h.
"""

from __future__ import annotations

import struct
from pathlib import Path

FLAGS, METACKHASH, CKHASH, CLEAN, MTIME = 1312, 1308, 1304, 209, 1208
PENDING_BLOCKS, SNAPSHOTS, SUMMARIES = 1104, 1116, 1016
ROOT = 2


class Spoiled:
    """The image at `path`, which is changed in place; `superblock` is where that lies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.image = bytearray(path.read_bytes())
        self.version = 2 if self.image[65536 + 1372 : 65536 + 1376] == b"\x19\x01\x54\x19" else 1
        self.superblock = 65536 if self.version == 2 else 8192
        self.inode_size = 256 if self.version == 2 else 128

    def field(self, at: int, form: str = "<i") -> int:
        """A number of the superblock."""
        return int(struct.unpack_from(form, self.image, self.superblock + at)[0])

    def set_field(self, at: int, value: int, form: str = "<I") -> None:
        """Change a number of the superblock."""
        struct.pack_into(form, self.image, self.superblock + at, value)

    def group(self, number: int = 0) -> int:
        """The byte where a cylinder group's header lies."""
        return (number * self.field(188) + self.field(12)) * self.field(52)

    def map_at(self, field: int, number: int = 0) -> int:
        """The byte of one of its maps: 92 i-nodes, 96 free fragments, 104 counts of clusters, 108 clusters."""
        return self.group(number) + int(struct.unpack_from("<I", self.image, self.group(number) + field)[0])

    def inode(self, number: int) -> int:
        """The byte where an i-node lies."""
        group, index = divmod(number, self.field(184))
        return (group * self.field(188) + self.field(16)) * self.field(52) + index * self.inode_size

    def pointer(self, inode: int, number: int = 0) -> int:
        """The byte of one of an i-node's pointers."""
        return self.inode(inode) + (112 + 8 * number if self.version == 2 else 40 + 4 * number)

    def pointed(self, inode: int, number: int = 0) -> int:
        """The byte that such a pointer leads to."""
        form = "<q" if self.version == 2 else "<i"
        return int(struct.unpack_from(form, self.image, self.pointer(inode, number))[0]) * self.field(52)

    def lookup(self, *names: str) -> int:
        """The i-node at the end of a path below the root, by a search in the directories' first blocks."""
        inode = ROOT
        for name in names:
            entry = self.entry(inode, name)
            inode = int(struct.unpack_from("<I", self.image, entry)[0])
        return inode

    def entry(self, directory: int, name: str) -> int:
        """The byte where a directory's entry of that name lies."""
        wanted = name.encode()
        at = self.pointed(directory)
        for _ in range(1000):
            length, _, size = struct.unpack_from("<HBB", self.image, at + 4)
            if self.image[at + 8 : at + 8 + size] == wanted:
                return at
            at += length
        raise AssertionError(f"{name} is not in the first block of i-node {directory}")

    def add(self, at: int, amount: int, form: str = "<I") -> None:
        """Change a number anywhere."""
        (value,) = struct.unpack_from(form, self.image, at)
        struct.pack_into(form, self.image, at, value + amount)

    def toggle(self, at: int, bit: int) -> None:
        """Turn over a bit of the map that begins at the byte `at`."""
        self.image[at + bit // 8] ^= 1 << bit % 8

    def save(self) -> str:
        """Write it back; the answer is the path, for who wants the name of a device."""
        self.path.write_bytes(self.image)
        return str(self.path)


def freebsd_crc(content: bytes | bytearray) -> int:
    """CRC-32C as FreeBSD's calculate_crc32c() with ~0: by a table, not inverted at the end."""
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 * (value & 1))
        table.append(value)
    crc = 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc


def plant_check_hashes(made: Spoiled) -> None:
    """Give a UFS2 what newfs of FreeBSD 13 does: hashes of superblock, cylinder groups and i-nodes, and their flag."""
    made.set_field(FLAGS, made.field(FLAGS, "<I") | 0x200)
    made.set_field(METACKHASH, 0x7)
    for number in range(made.field(44)):
        at = made.group(number)
        struct.pack_into("<I", made.image, at + 132, 0)
        struct.pack_into("<I", made.image, at + 132, freebsd_crc(made.image[at : at + made.field(160)]))
    for inode in range(ROOT, ROOT + 8):
        at = made.inode(inode)
        if made.image[at + 1]:
            struct.pack_into("<I", made.image, at + 244, 0)
            struct.pack_into("<I", made.image, at + 244, freebsd_crc(made.image[at : at + 256]))
    made.set_field(CKHASH, 0)
    size = made.field(104)
    made.set_field(CKHASH, freebsd_crc(made.image[made.superblock : made.superblock + size]))
