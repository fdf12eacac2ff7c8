# SPDX-License-Identifier: GPL-2.0-or-later
"""Replacing a file atomically by one that looks the same: owner, mode, ACLs, attributes, SELinux label (CVE-2012-2690);
on NTFS its security descriptor, flags, streams and time of creation. A short (8.3) name is not kept.

Capabilities stay, too, although write(2) would take them away: nobody but root and the tenant writes here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from snf_image_helper.files import ntfs_attributes
from snf_image_helper.files.extended_attributes import names, value

# The kernel recomputes or refuses these, which seal the old content.
_SEALS = frozenset({"security.ima", "security.evm"})
_ACL = "system.posix_acl_"
# linux/fs.h
_GET_FLAGS = 0x80086601
_UNCHANGEABLE = 0x10 | 0x20  # immutable, append-only
_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR})


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
    """Write `name` in the open `directory` by a Replacement. Raises OSError; the old file is then as it was."""
    with Replacement(directory, name, content, ownership) as replacement:
        replacement.commit()


def dress_directory(made: int, ownership: Ownership) -> None:
    """Give a new directory that is open what it is to have. Raises OSError."""
    os.fchown(made, ownership.uid, ownership.gid)
    os.fchmod(made, ownership.mode & 0o7777)
    parent = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=made)
    try:
        for key, content in ntfs_attributes.of_new(parent, is_directory=True).items():
            os.setxattr(made, key, content)
    finally:
        os.close(parent)


class Replacement:
    """What is to be `name` in the open `directory`: written, made to look like the file it replaces, and flushed.

    None for `ownership` keeps the replaced file's, ACLs included; a new file is root's with mode 0644. It has no name
    until get_ready() where the file system can do that, so a run that is killed leaves nothing; what is left by one
    that was killed later always has the same name, and goes with the next replacement. All of it raises OSError, and
    leaving the block without commit() leaves everything as it was.
    """

    def __init__(self, directory: int, name: str, content: bytes, ownership: Ownership | None) -> None:
        self._directory = directory
        self._name = name
        self._beside = f".snf-image-{zlib.crc32(os.fsencode(name)):08x}"
        _refuse_unchangeable(directory, name)
        kept, attributes = _look(directory, name)
        if ownership is not None:
            attributes = {key: found for key, found in attributes.items() if not key.startswith(_ACL)}
        self._file, self._is_named = _new_file(directory, self._beside)
        try:
            _fill(self._file, content, ownership or kept or Ownership(), attributes)
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Replacement:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def get_ready(self) -> None:
        """Give it a name beside the old file, the last thing that there may be no room for."""
        if not self._is_named:
            _remove(self._directory, self._beside)
            os.link(f"/proc/self/fd/{self._file}", self._beside, dst_dir_fd=self._directory)
            self._is_named = True

    def commit(self) -> None:
        """Put it in the place of the old file, in one step."""
        self.get_ready()
        os.rename(self._beside, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._is_named = False

    def close(self) -> None:
        """Let go of it, and remove what has not been committed."""
        os.close(self._file)
        if self._is_named:
            with suppress(OSError):
                os.unlink(self._beside, dir_fd=self._directory)


def _new_file(directory: int, name: str) -> tuple[int, bool]:
    """A new file for writing, and whether it has the name."""
    try:
        return os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=directory), False
    except OSError as error:
        if error.errno not in _NO_TMPFILE:  # vfat cannot
            raise
    _remove(directory, name)
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory), True


def _remove(directory: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _fill(file: int, content: bytes, wanted: Ownership, attributes: dict[str, bytes]) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]
    os.fchown(file, wanted.uid, wanted.gid)
    os.fchmod(file, wanted.mode & 0o7777)
    for key, attribute in attributes.items():
        os.setxattr(file, key, attribute)
    os.fsync(file)


def _refuse_unchangeable(directory: int, name: str) -> None:
    """Raises PermissionError for a directory that lets files in, or not even that, and none of them out again."""
    opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        if _flags(opened) & _UNCHANGEABLE:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), name)
    finally:
        os.close(opened)


def _look(directory: int, name: str) -> tuple[Ownership | None, dict[str, bytes]]:
    """Ownership and extended attributes of an existing regular file; None and what a new one gets when there is none.

    Raises PermissionError for a file that commit() could not replace.
    """
    try:
        file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None, ntfs_attributes.of_new(directory)
    try:
        if _flags(file) & _UNCHANGEABLE:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), name)
        return ownership_of(os.fstat(file)), _attributes(file)
    finally:
        os.close(file)


def _flags(file: int) -> int:
    try:
        return int(struct.unpack("i", fcntl.ioctl(file, _GET_FLAGS, bytes(4)))[0])
    except OSError:  # a file system without any
        return 0


def _attributes(file: int) -> dict[str, bytes]:
    try:
        listed = {key: value(file, key) for key in names(file) if key not in _SEALS}
        return listed | ntfs_attributes.of_file(file)
    except OSError as error:
        if error.errno == errno.ENOTSUP:  # vfat and others have none
            return {}
        raise
