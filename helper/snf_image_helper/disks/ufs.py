# SPDX-License-Identifier: GPL-2.0-or-later
"""The superblock of a UFS (FFS): what it says, whether it can be true, and whether Linux may write there.

Read by ourselves, since the kernel's driver trusts nearly all of it. Three systems share the structure and not the
meaning of each bit: FreeBSD's sys/ufs/ffs/fs.h, NetBSD's and OpenBSD's. Why which case is refused: docs/bsd-guests.md.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper.system import OsFamily
from snf_image_shared.errors import GuestError

UFS = "ufs"  # as blkid and the kernel call it
SIZE = 1376  # bytes of struct fs
DIRECTORY_BLOCK = 512  # DIRBLKSIZ
GROUP_HEAD = 168  # bytes of struct cg before the maps
# In the order of SBLOCKSEARCH, with the magic numbers that count at each place.
_UFS1, _UFS2, _UFS2_EA, _BROKEN = 0x00011954, 0x19540119, 0x19012038, 0x19960408
_PLACES = (65536, 8192, 0, 262144)
_LINUX_LOOKS_AT = {1: 8192, 2: 65536}
_LARGEST_FRAGMENT, _MOST_FRAGMENTS, _MOST_CLUSTERS = 4096, 8, 64
_MOST_GROUPS = 1 << 20
CLEAN = 1  # fs_clean; all BSDs count anything but 0 as clean, and NetBSD writes 2 while it is mounted

# fs_flags. From 0x100 on they mean something else to each system.
_UNCLEAN, _NEEDS_FSCK, _SUJ, _GJOURNAL, _FLAGS_UPDATED = 0x01, 0x04, 0x08, 0x40, 0x80
_METACKHASH = 0x200  # FreeBSD
_WAPBL, _QUOTA2 = 0x100, 0x200  # NetBSD
_MTIME_AT, _CKHASH_AT, _METACKHASH_AT, _FLAGS_AT = 1208, 1304, 1308, 1312
_CK_SUPERBLOCK = 1
_CRC32C = 0x82F63B78

_PUBLISH = "and publish the image anew"


@dataclass(frozen=True)
class Ufs:
    """A superblock that can be true for its device. Addresses and sizes in fragments, `block` and `fragment` in bytes.

    `version` is 1 or 2; `totals` are the counts of directories, free blocks, free i-nodes and free fragments.
    """

    place: int
    version: int
    block: int
    fragment: int
    groups: int
    span: int  # of a group: fs_fpg
    inodes: int  # of a group: fs_ipg
    group_at: int  # in a group: fs_cblkno
    inodes_at: int
    data_at: int
    superblock_at: int
    size: int
    summary_at: int
    summary_size: int  # bytes
    group_size: int  # bytes
    stagger: tuple[int, int]  # fs_old_cgoffset and fs_old_cgmask of a UFS1
    clusters: int  # fs_contigsumsize
    short_link: int  # a symbolic link up to this size lies in its i-node
    clean: int
    flags: int
    hashes: int
    snapshots: tuple[int, ...]
    pending: tuple[int, int]
    totals: tuple[int, int, int, int]
    name: str
    raw: bytes

    @property
    def kind(self) -> str:
        """The option ufstype= of Linux' mount."""
        return "ufs2" if self.version == 2 else "44bsd"

    @property
    def per_block(self) -> int:
        """Fragments of a block."""
        return self.block // self.fragment

    @property
    def inode_size(self) -> int:
        """Bytes of an i-node."""
        return 256 if self.version == 2 else 128

    def group_start(self, group: int) -> int:
        """The fragment from which the places in a group count: cgstart of fs.h."""
        offset, mask = self.stagger
        return self.span * group + (offset * (group & ~mask & 0xFFFFFFFF) if self.version == 1 else 0)

    def group_fragments(self, group: int) -> int:
        """How many fragments a group has; the last one may have fewer."""
        return min(self.span, self.size - self.span * group)


