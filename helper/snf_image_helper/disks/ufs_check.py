# SPDX-License-Identifier: GPL-2.0-or-later
"""Is a UFS that nobody has mounted sound? What fsck_ffs -n asks, answered from the device alone: nothing is repaired.

Debian has no checker of UFS. This one runs before the kernel's driver, which trusts what it reads, sees a guest's file
system, and after it has written there.
"""

from __future__ import annotations

import os
import struct
from collections import Counter

from snf_image_helper.disks.ufs import CLEAN, Ufs, read_ufs
from snf_image_helper.disks.ufs_groups import Group, read_group
from snf_image_helper.disks.ufs_inodes import (
    DIRECTORY,
    REGULAR,
    ROOT,
    Claims,
    Inode,
    UnsoundError,
    claim_blocks,
    entries,
    inodes_of,
)
from snf_image_shared.errors import GuestError

_MOST = 3  # faults that a message names
_LARGEST_DIRECTORY = 64 << 20  # bytes
_LOG_LINKS = 1  # NetBSD's log has a link and no name


def refuse_damaged(device: str) -> None:
    """Before anything is written. Raises GuestError, OSError."""
    _refuse(device, "is damaged", "run fsck on it and publish the image anew")


def refuse_spoiled(device: str) -> None:
    """After the kernel has written there, which leaves its own mark on a superblock when it is lost. As above."""
    if read_ufs(device).clean != CLEAN:
        raise GuestError(f"the helper's kernel found faults in the UFS on {device} while it wrote; report this image")
    _refuse(device, "is no longer sound after the helper wrote to it", "report this, with the image")


def faults_of(device: str) -> tuple[str, ...]:
    """What is wrong, in words; nothing for a sound one. Raises GuestError when there is no UFS, OSError."""
    ufs = read_ufs(device)
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return tuple(_Check(ufs, descriptor).faults())
    except (UnsoundError, ValueError) as error:
        return (str(error),)
    finally:
        os.close(descriptor)


def _refuse(device: str, what: str, cure: str) -> None:
    faults = faults_of(device)
    if faults:
        more = f"; and {len(faults) - _MOST} more" if len(faults) > _MOST else ""
        raise GuestError(f"the UFS on {device} {what} ({'; '.join(faults[:_MOST])}{more}); {cure}")


