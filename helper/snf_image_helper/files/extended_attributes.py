# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading extended attributes into room for the largest: os.getxattr() tries with little room first.

lowntfs-3g answers that with EIO instead of ERANGE, so that a stream or a descriptor of 129 bytes could not be read.
"""

from __future__ import annotations

import ctypes
import os

_LARGEST = 65536  # XATTR_SIZE_MAX and XATTR_LIST_MAX, linux/limits.h


def names(file: int) -> list[str]:
    """Of an open file. Raises OSError."""
    room = ctypes.create_string_buffer(_LARGEST)
    found = _checked(_libc.flistxattr(file, room, ctypes.c_size_t(_LARGEST)))
    return [os.fsdecode(name) for name in room.raw[:found].split(b"\0") if name]


def value(file: int, name: str) -> bytes:
    """Of an open file. Raises OSError."""
    room = ctypes.create_string_buffer(_LARGEST)
    found = _checked(_libc.fgetxattr(file, os.fsencode(name), room, ctypes.c_size_t(_LARGEST)))
    return room.raw[:found]


def _checked(found: int) -> int:
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found


_libc = ctypes.CDLL(None, use_errno=True)
_libc.flistxattr.restype = _libc.fgetxattr.restype = ctypes.c_ssize_t
