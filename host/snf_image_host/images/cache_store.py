# SPDX-License-Identifier: GPL-2.0-or-later
"""The images in CACHE_DIR: bytes named by their sha256, records of where they came from, and locks.

    image-SHA256    the bytes as they were fetched; locked (shared) while a deployment reads them
    index-KEY       an Entry
    lock            ranges of it are locked: one while the directory is changed, one for each image being fetched

The kernel drops a lock with the process that has it, so a killed run leaves none. A name is given to a file only when
it is complete and on stable storage; until then it has none and is gone with its process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from snf_image_host import kernel
from snf_image_host.images.cache_directory import cache_directory, not_written, unnamed_file
from snf_image_host.images.cache_index import LARGEST, Entry, dump_entry, load_entry
from snf_image_shared.errors import ConfigurationError

_IMAGE = re.compile(r"image-([0-9a-f]{64})")
_INDEX = re.compile(r"index-([0-9a-f]{64})")
_KEPT = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True)
class Kept:
    """One image of the cache: `space` in bytes on the disk, `used` in seconds since 1970, `entries` by their key."""

    digest: str
    size: int
    space: int
    used: float
    in_use: bool
    entries: tuple[Entry, ...]


class CacheStore:
    """The cache below `path`; `directory` and `lock` are descriptors of CACHE_DIR and of the file `lock`.

    Methods raise ConfigurationError when CACHE_DIR cannot be used, and OSError when it cannot be written.
    """

    def __init__(self, path: Path, directory: int, lock: int) -> None:
        self.path = path
        self.directory = directory
        self._lock = lock

    @contextmanager
    def alone(self, key: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold the entry of that key; `on_wait` is called once when another run has it."""
        with self._held(1 + int(key[:15], 16), on_wait):
            yield

    def lookup(self, key: str) -> Entry | None:
        """What is known of an origin."""
        record = self._read(f"index-{key}")
        return load_entry(record, key) if record is not None else None

    def open_image(self, digest: str, size: int) -> int | None:
        """A locked descriptor of the image's bytes for reading, which the caller owns; they count as used now.

        None if there are none, if they are not `size`, or in no file of ours.
        """
        try:
            fd = os.open(f"image-{digest}", os.O_RDONLY | _KEPT, dir_fd=self.directory)
        except OSError:
            return None
        status = os.fstat(fd)
        if not _is_ours(status) or status.st_size != size:
            os.close(fd)
            return None
        os.set_blocking(fd, True)
        fcntl.flock(fd, fcntl.LOCK_SH)
        os.utime(fd, ns=(time.time_ns(), status.st_mtime_ns))
        return fd

    def make_room(self, size: int, limit: int) -> bool:
        """Remove what has not been used for longest until `size` more bytes make no more than `limit` in all.

        Nothing is removed that a deployment reads; False if that is too much, or `size` alone is.
        """
        if size > limit:
            return False
        with self._changing():
            return self._evict(limit - size)

    def commit(self, fd: int, entry: Entry, limit: int) -> bool:
        """Give a complete unnamed file its name, unless there is no room for it. It is on stable storage then.

        It counts as being read as long as `fd` is open. Raises DiskError.
        """
        fcntl.flock(fd, fcntl.LOCK_SH)
        with self._changing(), unnamed_file(self.directory, self.path) as record:
            try:
                os.write(record, dump_entry(entry))
                os.fsync(record)
            except OSError as error:
                raise not_written(self.path, error) from error
            if not self._evict(limit - _space(os.fstat(fd)), spared=entry.digest):
                return False
            self._name(fd, f"image-{entry.digest}")
            self._name(record, f"index-{entry.key}")
            self._evict(limit)  # what the new record has taken the place of
        return True

    def discard(self, digest: str, fd: int) -> None:
        """Remove an image, if the descriptor is still of the one that has this name."""
        name = f"image-{digest}"
        with self._changing(), suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=self.directory, follow_symlinks=False)
            if os.path.samestat(status, os.fstat(fd)):
                os.unlink(name, dir_fd=self.directory)

    def prune(self, limit: int) -> None:
        """Remove what has not been used for longest until no more than `limit` bytes are left, or are in use."""
        with self._changing():
            self._evict(limit)

    def kept(self) -> list[Kept]:
        """All images, the one used last first. Nothing is changed."""
        with self._changing():
            return sorted(self._kept(), key=lambda each: each.used, reverse=True)

    def _kept(self) -> Iterator[Kept]:
        entries = [entry for key in self._names(_INDEX) if (entry := self.lookup(key))]
        for digest in self._names(_IMAGE):
            with suppress(FileNotFoundError):
                status = os.stat(f"image-{digest}", dir_fd=self.directory, follow_symlinks=False)
                own = tuple(entry for entry in entries if entry.digest == digest)
                in_use = _is_ours(status) and self._is_locked(digest)
                yield Kept(digest, status.st_size, _space(status), status.st_atime, in_use, own)

    def _evict(self, limit: int, spared: str = "") -> bool:
        kept = sorted(self._kept(), key=lambda each: each.used)
        total = sum(each.space for each in kept if each.digest != spared)
        for each in kept:
            if each.digest == spared or each.in_use:
                continue
            # What no record leads to is never read again.
            if total > limit or not each.entries:
                with suppress(IsADirectoryError, PermissionError):
                    os.unlink(f"image-{each.digest}", dir_fd=self.directory)
                total -= each.space
        present = {*self._names(_IMAGE), spared}
        for key in self._names(_INDEX):
            entry = self.lookup(key)
            if not entry or entry.digest not in present:
                with suppress(IsADirectoryError, PermissionError):
                    os.unlink(f"index-{key}", dir_fd=self.directory)
        return total <= limit

    def _is_locked(self, digest: str) -> bool:
        """Whether a deployment reads it."""
        with suppress(OSError):
            fd = os.open(f"image-{digest}", os.O_RDONLY | _KEPT, dir_fd=self.directory)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(fd)
        return False

    def _names(self, pattern: re.Pattern[str]) -> list[str]:
        with os.scandir(self.directory) as entries:
            found = [pattern.fullmatch(entry.name) for entry in entries]
        return [match[1] for match in found if match]

    def _read(self, name: str) -> bytes | None:
        try:
            fd = os.open(name, os.O_RDONLY | _KEPT, dir_fd=self.directory)
        except OSError:
            return None
        try:
            status = os.fstat(fd)
            return os.read(fd, LARGEST) if _is_ours(status) and status.st_size <= LARGEST else None
        finally:
            os.close(fd)

    def _name(self, fd: int, name: str) -> None:
        """Link an unnamed file, in the place of what has that name: for a moment nothing does."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.directory)
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=self.directory)
        os.fsync(self.directory)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._held(0, lambda: None):
            yield

    @contextmanager
    def _held(self, offset: int, on_wait: Callable[[], None]) -> Iterator[None]:
        if not kernel.lock_byte(self._lock, offset, wait=False):
            on_wait()
            kernel.lock_byte(self._lock, offset, wait=True)
        try:
            yield
        finally:
            kernel.unlock_byte(self._lock, offset)


@contextmanager
def cache_store(path: Path) -> Iterator[CacheStore]:
    """The cache in CACHE_DIR, for the length of the block. Raises ConfigurationError, DiskError if it is full."""
    with cache_directory(path) as directory:
        try:
            lock = os.open("lock", os.O_RDWR | os.O_CREAT | _KEPT, 0o600, dir_fd=directory)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}:
                raise not_written(path, error) from error
            raise ConfigurationError(f"CACHE_DIR {path}: lock: {error.strerror}; empty the directory") from error
        try:
            yield CacheStore(path, directory, lock)
        finally:
            os.close(lock)


def _is_ours(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _space(status: os.stat_result) -> int:
    return status.st_blocks * 512
