# SPDX-License-Identifier: GPL-2.0-or-later
"""openat2(2), which Python lacks: the kernel resolves a path inside a root, whatever links lie on the way.

What ntfs-3g cannot read it shows as a link that leads nowhere: that is refused here, or it would look like a missing
file (libntfs-3g/reparse.c, ntfs_get_reparse_point; [MS-FSCC] 2.1.2.1 for the tags).
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat

from snf_image_helper.files.guest_errors import shown
from snf_image_shared.errors import GuestError

_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
_UNREADABLE = re.compile(r"unsupported reparse tag 0x([0-9a-fA-F]{8})")
_COMPRESSED = 0x80000017  # IO_REPARSE_TAG_WOF


def open_inside(root: int, path: str, flags: int) -> int:
    """Open `path` as if the directory `root` were "/"; close-on-exec. The caller closes the result.

    Raises OSError, and GuestError as refuse_unreadable() does.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    while True:
        found = int(_libc.syscall(_SYS_OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how)))
        if found >= 0:
            return found
        number = ctypes.get_errno()
        # EAGAIN: something was renamed or mounted anywhere while the kernel walked over "..".
        if number not in {errno.EAGAIN, errno.EINTR}:
            if number == errno.ENOENT and not flags & os.O_NOFOLLOW:
                _refuse_unreadable_link(root, path)
            raise OSError(number, os.strerror(number), path)


def refuse_unreadable(target: str, path: str) -> None:
    """Refuse what a link with this text stands for when ntfs-3g cannot read it. Raises GuestError."""
    found = _UNREADABLE.fullmatch(target)
    if found is None:
        return
    if int(found[1], 16) == _COMPRESSED:
        what = (
            "is compressed by CompactOS; run compact.exe /CompactOS:never, or compact.exe /u /exe on it, in the image"
        )
    else:
        what = (
            f"is a reparse point of a kind (0x{found[1]}) that cannot be read here; make it a plain file in the image"
        )
    raise GuestError(f"{shown(path)}: {what}")


def _refuse_unreadable_link(root: int, path: str) -> None:
    try:
        entry = open_inside(root, path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        if stat.S_ISLNK(os.fstat(entry).st_mode):
            refuse_unreadable(os.readlink("", dir_fd=entry), path)
    finally:
        os.close(entry)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
