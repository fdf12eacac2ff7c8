# SPDX-License-Identifier: GPL-2.0-or-later
"""What Windows would let whom do with a new file: ntfs-3g inherits nothing by itself and lets everybody do everything.

Pure. A descriptor is self-relative, as system.ntfs_acl has it. Sources: [MS-DTYP] 2.4.6 SECURITY_DESCRIPTOR, 2.4.4 ACE,
2.5.3.4 "Algorithm for Creating a Security Descriptor".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_SELF_RELATIVE, _DACL_PRESENT, _DACL_INHERITED, _DACL_PROTECTED = 0x8000, 0x0004, 0x0400, 0x1000
_TO_FILES, _TO_DIRECTORIES, _NOT_FURTHER, _ONLY_BELOW, _IS_INHERITED = 0x01, 0x02, 0x04, 0x08, 0x10
_ALLOW, _DENY = 0, 1
_HEADER = struct.Struct("<BBHIIII")  # revision, 0, control, owner, group, SACL, DACL
_ACL = struct.Struct("<BBHHH")  # revision, 0, bytes, entries, 0
_ACE = struct.Struct("<BBHI")  # type, flags, bytes, mask; then a SID
_MOST = 1024  # entries
_FILE_ALL = 0x001F01FF
# What generic rights are for files: winnt.h, GENERIC_ALL and its like.
_GENERIC = {0x10000000: _FILE_ALL, 0x80000000: 0x00120089, 0x40000000: 0x00120116, 0x20000000: 0x001200A0}


def _sid(*parts: int) -> bytes:
    authority, *rest = parts
    return bytes([1, len(rest)]) + authority.to_bytes(6, "big") + struct.pack(f"<{len(rest)}I", *rest)


ADMINISTRATORS = _sid(5, 32, 544)
SYSTEM = _sid(5, 18)
_CREATOR_OWNER, _CREATOR_GROUP = _sid(3, 0), _sid(3, 1)


def inherited(parent: bytes, *, is_directory: bool) -> bytes:
    """The descriptor of what administrators make in a directory with the descriptor `parent`.

    Where the directory hands nothing down, which a damaged descriptor does not either, only SYSTEM and administrators
    may do anything.
    """
    entries = [new for entry in _entries(parent) for new in _handed_down(*entry, is_directory=is_directory)]
    return _descriptor(entries, _DACL_INHERITED) if entries else _descriptor(_of_administrators(), 0)


def private() -> bytes:
    """The descriptor of a file that nobody but SYSTEM and administrators may read, whatever its directory says."""
    return _descriptor(_of_administrators(), _DACL_PROTECTED)


def _of_administrators() -> list[bytes]:
    return [_ace(_ALLOW, 0, _FILE_ALL, sid) for sid in (SYSTEM, ADMINISTRATORS)]


def _descriptor(entries: list[bytes], flags: int) -> bytes:
    acl = b"".join(entries)
    acl = _ACL.pack(2, 0, _ACL.size + len(acl), len(entries), 0) + acl
    group = _HEADER.size + len(ADMINISTRATORS)
    dacl = group + len(SYSTEM)
    header = _HEADER.pack(1, 0, _SELF_RELATIVE | _DACL_PRESENT | flags, _HEADER.size, group, 0, dacl)
    return header + ADMINISTRATORS + SYSTEM + acl


def _entries(descriptor: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, mask and SID of the entries that allow or deny; nothing where it is not as it should be."""
    if len(descriptor) < _HEADER.size:
        return
    control, place = struct.unpack_from("<H12xI", descriptor, 2)
    if not control & _DACL_PRESENT or not _HEADER.size <= place <= len(descriptor) - _ACL.size:
        return
    _, _, size, count, _ = _ACL.unpack_from(descriptor, place)
    end = min(place + size, len(descriptor))
    place += _ACL.size
    for _ in range(min(count, _MOST)):
        if place + _ACE.size > end:
            return
        kind, flags, length, mask = _ACE.unpack_from(descriptor, place)
        sid = descriptor[place + _ACE.size : min(place + length, end)]
        if length < _ACE.size or len(sid) < 8 or len(sid) != 8 + 4 * sid[1]:
            return
        if kind in {_ALLOW, _DENY}:
            yield kind, flags, mask, sid
        place += length


def _handed_down(kind: int, flags: int, mask: int, sid: bytes, *, is_directory: bool) -> Iterator[bytes]:
    further = flags & (_TO_FILES | _TO_DIRECTORIES) if is_directory and not flags & _NOT_FURTHER else 0
    if flags & (_TO_DIRECTORIES if is_directory else _TO_FILES):
        own = {_CREATOR_OWNER: ADMINISTRATORS, _CREATOR_GROUP: SYSTEM}.get(sid, sid)
        if further and own is not sid:
            yield _ace(kind, _IS_INHERITED, _specific(mask), own)
            yield _ace(kind, _IS_INHERITED | _ONLY_BELOW | further, mask, sid)
        else:
            yield _ace(kind, _IS_INHERITED | further, _specific(mask), own)
    elif further:
        yield _ace(kind, _IS_INHERITED | _ONLY_BELOW | further, mask, sid)


def _specific(mask: int) -> int:
    for generic, rights in _GENERIC.items():
        if mask & generic:
            mask = mask & ~generic | rights
    return mask


def _ace(kind: int, flags: int, mask: int, sid: bytes) -> bytes:
    return _ACE.pack(kind, flags, _ACE.size + len(sid), mask) + sid
