# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a file only NTFS has, by the extended attributes that ntfs-3g shows and does not list (ntfs-3g(8))."""

from __future__ import annotations

import os

from snf_image_helper.files.extended_attributes import value
from snf_image_helper.files.security_descriptors import inherited, private

_SECURITY = "system.ntfs_acl"
_FLAGS = "system.ntfs_attrib"
_CREATED = "system.ntfs_crtime"
_KEPT_FLAGS = 0x1 | 0x2 | 0x4 | 0x20 | 0x2000  # read-only, hidden, system, to be archived, not indexed


def of_file(file: int) -> dict[str, bytes]:
    """Security descriptor, flags and time of creation, for the file that takes this one's place; {} elsewhere."""
    try:
        flags = int.from_bytes(value(file, _FLAGS), "little") & _KEPT_FLAGS
        kept = {name: value(file, name) for name in (_SECURITY, _CREATED)}
    except OSError:
        return {}
    return {**kept, _FLAGS: flags.to_bytes(4, "little")}


def of_new(directory: int, *, is_directory: bool = False) -> dict[str, bytes]:
    """What a new file in a directory, or a directory in it, gets; {} elsewhere."""
    try:
        # The descriptor may be one that only names the directory.
        opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return {}
    try:
        parent = value(opened, _SECURITY)
    except OSError:
        return {}
    finally:
        os.close(opened)
    return {_SECURITY: inherited(parent, is_directory=is_directory)}


def make_private(file: int) -> None:
    """Let nobody but SYSTEM and administrators read an open file; elsewhere nothing happens. Raises OSError."""
    try:
        found = value(file, _SECURITY)
    except OSError:
        return
    if found != private():
        os.setxattr(file, _SECURITY, private())
