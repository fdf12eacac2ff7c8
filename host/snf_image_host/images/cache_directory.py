# SPDX-License-Identifier: GPL-2.0-or-later
"""CACHE_DIR: a directory that is root's alone, or none at all, and files in it that nobody else can name.

What lies there is put on disks that boot. A directory that another user has made, or could exchange for his own, is
refused; so is a symbolic link, wherever on the way it is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from snf_image_host import kernel
from snf_image_host.disks.targets import LocalTarget, Target
from snf_image_host.images.sources import Source
from snf_image_host.vm.drives import Drive
from snf_image_shared.errors import ConfigurationError, DiskError, SnfImageError

_BEYOND = 1 << 62  # bytes: no file system has files of that size, so a disk's last MiB is never in the way


@contextmanager
def cache_directory(path: Path) -> Iterator[int]:
    """A descriptor of CACHE_DIR, which is made if it is missing, for the length of the block.

    Raises ConfigurationError for one that is not ours alone.
    """
    directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for depth, name in enumerate(path.parts[1:], 2):
            here = Path(*path.parts[:depth])
            try:
                below = _enter(directory, name, is_last=here == path)
            except OSError as error:
                raise _unusable(path, here, error) from error
            os.close(directory)
            directory = below
            _check(path, here, os.fstat(directory))
        yield directory
    finally:
        os.close(directory)


@contextmanager
def unnamed_file(directory: int, path: Path) -> Iterator[int]:
    """A new file in the directory (0600), which is gone when it is closed, however we end. `path` is for messages.

    Raises ConfigurationError where the file system has no such files, DiskError where there is no room for one.
    """
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=directory)
    except OSError as error:
        if error.errno in {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOSYS}:
            raise ConfigurationError(
                f"CACHE_DIR {path} lies on a file system that has no files without a name (O_TMPFILE): "
                "put it on ext4, xfs, btrfs or tmpfs"
            ) from error
        raise not_written(path, error) from error
    try:
        yield fd
    finally:
        os.close(fd)


def not_written(path: Path, error: OSError) -> DiskError:
    """The error to raise when the directory takes nothing."""
    return DiskError(f"CACHE_DIR {path}: cannot be written: {error.strerror}; make space on the file system it lies on")


class Scratch(Target):
    """An unnamed file that is filled like a disk, but has no end: holes stay holes, and the page cache is passed by.

    More than `limit` bytes raise what `no_room` makes; all else raises DiskError that names CACHE_DIR. No process gets
    its descriptor: it would not keep to the limit.
    """

    def __init__(self, path: Path, fd: int, limit: int, no_room: Callable[[], SnfImageError]) -> None:
        kernel.set_direct(fd, True)
        self.name = f"CACHE_DIR {path}"
        self.size = _BEYOND
        self._file = LocalTarget(Path(self.name), fd)
        self._limit = limit
        self._no_room = no_room

    def write(self, view: memoryview, offset: int) -> None:
        """As Target says."""
        self._check_limit(offset + len(view))
        self._file.write(view, offset)

    def read(self, view: memoryview, offset: int, length: int) -> None:
        """As Target says."""
        self._file.read(view, offset, length)

    def zero(self, offset: int, length: int) -> None:
        """As Target says. What has never been written is a hole."""
        if offset == _BEYOND - length:  # the last MiB of a disk
            return
        self._check_limit(offset + length)
        written = os.fstat(self._file.fd).st_size
        if offset < written:
            self._file.zero(offset, min(length, written - offset))

    def flush(self) -> None:
        """As Target says."""
        self._file.flush()

    @property
    def descriptors(self) -> frozenset[int]:
        return self._file.descriptors

    def drive(self) -> Drive:
        return self._file.drive()

    def finish(self, size: int) -> None:
        """Let the file have `size` bytes, on stable storage. Raises DiskError."""
        try:
            os.ftruncate(self._file.fd, size)
        except OSError as error:
            raise DiskError(f"{self.name}: cannot be resized: {error.strerror}; check the storage below it") from error
        self.flush()

    def _check_limit(self, end: int) -> None:
        if end > self._limit:
            raise self._no_room()


@contextmanager
def read_only(fd: int, name: str) -> Iterator[Source]:
    """What is in a file of ours, through a descriptor that an unprivileged process may be given."""
    reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(reader)
        yield Source(name, status.st_size, reader, modified=status.st_mtime_ns)
    finally:
        os.close(reader)


def room(directory: int) -> int:
    """Free bytes on the file system of the directory, without what it keeps back for root."""
    status = os.fstatvfs(directory)
    return status.f_bavail * status.f_frsize


def _enter(directory: int, name: str, *, is_last: bool) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        return os.open(name, flags, dir_fd=directory)
    with suppress(FileExistsError):  # another run was quicker
        os.mkdir(name, 0o700 if is_last else 0o755, dir_fd=directory)
        os.fsync(directory)
    return os.open(name, flags, dir_fd=directory)


def _check(path: Path, here: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if here == path:
        if status.st_uid != os.geteuid():
            raise ConfigurationError(
                f"CACHE_DIR {path} belongs to user {status.st_uid}, so its content cannot be trusted: remove it"
            )
        if mode & 0o077:
            raise ConfigurationError(
                f"CACHE_DIR {path} has mode {mode:04o}, so its content cannot be trusted: empty it, and 'chmod 700' it"
            )
    elif status.st_uid not in {0, os.geteuid()} or (mode & 0o022 and not mode & stat.S_ISVTX):
        raise ConfigurationError(
            f"CACHE_DIR {path}: {here} belongs to user {status.st_uid} with mode {mode:04o}, so others than root can "
            "exchange what is below it: choose a CACHE_DIR that only root can"
        )


def _unusable(path: Path, here: Path, error: OSError) -> ConfigurationError:
    if error.errno in {errno.ENOTDIR, errno.ELOOP}:
        return ConfigurationError(
            f"CACHE_DIR {path}: {here} is a symbolic link or no directory: name the directory itself"
        )
    return ConfigurationError(f"CACHE_DIR {path}: {here} cannot be used: {error.strerror}; correct CACHE_DIR")
