# SPDX-License-Identifier: GPL-2.0-or-later
"""Replacing a file atomically by one that looks the same: owner, mode, ACLs, SELinux label (cf. CVE-2012-2690)."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass

# The kernel recomputes or refuses these: capabilities go with a program's content, IMA and EVM seal it.
_SEALS = frozenset({"security.capability", "security.ima", "security.evm"})
_ACL = "system.posix_acl_"


@dataclass(frozen=True)
class Ownership:
    """Numeric owner and group, and the permission bits (0o7777 at most)."""

    uid: int = 0
    gid: int = 0
    mode: int = 0o644


def ownership_of(found: os.stat_result) -> Ownership:
    """What stat(2) says, without the type of the file."""
    return Ownership(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))


def replace_file(directory: int, name: str, content: bytes, ownership: Ownership | None) -> None:
    """Write `name` in the open `directory`: beside, made to look like the file it replaces, flushed, renamed over.

    None for `ownership` keeps the replaced file's, ACLs included; a new file is root's with mode 0644.
    Raises OSError; the old file is then as it was, and nothing is left beside it.
    """
    kept, attributes = _look(directory, name)
    if ownership is not None:
        attributes = {key: value for key, value in attributes.items() if not key.startswith(_ACL)}
    wanted = ownership or kept or Ownership()
    beside = f".snf-image-{os.urandom(8).hex()}"
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(file, left) :]
            os.fchown(file, wanted.uid, wanted.gid)
            os.fchmod(file, wanted.mode & 0o7777)
            for key, value in attributes.items():
                os.setxattr(file, key, value)
            os.fsync(file)
        finally:
            os.close(file)
        os.rename(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with suppress(OSError):
            os.unlink(beside, dir_fd=directory)
        raise


def _look(directory: int, name: str) -> tuple[Ownership | None, dict[str, bytes]]:
    """Ownership and extended attributes of an existing regular file; (None, {}) when there is none."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None, {}
    try:
        return ownership_of(os.fstat(file)), _attributes(file)
    finally:
        os.close(file)


def _attributes(file: int) -> dict[str, bytes]:
    try:
        return {key: os.getxattr(file, key) for key in os.listxattr(file) if key not in _SEALS}
    except OSError as error:
        if error.errno == errno.ENOTSUP:  # vfat and others have none
            return {}
        raise