def read_ufs(device: str) -> Ufs:
    """The superblock that the BSDs would take. Raises GuestError when there is none, or none that can be true."""
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        length = os.lseek(descriptor, 0, os.SEEK_END)
        for place in _PLACES:
            raw = os.pread(descriptor, 8192, place)
            version = _version(raw, place, device)
            if version:
                return _checked(_parse(raw, place, version), length, device)
    finally:
        os.close(descriptor)
    raise GuestError(f"{device} has no UFS; correct ROOT_PARTITION or the disk label of the image")


def refuse_unwritable(ufs: Ufs, family: OsFamily, device: str) -> None:
    """Raises GuestError, with the cure, where writing by Linux would be wrong for the system that comes after it."""
    for reason in _obstacles(ufs, family):
        raise GuestError(f"the UFS on {device} {reason} {_PUBLISH}")


def prepare_for_writing(ufs: Ufs, family: OsFamily, device: str) -> None:
    """Take out of the superblock what Linux does not keep up to date, as a kernel of FreeBSD 11 and before does.

    FreeBSD's check hashes go, and with them their flag (ffs_subr.c: ffs_calc_sbhash() and readsuper() expect that of
    a kernel without them). A soft updates journal gets another time of mounting, so that nobody ever replays what it
    holds now: fsck_ffs asks for the i-node's (fsck_ffs/suj.c: suj_verifyino()). Raises OSError.
    """
    if family is not OsFamily.FREEBSD:
        return
    changed = bytearray(ufs.raw)
    if ufs.flags & _METACKHASH or ufs.hashes:
        struct.pack_into("<I", changed, _METACKHASH_AT, 0)
        struct.pack_into("<I", changed, _FLAGS_AT, ufs.flags & ~_METACKHASH)
    if ufs.flags & _SUJ:
        struct.pack_into("<q", changed, _MTIME_AT, int(time.time()))
    if changed != ufs.raw:
        with Path(device).open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), changed, ufs.place)
            os.fsync(file.fileno())


