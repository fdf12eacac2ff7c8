# SPDX-License-Identifier: GPL-2.0-or-later
"""The i-nodes of a UFS: the fragments each one holds, and what its directories name.

Each fragment is claimed once, so that no hostile tree of blocks takes longer than the device is large.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from snf_image_helper.disks.ufs import DIRECTORY_BLOCK, Ufs
from snf_image_helper.disks.ufs_groups import Group

ROOT = 2
DIRECTORY, REGULAR, LINK = 4, 8, 10  # the file types of st_mode, which directory entries have as well
_KINDS = {1, 2, DIRECTORY, 6, REGULAR, LINK, 12}
_DIRECT = 12
_LONGEST_NAME = 255
_ENTRY = struct.Struct("<IHBB")

_UFS1 = struct.Struct("<Hh4xQ24x12i3iII")  # mode, links, size, blocks, flags, sectors
_UFS2 = struct.Struct(
    "<Hh12xQQ56xIi2q12q3q"
)  # mode, links, size, sectors, flags, size and blocks of attributes, blocks

Read = Callable[[int, int], bytes]  # a fragment and a number of bytes


class UnsoundError(ValueError):
    """A fault that leaves nothing to go on with, in words for the operator."""


@dataclass(frozen=True)
class Inode:
    """One in use. `pointers` are 12 direct blocks and three trees; `attributes` the size and blocks of a UFS2's."""

    number: int
    kind: int
    links: int
    size: int
    sectors: int
    pointers: tuple[int, ...]
    attributes: tuple[int, int, int] = (0, 0, 0)


