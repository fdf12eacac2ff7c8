# SPDX-License-Identifier: GPL-2.0-or-later
"""What went wrong with a file of the guest, in words that name it and the cure."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from snf_image_shared.errors import GuestError

_CURES = {
    errno.EPERM: "is immutable or append-only, or lies in such a directory (run chattr -ia on it in the image), "
    "or on a file system without owners such as vfat (ask for none)",
    errno.EROFS: "its file system is read-only; check it with fsck in the image",
    errno.ENOSPC: "the guest's file system is full; use a larger disk or remove files from the image",
    errno.EDQUOT: "a quota of the guest is used up; raise it in the image",
    errno.EIO: "the file system cannot be read or written there; check the image with fsck",
    errno.ELOOP: "its symbolic links lead nowhere; correct them in the image",
    errno.ENAMETOOLONG: "the path is too long; shorten it",
    errno.ENOENT: "does not exist, or its directory does not; create it in the image",
    errno.ENOTDIR: "a part of the path is no directory; correct it in the image",
    errno.EINVAL: 'its file system does not take it; Windows forbids < > : " | ? * and \\ in a name, a dot or blank at '
    "its end, and names such as CON and NUL",
    errno.EISDIR: "is a directory where a file belongs; remove it from the image",
    errno.EEXIST: "something else already has this name; remove it from the image",
    errno.EXDEV: "cannot be moved to another file system; keep both names on one file system of the image",
}


@contextmanager
def explained(path: str) -> Iterator[None]:
    """An OSError of the block becomes a GuestError that names the path and the cure."""
    try:
        yield
    except OSError as error:
        cure = _CURES.get(error.errno or 0, f"{error.strerror}; check the image's file system")
        raise GuestError(f"{shown(path)}: {cure}") from error


def shown(path: str) -> str:
    """A path for a message: it may come from the guest, so nothing but printable characters, and not too many."""
    return "".join(char if char.isprintable() else "?" for char in path)[:200]