def crc32c(content: bytes) -> int:
    """As calculate_crc32c(~0, ...) of FreeBSD's sys/libkern: without the last inversion."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_CRC32C if crc & 1 else 0)
    return crc


def _version(raw: bytes, place: int, device: str) -> int:
    """1 or 2, or 0 where this place has no superblock. Raises GuestError for one that nobody here can use."""
    if len(raw) < SIZE:
        return 0
    (magic,) = struct.unpack_from("<I", raw, SIZE - 4)
    if magic == _UFS1:
        return 1 if place <= 8192 else 0
    (own_place,) = struct.unpack_from("<q", raw, 1000)
    if magic in {_UFS2, _UFS2_EA} and own_place != place:
        return 0
    if magic == _UFS2_EA:
        raise GuestError(
            f"{device} is an FFSv2 with extended attributes (NetBSD's FFSv2ea), which Linux does not know; "
            "make the image's file system with newfs -O 2"
        )
    if magic == _BROKEN:
        raise GuestError(f"the newfs of {device} was broken off; make the image anew")
    if struct.unpack(">I", raw[SIZE - 4 : SIZE])[0] in {_UFS1, _UFS2, _UFS2_EA}:
        raise GuestError(f"the UFS on {device} is of a big-endian machine; use an image for this one's architecture")
    return 2 if magic == _UFS2 else 0


def _parse(raw: bytes, place: int, version: int) -> Ufs:
    def number(at: int) -> int:
        return int(struct.unpack_from("<i", raw, at)[0])

    totals: tuple[int, int, int, int] = struct.unpack_from("<4q", raw, 1008)
    size, _, summary_at = struct.unpack_from("<3q", raw, 1080)
    updated = version == 2 or raw[211] & _FLAGS_UPDATED
    if version == 1:
        size, summary_at = number(36), number(152)
        if number(860) != number(48):  # fs_maxbsize: a superblock of before the new fields, as Linux tells it
            totals = struct.unpack_from("<4i", raw, 192)
    name = raw[680:712].partition(b"\0")[0].decode("ascii", "replace")
    return Ufs(
        place=place,
        version=version,
        block=number(48),
        fragment=number(52),
        groups=number(44),
        span=number(188),
        inodes=number(184),
        superblock_at=number(8),
        group_at=number(12),
        inodes_at=number(16),
        data_at=number(20),
        size=size,
        summary_at=summary_at,
        summary_size=number(156),
        group_size=number(160),
        stagger=(number(24), number(28)),
        clusters=number(1316),
        short_link=number(1320),
        clean=raw[209],
        flags=number(_FLAGS_AT) & 0xFFFFFFFF if updated else raw[211],
        hashes=number(_METACKHASH_AT) & 0xFFFFFFFF if version == 2 else 0,
        snapshots=struct.unpack_from("<20I", raw, 1116),
        pending=struct.unpack_from("<qI", raw, 1104),
        totals=totals,
        name=name,
        raw=raw,
    )


def _checked(ufs: Ufs, length: int, device: str) -> Ufs:
    fault = next((fault for check in (_sizes, _layout, _derived, _rotational) for fault in check(ufs, length)), None)
    if fault:
        raise GuestError(f"the superblock of the UFS on {device} is damaged ({fault}); run fsck on it {_PUBLISH}")
    return ufs


def _sizes(ufs: Ufs, length: int) -> Iterator[str]:
    """What cannot be true of a file system on so many bytes; each check stands on those before it."""
    if ufs.block not in {4096 << shift for shift in range(5)}:
        yield f"blocks of {ufs.block} bytes"
    if not 512 <= ufs.fragment <= ufs.block or ufs.fragment & (ufs.fragment - 1):
        yield f"fragments of {ufs.fragment} bytes"
    if ufs.per_block > _MOST_FRAGMENTS:
        yield f"{ufs.per_block} fragments in a block"
    if not 0 < ufs.size <= length // ufs.fragment:
        yield f"{ufs.size} fragments on a device of {length // ufs.fragment}"
    if ufs.span <= 0 or ufs.span % ufs.per_block or ufs.groups != -(-ufs.size // ufs.span):
        yield f"{ufs.groups} groups of {ufs.span} fragments for {ufs.size}"
    if ufs.groups > _MOST_GROUPS:
        yield f"{ufs.groups} groups"
    inode_room = ufs.inodes * ufs.inode_size
    if not 0 < inode_room <= ufs.span * ufs.fragment or inode_room % ufs.block:
        yield f"{ufs.inodes} i-nodes in a group"


def _layout(ufs: Ufs, _length: int) -> Iterator[str]:
    inodes_end = ufs.inodes_at + ufs.inodes * ufs.inode_size // ufs.fragment
    if not 0 <= ufs.superblock_at < ufs.group_at < ufs.inodes_at < inodes_end <= ufs.data_at:
        yield "its parts of a group overlap"
    if ufs.place + 8192 > ufs.group_at * ufs.fragment:
        yield "its parts of a group lie in the superblock"
    if any(at % ufs.per_block for at in (ufs.group_at, ufs.inodes_at)) or not _groups_fit(ufs):
        yield "its groups do not fit"
    if not GROUP_HEAD < ufs.group_size <= ufs.block:
        yield f"maps of {ufs.group_size} bytes in a group"
    if not 16 * ufs.groups <= ufs.summary_size <= 16 * ufs.groups + ufs.block:
        yield f"summaries of {ufs.summary_size} bytes"
    if not ufs.data_at <= ufs.summary_at <= ufs.size - -(-ufs.summary_size // ufs.fragment):
        yield "the place of its summaries"
    if not 0 <= ufs.clusters <= _MOST_CLUSTERS:
        yield f"clusters of {ufs.clusters} blocks"
    if not 0 <= ufs.short_link <= (120 if ufs.version == 2 else 60):
        yield f"symbolic links of {ufs.short_link} bytes in i-nodes"


def _groups_fit(ufs: Ufs) -> bool:
    # Without the stagger of old all groups are alike, and only the last may be cut short.
    groups = range(ufs.groups) if ufs.version == 1 and ufs.stagger[0] else (0, ufs.groups - 1)
    ends = ((ufs.group_start(group) + ufs.data_at, group) for group in groups)
    return all(ufs.span * group < end <= ufs.span * group + ufs.group_fragments(group) for end, group in ends)


def _derived(ufs: Ufs, _length: int) -> Iterator[str]:
    """What of the fields that follow from others does not, for the kernel uses those as they stand."""
    wanted = {
        56: ufs.per_block,
        72: -ufs.block,  # fs_bmask
        76: -ufs.fragment,
        80: ufs.block.bit_length() - 1,  # fs_bshift
        84: ufs.fragment.bit_length() - 1,
        96: ufs.per_block.bit_length() - 1,  # fs_fragshift
        116: ufs.block // (8 if ufs.version == 2 else 4),  # fs_nindir
        120: ufs.block // ufs.inode_size,  # fs_inopb
    }
    for at, value in wanted.items():
        if struct.unpack_from("<i", ufs.raw, at)[0] != value:
            yield f"byte {at} contradicts the size of blocks and fragments"
    (super_size,) = struct.unpack_from("<i", ufs.raw, 104)
    if not SIZE <= super_size <= len(ufs.raw) or super_size % 512:
        yield f"a superblock of {super_size} bytes"


def _rotational(ufs: Ufs, _length: int) -> Iterator[str]:
    """Of a UFS1: the geometry of disks of old, by which the kernel divides and counts (fs/ufs/util.h)."""
    if ufs.version == 1:
        places = {"per_fragment": 124, "track": 168, "cylinder": 172, "sectors": 132, "positions": 1360}
        of = {name: struct.unpack_from("<i", ufs.raw, at)[0] for name, at in places.items()}
        if min(of.values()) <= 0:
            yield "a geometry of zero"
        if of["positions"] > _MOST_FRAGMENTS or (ufs.span * of["per_fragment"] - 1) // of["cylinder"] > ufs.span:
            yield "an impossible geometry"


def _obstacles(ufs: Ufs, family: OsFamily) -> Iterator[str]:
    if ufs.place != _LINUX_LOOKS_AT[ufs.version]:
        yield f"has its superblock at {ufs.place >> 10} KiB, where Linux does not look; make it with newfs"
    if ufs.fragment > _LARGEST_FRAGMENT:
        yield f"has fragments of {ufs.fragment} bytes, Linux writes up to 4096; make it with newfs -f 4096"
    if ufs.clean != CLEAN or ufs.flags & (_UNCLEAN | _NEEDS_FSCK):
        yield "was not unmounted cleanly; start the system, let fsck see to it, shut it down in good order"
    if any(ufs.pending):
        yield "still has blocks or i-nodes to be freed; run fsck on it"
    if any(ufs.snapshots):
        yield "has snapshots, which Linux would spoil; remove them (find -x / -flags snapshot)"
    if ufs.version == 1 and struct.unpack_from("<i", ufs.raw, 1356)[0] == -1:
        yield "is of 4.2BSD, which Linux only reads; make it with a newer newfs"
    if family is OsFamily.FREEBSD and ufs.flags & _GJOURNAL:
        yield "is journaled by gjournal, which Linux would go behind; switch to soft updates (tunefs -J disable)"
    if family is OsFamily.FREEBSD and ufs.flags & _METACKHASH and ufs.hashes & _CK_SUPERBLOCK and not _hash_holds(ufs):
        yield "has a superblock whose check hash is wrong; run fsck on it"
    if family is OsFamily.NETBSD and ufs.flags & _WAPBL:
        yield "has a log that was not closed; shut the system down in good order"
    if family is OsFamily.NETBSD and ufs.flags & _QUOTA2:
        yield "has quotas inside, which Linux does not count; switch them off (tunefs -q nouser -q nogroup)"


def _hash_holds(ufs: Ufs) -> bool:
    size, (recorded,) = struct.unpack_from("<i", ufs.raw, 104)[0], struct.unpack_from("<I", ufs.raw, _CKHASH_AT)
    hashed = ufs.raw[:_CKHASH_AT] + bytes(4) + ufs.raw[_CKHASH_AT + 4 :]
    return crc32c(hashed[:size]) == int(recorded)