def inodes_of(ufs: Ufs, group: Group, read: Read) -> Iterator[Inode]:
    """The i-nodes of a group that its map has. Raises UnsoundError where map and table contradict each other."""
    per_block = ufs.block // ufs.inode_size
    used = int.from_bytes(group.inodes, "little")
    begin = ufs.group_start(group.number) + ufs.inodes_at
    for first in range(0, ufs.inodes, per_block):
        here = used >> first & ((1 << per_block) - 1)
        if first >= group.initialised:
            if here:
                raise UnsoundError(
                    f"i-nodes from {group.number * ufs.inodes + first} on are in use and not initialised"
                )
            continue
        table = read(begin + first // per_block * ufs.per_block, ufs.block)
        for number in range(per_block):
            at = number * ufs.inode_size
            inode = group.number * ufs.inodes + first + number
            if here >> number & 1:
                if inode >= ROOT and (found := _parsed(ufs, table, at, inode)):
                    yield found
            elif table[at] or table[at + 1]:
                raise UnsoundError(f"i-node {inode} is in use and its map says free")


def _parsed(ufs: Ufs, table: bytes, at: int, number: int) -> Inode | None:
    """None for one that is reserved: its map says in use, and it is nothing yet."""
    if ufs.version == 2:
        mode, links, size, sectors, _flags, extended, first, second, *pointers = _UFS2.unpack_from(table, at)
        attributes = (extended, first, second)
    else:
        mode, links, size, *pointers, _flags, sectors = _UFS1.unpack_from(table, at)
        attributes = (0, 0, 0)
    kind = mode >> 12
    if kind not in _KINDS:
        raise UnsoundError(f"i-node {number} is in use and of no kind of file (mode {mode:o})")
    return Inode(number, kind, links, size, sectors, tuple(pointers), attributes)


class Claims:
    """Which fragments are held, by group."""

    def __init__(self, ufs: Ufs) -> None:
        self._ufs = ufs
        self.maps = [bytearray(-(-ufs.group_fragments(group) // 8)) for group in range(ufs.groups)]

    def claim(self, fragment: int, count: int, who: str) -> None:
        """Raises UnsoundError when it is no address, outside, or held already."""
        if fragment <= 0 or fragment + count > self._ufs.size:
            raise UnsoundError(f"{who} holds the fragment {fragment}, which does not exist")
        group, offset = divmod(fragment, self._ufs.span)
        if offset % self._ufs.per_block + count > self._ufs.per_block:
            raise UnsoundError(f"{who} holds {count} fragments from {fragment} on, over the end of a block")
        byte, mask = offset >> 3, ((1 << count) - 1) << (offset & 7)
        held = self.maps[group]
        if held[byte] & mask:
            raise UnsoundError(f"{who} holds the fragment {fragment}, which is another's as well")
        held[byte] |= mask

    def reserve(self, begin: int, end: int) -> None:
        """Claim what is no file's, of one group."""
        for fragment in range(begin, end):
            offset = fragment % self._ufs.span
            held, mask = self.maps[fragment // self._ufs.span], 1 << (offset & 7)
            if held[offset >> 3] & mask:
                raise UnsoundError(f"the fragment {fragment} is the file system's own twice")
            held[offset >> 3] |= mask


def claim_blocks(ufs: Ufs, inode: Inode, claims: Claims, read: Read) -> list[tuple[int, int]]:
    """Claim what the i-node holds; the answer is its content: fragment and bytes of each block in turn.

    It is kept of directories alone, whose names are to be read and which have no holes. Raises UnsoundError.
    """
    who = f"i-node {inode.number}"
    if inode.kind not in {DIRECTORY, REGULAR, LINK}:
        return []
    content: list[tuple[int, int]] = []
    held = _claim_attributes(ufs, inode, claims, who)
    short = inode.kind == LINK and inode.size <= ufs.short_link and inode.sectors * 512 == held * ufs.fragment
    if not short:
        if inode.size > _largest(ufs):
            raise UnsoundError(f"{who} has the size {inode.size}")
        blocks = -(-inode.size // ufs.block)
        held += _claim_direct(ufs, inode, claims, content)
        span, first = 1, _DIRECT
        for level, pointer in enumerate(inode.pointers[_DIRECT:], start=1):
            span *= ufs.block // _pointer_size(ufs)
            if pointer:
                if first >= blocks:
                    raise UnsoundError(f"{who} holds blocks behind its end")
                tree = _Tree(ufs, inode, claims, read)
                held += tree.claim(pointer, level, (first, span))
                content += tree.content
            elif first < blocks:
                _refuse_hole(inode)
            first += span
    if held * (ufs.fragment // 512) != inode.sectors:
        raise UnsoundError(f"{who} counts {inode.sectors} sectors and holds {held * (ufs.fragment // 512)}")
    return content


def _refuse_hole(inode: Inode) -> None:
    # At once: what is remembered of a directory's content is bounded by the blocks that are really there.
    if inode.kind == DIRECTORY:
        raise UnsoundError(f"the directory with the i-node {inode.number} has a hole")


def _largest(ufs: Ufs) -> int:
    per = ufs.block // _pointer_size(ufs)
    return (_DIRECT + per + per**2 + per**3) * ufs.block


def _pointer_size(ufs: Ufs) -> int:
    return 8 if ufs.version == 2 else 4


def _claim_attributes(ufs: Ufs, inode: Inode, claims: Claims, who: str) -> int:
    size, *pointers = inode.attributes
    if not 0 <= size <= 2 * ufs.block:
        raise UnsoundError(f"{who} has {size} bytes of extended attributes")
    held = 0
    for pointer in pointers:
        if pointer and size > 0:
            count = min(ufs.per_block, -(-size // ufs.fragment))
            claims.claim(pointer, count, who)
            held += count
        elif pointer:
            raise UnsoundError(f"{who} holds a block of extended attributes and has none")
        size -= ufs.block
    return held


def _claim_direct(ufs: Ufs, inode: Inode, claims: Claims, content: list[tuple[int, int]]) -> int:
    held = 0
    for number, pointer in enumerate(inode.pointers[:_DIRECT]):
        rest = inode.size - number * ufs.block
        if rest <= 0:
            if pointer:
                raise UnsoundError(f"i-node {inode.number} holds blocks behind its end")
            continue
        if inode.kind == DIRECTORY:
            content.append((pointer, min(rest, ufs.block)))
        if not pointer:
            _refuse_hole(inode)
        else:
            count = min(ufs.per_block, -(-rest // ufs.fragment))
            claims.claim(pointer, count, f"i-node {inode.number}")
            held += count
    return held


class _Tree:
    """A tree of indirect blocks of one i-node."""

    def __init__(self, ufs: Ufs, inode: Inode, claims: Claims, read: Read) -> None:
        self._ufs, self._inode, self._claims, self._read = ufs, inode, claims, read
        self._blocks = -(-inode.size // ufs.block)
        self._who = f"i-node {inode.number}"
        self._form = f"<{ufs.block // _pointer_size(ufs)}{'q' if ufs.version == 2 else 'i'}"
        self.content: list[tuple[int, int]] = []

    def claim(self, fragment: int, level: int, extent: tuple[int, int]) -> int:
        """Fragments held below; `extent` is the first block that the tree stands for, and how many it does."""
        first, span = extent
        self._claims.claim(fragment, self._ufs.per_block, self._who)
        held = self._ufs.per_block
        pointers = struct.unpack(self._form, self._read(fragment, self._ufs.block))
        below = span // len(pointers)
        for number, pointer in enumerate(pointers):
            block = first + number * below
            if block >= self._blocks:
                if any(pointers[number:]):
                    raise UnsoundError(f"{self._who} holds blocks behind its end")
                break
            if not pointer:
                _refuse_hole(self._inode)
                continue
            if level > 1:
                held += self.claim(pointer, level - 1, (block, below))
                continue
            if self._inode.kind == DIRECTORY:
                self.content.append((pointer, min(self._ufs.block, self._inode.size - block * self._ufs.block)))
            self._claims.claim(pointer, self._ufs.per_block, self._who)
            held += self._ufs.per_block
        return held


def entries(number: int, content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """I-node, kind (0 for unknown) and name of each entry of the directory `number`. Raises UnsoundError."""
    where = f"the directory with the i-node {number}"
    if not content or len(content) % DIRECTORY_BLOCK:
        raise UnsoundError(f"{where} has {len(content)} bytes, no multiple of {DIRECTORY_BLOCK}")
    at, size = 0, len(content)
    while at < size:
        inode, length, kind, name_length = _ENTRY.unpack_from(content, at)
        room = DIRECTORY_BLOCK - at % DIRECTORY_BLOCK
        if length < 8 or length % 4 or length > room or (inode and name_length + 8 > length):
            raise UnsoundError(f"{where} is damaged at its byte {at}")
        if inode:
            name = content[at + 8 : at + 8 + name_length]
            if not name or len(name) > _LONGEST_NAME or b"\0" in name or b"/" in name:
                raise UnsoundError(f"{where} has an impossible name at its byte {at}")
            yield inode, kind, name
        at += length
