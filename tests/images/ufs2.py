# SPDX-License-Identifier: GPL-2.0-or-later
"""UFS2 as the BSDs make it, from what Debian's makefs makes: that one puts the superblock where only UFS1 has it.

It leaves 8 KiB before the superblock, for 64 the i-nodes are in the way. So everything moves: each cylinder group gets
a further 64 KiB in front, and all block numbers, maps and counters are made anew. Written from sys/ufs/ffs/fs.h of
FreeBSD, knowing nothing of the helper's own reader.
"""

from __future__ import annotations

import struct
from pathlib import Path

GROWTH = 65536  # bytes by which as_ufs2() makes each group larger, when blocks are no larger than that
_MADE_AT, _WANTED_AT = 8192, 65536
_SIZE = 1376  # of struct fs
_CG_HEAD = 168  # of struct cg


class _Maker:
    """The image as makefs made it, and how its parts are found."""

    def __init__(self, image: bytes) -> None:
        self.image = image
        self.superblock = bytearray(image[_MADE_AT : _MADE_AT + 8192])
        assert self.field(1372) == 0x19540119, "makefs made no UFS2 with its superblock at 8 KiB"
        self.groups, self.block, self.fragment = self.field(44), self.field(48), self.field(52)
        self.per_block = self.block // self.fragment
        self.old_span, self.inodes = self.field(188), self.field(184)
        self.shift = GROWTH // self.fragment
        self.span = self.old_span + self.shift
        self.total = self.field(1080) + self.shift * self.groups

    def field(self, at: int) -> int:
        """A positive field of the superblock, 32 bits of it."""
        return int(struct.unpack_from("<I", self.superblock, at)[0])

    def moved(self, fragment: int) -> int:
        """Where a fragment lies now; 0 is none."""
        return fragment and fragment + self.shift * (fragment // self.old_span + 1)

    def read(self, fragment: int, size: int) -> bytes:
        return self.image[fragment * self.fragment : fragment * self.fragment + size]


def as_ufs2(image: Path) -> None:
    """Turn an image of `makefs -o version=2` into one that Linux and the BSDs take for UFS2; it grows by its groups'
    number times 64 KiB."""
    made = _Maker(image.read_bytes())
    new = bytearray(made.total * made.fragment)
    for group in range(made.groups):
        begin, end = group * made.old_span, min((group + 1) * made.old_span, made.total - made.shift * made.groups)
        content = made.read(begin, (end - begin) * made.fragment)
        at = (begin + made.shift * (group + 1)) * made.fragment
        new[at : at + len(content)] = content
    for group in range(made.groups):
        for inode in range(made.inodes):
            at = ((group * made.span + made.shift + made.field(16)) * made.fragment) + inode * 256
            _move_pointers(made, new, at)
    summaries = [_write_group(made, new, group) for group in range(made.groups)]
    _write_superblocks(made, new, summaries)
    image.write_bytes(new)


def _move_pointers(made: _Maker, new: bytearray, at: int) -> None:
    """Of one i-node: 12 direct blocks and three levels of indirect ones (struct ufs2_dinode)."""
    mode, size, blocks = (
        struct.unpack_from("<H", new, at)[0],
        *struct.unpack_from("<Q", new, at + 16),
        *struct.unpack_from("<Q", new, at + 24),
    )
    if mode >> 12 not in {4, 8, 10} or (mode >> 12 == 10 and not blocks) or not size:
        return
    for number in range(15):
        place = at + 112 + 8 * number
        (pointer,) = struct.unpack_from("<q", new, place)
        struct.pack_into("<q", new, place, made.moved(pointer))
        if number >= 12 and pointer:
            _move_indirect(made, new, made.moved(pointer), number - 12)


def _move_indirect(made: _Maker, new: bytearray, fragment: int, deeper: int) -> None:
    for place in range(fragment * made.fragment, fragment * made.fragment + made.block, 8):
        (pointer,) = struct.unpack_from("<q", new, place)
        struct.pack_into("<q", new, place, made.moved(pointer))
        if deeper and pointer:
            _move_indirect(made, new, made.moved(pointer), deeper - 1)


def _write_group(made: _Maker, new: bytearray, group: int) -> tuple[int, int, int, int]:
    """The group's maps and counters, from its old map; the answer is its summary: struct csum."""
    cg = made.read(group * made.old_span + made.field(12), made.block)
    head = bytearray(cg[:_CG_HEAD])
    used_at, free_at = struct.unpack_from("<2I", cg, 92)
    size = min(made.span, made.total - group * made.span)
    free = [False] * size
    # Before the superblock's copy lies data, but in the first group, where the boot code is.
    free[: made.shift] = [group > 0] * made.shift
    for number in range(size - made.shift):
        free[made.shift + number] = bool(cg[free_at + number // 8] >> (number % 8) & 1)
    counts, blocks = [0] * made.per_block, []
    for begin in range(0, size, made.per_block):
        run = "".join("x" if item else " " for item in free[begin : begin + made.per_block])
        blocks.append(run == "x" * made.per_block)
        for part in run.split() if not blocks[-1] else ():
            counts[len(part)] += 1
    longest = made.field(1316)
    clusters = [0] * (longest + 1)
    for part in "".join("x" if item else " " for item in blocks).split():
        clusters[min(len(part), longest)] += 1
    directories, _, free_inodes, _ = struct.unpack_from("<4i", cg, 24)
    summary = (directories, sum(blocks), free_inodes, sum(number * count for number, count in enumerate(counts)))
    inode_map = cg[used_at : used_at + made.inodes // 8]
    offsets = [_CG_HEAD, _CG_HEAD + len(inode_map)]
    offsets.append((offsets[1] + (made.span + 7) // 8 + 3) // 4 * 4)  # of the clusters' counts
    offsets.append(offsets[2] + 4 * (longest + 1))
    end = offsets[3] + (made.span // made.per_block + 7) // 8
    assert end <= made.block
    struct.pack_into("<I4i", head, 20, size, *summary)
    struct.pack_into("<3I", head, 40, 0, 0, 0)
    struct.pack_into("<8I", head, 52, *(counts + [0] * 8)[:8])
    struct.pack_into("<8I", head, 84, 0, 0, offsets[0], offsets[1], end, offsets[2], offsets[3], size // made.per_block)
    new_cg = bytes(head) + inode_map + _bits(free, offsets[2] - offsets[1])
    new_cg += struct.pack(f"<{longest + 1}i", *clusters) + _bits(blocks, end - offsets[3])
    at = (group * made.span + made.shift + made.field(12)) * made.fragment
    new[at : at + made.block] = new_cg.ljust(made.block, b"\0")
    return summary


def _write_superblocks(made: _Maker, new: bytearray, summaries: list[tuple[int, int, int, int]]) -> None:
    superblock = made.superblock
    for at in (8, 12, 16, 20):  # fs_sblkno and its like
        struct.pack_into("<i", superblock, at, made.field(at) + made.shift)
    struct.pack_into("<i", superblock, 188, made.span)
    cg_size = _CG_HEAD + made.inodes // 8 + (made.span + 7) // 8 + 4 * made.field(1316) + 8
    cg_size += (made.span // made.per_block + 7) // 8
    struct.pack_into("<i", superblock, 160, (cg_size + made.fragment - 1) // made.fragment * made.fragment)
    struct.pack_into("<q", superblock, 1000, _WANTED_AT)
    struct.pack_into("<4q", superblock, 1008, *(sum(column) for column in zip(*summaries, strict=True)))
    summary_at = made.moved(made.field(1096))
    added = sum(made.shift for group in range(1, made.groups))
    struct.pack_into("<3q", superblock, 1080, made.total, made.field(1088) + added, summary_at)
    table = b"".join(struct.pack("<4i", *summary) for summary in summaries)
    new[summary_at * made.fragment : summary_at * made.fragment + len(table)] = table
    new[_WANTED_AT : _WANTED_AT + len(superblock)] = superblock
    for group in range(made.groups):
        at = (group * made.span + made.field(8)) * made.fragment
        new[at : at + len(superblock)] = superblock
    assert new[_MADE_AT : _MADE_AT + _SIZE] == bytes(_SIZE)


def _bits(items: list[bool], size: int) -> bytes:
    content = bytearray(size)
    for number, item in enumerate(items):
        content[number // 8] |= item << number % 8
    return bytes(content)