class _Check:
    """One look at a whole file system."""

    def __init__(self, ufs: Ufs, descriptor: int) -> None:
        self._ufs, self._descriptor = ufs, descriptor
        self._claims = Claims(ufs)
        self._links: dict[int, int] = {}
        self._kinds: dict[int, int] = {}
        self._directories: dict[int, list[tuple[int, int]]] = {}

    def faults(self) -> list[str]:
        """Raises UnsoundError or ValueError where nothing further can be said."""
        groups, found = self._groups()
        self._claim_own(groups)
        directories = Counter[int]()
        for group in groups:
            for inode in inodes_of(self._ufs, group, self._read):
                self._take(inode)
                directories[group.number] += inode.kind == DIRECTORY
        for group in groups:
            if group.counts[0] != directories[group.number]:
                found.append(
                    f"cylinder group {group.number} counts {group.counts[0]} directories, it has "
                    f"{directories[group.number]}"
                )
        return found + self._compared(groups) + self._named() + self._summed(groups)

    def _read(self, fragment: int, size: int) -> bytes:
        content = os.pread(self._descriptor, size, fragment * self._ufs.fragment)
        if len(content) != size:
            raise UnsoundError(f"the device ends in what begins at the fragment {fragment}")
        return content

    def _groups(self) -> tuple[list[Group], list[str]]:
        groups, faults = [], []
        for number in range(self._ufs.groups):
            at = self._ufs.group_start(number) + self._ufs.group_at
            group, found = read_group(self._ufs, number, self._read(at, self._ufs.block))
            groups.append(group)
            faults += found
        return groups, faults

    def _claim_own(self, groups: list[Group]) -> None:
        """The fragments that are no file's: of each group from its superblock to its data, and the summaries."""
        ufs = self._ufs
        for group in groups:
            start = ufs.group_start(group.number)
            # The first group begins with the boot code, the others with data.
            self._claims.reserve(start + ufs.superblock_at if group.number else 0, start + ufs.data_at)
        self._claims.reserve(ufs.summary_at, ufs.summary_at + -(-ufs.summary_size // ufs.fragment))

    def _take(self, inode: Inode) -> None:
        content = claim_blocks(self._ufs, inode, self._claims, self._read)
        if inode.links <= 0:
            raise UnsoundError(f"i-node {inode.number} is in use and has {inode.links} links")
        self._links[inode.number], self._kinds[inode.number] = inode.links, inode.kind
        if inode.kind == DIRECTORY:
            if inode.size > _LARGEST_DIRECTORY:
                raise UnsoundError(f"the directory with the i-node {inode.number} has {inode.size} bytes")
            self._directories[inode.number] = content

    def _compared(self, groups: list[Group]) -> list[str]:
        """The fragments that files hold against those that the maps have as in use."""
        faults = []
        for group, held in zip(groups, self._claims.maps, strict=True):
            fragments = self._ufs.group_fragments(group.number)
            everything = (1 << fragments) - 1
            used = ~int.from_bytes(group.free, "little") & everything
            claimed = int.from_bytes(held, "little") & everything
            lost, wanted = (used & ~claimed).bit_count(), (claimed & ~used).bit_count()
            if wanted:
                faults.append(f"cylinder group {group.number} has {wanted} fragments as free which are in use")
            if lost:
                faults.append(f"cylinder group {group.number} has {lost} fragments as in use which are nobody's")
        return faults

    def _named(self) -> list[str]:
        """Every name leads to an i-node of its kind, each directory is in one other, and links are as many as said."""
        names = Counter[int]()
        inside: dict[int, int] = {}
        above: dict[int, int] = {ROOT: ROOT}
        if ROOT not in self._directories:
            raise UnsoundError("it has no root directory")
        for number, blocks in self._directories.items():
            first = True
            for inode, kind, name in entries(number, self._content(blocks)):
                self._check_entry(number, inode, kind, name)
                names[inode] += 1
                if first and (name != b"." or inode != number):
                    raise UnsoundError(f"the directory with the i-node {number} does not begin with itself")
                first = False
                if name == b"..":
                    inside[number] = inode
                elif name != b"." and self._kinds[inode] == DIRECTORY:
                    if inode in above:
                        raise UnsoundError(f"the directory with the i-node {inode} is in two others")
                    above[inode] = number
        return [*self._misplaced(inside, above), *self._mislinked(names)]

    def _content(self, blocks: list[tuple[int, int]]) -> bytes:
        whole = self._ufs.fragment
        return b"".join(self._read(fragment, -(-size // whole) * whole)[:size] for fragment, size in blocks)

    def _check_entry(self, number: int, inode: int, kind: int, name: bytes) -> None:
        real = self._kinds.get(inode)
        if real is None:
            raise UnsoundError(f"{_shown(name)} in the directory with the i-node {number} leads nowhere")
        if kind not in {0, real}:
            where = f"{_shown(name)} in the directory with the i-node {number}"
            raise UnsoundError(f"{where} is of another kind than its i-node")

    def _misplaced(self, inside: dict[int, int], above: dict[int, int]) -> list[str]:
        return [
            f"the directory with the i-node {number} is in {above.get(number, 'none')} and says "
            f"{inside.get(number, 'none')}"
            for number in self._directories
            if number not in above or inside.get(number) != above[number]
        ]

    def _mislinked(self, names: Counter[int]) -> list[str]:
        faults = []
        for number, links in self._links.items():
            is_log = not names[number] and self._kinds[number] == REGULAR and links == _LOG_LINKS
            if names[number] != links and not (is_log and number == self._log()):
                faults.append(f"i-node {number} says it has {links} links, it has {names[number]}")
        return faults

    def _log(self) -> int:
        """The i-node of NetBSD's log inside the file system, or 0: fs_journal_location and fs_journallocs of fs.h."""
        version, location = self._ufs.raw[864:866]
        return int(struct.unpack_from("<Q", self._ufs.raw, 896)[0]) if (version, location) == (1, 2) else 0

    def _summed(self, groups: list[Group]) -> list[str]:
        ufs = self._ufs
        table = self._read(ufs.summary_at, -(-ufs.summary_size // ufs.fragment) * ufs.fragment)
        faults = [
            f"the summary of cylinder group {group.number} is another than its own"
            for group in groups
            if struct.unpack_from("<4i", table, 16 * group.number) != group.counts
        ]
        totals = tuple(sum(column) for column in zip(*(group.counts for group in groups), strict=True))
        if totals != ufs.totals:
            faults.append(f"the superblock counts {ufs.totals}, the cylinder groups {totals}")
        return faults


def _shown(name: bytes) -> str:
    return "".join(char if char.isprintable() else "?" for char in name.decode("utf-8", "replace"))
