# SPDX-License-Identifier: GPL-2.0-or-later
"""Disk -> Target: the one descriptor through which an instance's disk is checked, written and later given to QEMU.

Everything is asked of the open descriptor, never of the path again. Nothing here reads what a tenant wrote.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import stat
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snf_image_host import kernel
from snf_image_host.copying.buffers import huge_pages
from snf_image_host.images.sources import Source
from snf_image_host.vm.drives import Drive, RemoteDrive
from snf_image_shared.errors import DiskError

EDGE = 1 << 20  # bytes at either end of a disk that decide whether it boots: boot sector, GPT, backup GPT
_BLOCK = 64 << 10  # granularity of the search for zeros
_FILE_ALIGNMENT = 4096  # of a direct transfer to a file; a block device takes its own sectors
_LOCK_PATIENCE = 10.0  # seconds: udev locks a new block device for a moment; a killed run's QEMU takes one to be gone
_LOOPS = Path("/sys/block")

# bytearray == memoryview is one memcmp; two memoryviews would be compared element by element.
_ZERO_BLOCK = bytearray(_BLOCK)


class Writable(ABC):
    """What has room for `size` bytes and is named `name` in messages. Methods may be called from several threads.

    They raise DiskError.
    """

    name: str
    size: int
    sector_size: int = 1  # bytes; a write to a block device begins and ends at a multiple of it

    @abstractmethod
    def write(self, view: memoryview, offset: int) -> None:
        """Write all of `view` (page-aligned memory) at `offset`."""

    @abstractmethod
    def zero(self, offset: int, length: int) -> None:
        """Make `length` bytes at `offset` read as zeros, by the cheapest means that is sure to."""

    @abstractmethod
    def flush(self) -> None:
        """Return when everything written is on stable storage."""

    def rounded(self, end: int) -> int:
        """The first offset at or after `end` at which a write may end."""
        return -(-end // self.sector_size) * self.sector_size

    def write_sparsely(self, view: memoryview, offset: int) -> None:
        """Like write(), but long runs of zeros are zeroed on the disk rather than sent to it."""
        start = 0
        while start < len(view):
            end, is_zero = _run(view, start)
            if is_zero:
                self.zero(offset + start, end - start)
            else:
                self.write(view[start:end], offset + start)
            start = end

    def wipe_ends(self) -> None:
        """Zero the first and the last MiB and flush: no firmware finds anything to boot, nor a backup of it."""
        head = min(EDGE, self.size)
        self.zero(0, head)
        tail = max(head, self.size - EDGE)
        self.zero(tail, self.size - tail)
        self.flush()


class Target(Writable):
    """An open disk."""

    @abstractmethod
    def read(self, view: memoryview, offset: int, length: int) -> None:
        """Fill the first `length` bytes of `view`, as Source.read() does, with what is on the disk and in no cache."""

    @property
    @abstractmethod
    def descriptors(self) -> frozenset[int]:
        """What a forked child has to keep open to write to the disk."""

    @abstractmethod
    def drive(self) -> Drive | RemoteDrive:
        """The disk as QEMU gets it."""

    def is_file(self, fd: int) -> bool:
        """Whether an open descriptor is this very disk."""
        return any(os.path.sameopenfile(fd, own) for own in self.descriptors)


class LocalTarget(Target):
    """A block device or a file. `fd` has O_DIRECT, if the file system has it, whenever no method is running."""

    def __init__(self, path: Path, fd: int) -> None:
        self.name = str(path)
        self.fd = fd
        self.is_block = stat.S_ISBLK(os.fstat(fd).st_mode)
        self.size = os.lseek(fd, 0, os.SEEK_END)
        self.sector_size = kernel.logical_sector_size(fd) if self.is_block else 1
        self._alignment = self.sector_size if self.is_block else _FILE_ALIGNMENT
        # Punching gives a sparse file its space back; on a block device it could unmap what the administrator reserved.
        self._zero_modes = [kernel.ZERO_RANGE] if self.is_block else [kernel.PUNCH_HOLE, kernel.ZERO_RANGE]
        self._flags = threading.Lock()

    @property
    def descriptors(self) -> frozenset[int]:
        return frozenset({self.fd})

    def drive(self) -> Drive:
        return Drive(self.fd, self.is_block, writable=True, direct=self.is_direct)

    @property
    def is_direct(self) -> bool:
        """Whether the descriptor goes past the page cache."""
        return kernel.is_direct(self.fd)

    def write(self, view: memoryview, offset: int) -> None:
        """Write all of `view` (page-aligned memory) at `offset`; what is no whole block goes through the page cache."""
        whole = len(view) - len(view) % self._alignment if offset % self._alignment == 0 else 0
        self._write_all(view[:whole], offset)
        if whole < len(view):
            with self._flags:
                was_direct = kernel.is_direct(self.fd)
                kernel.set_direct(self.fd, False)
                try:
                    self._write_all(view[whole:], offset + whole)
                finally:
                    kernel.set_direct(self.fd, was_direct)

    def read(self, view: memoryview, offset: int, length: int) -> None:
        """As Target says, where the file system can pass the page cache by."""
        Source(f"disk {self.name}", self.size, self.fd, error=DiskError).read(view, offset, length)

    def zero(self, offset: int, length: int) -> None:
        """Make `length` bytes at `offset` read as zeros, by the cheapest means that is sure to."""
        while self._zero_modes and length:
            mode = self._zero_modes[0]
            try:
                kernel.fallocate(self.fd, mode, offset, length)
            except OSError as error:
                if error.errno not in {errno.EOPNOTSUPP, errno.ENODEV}:
                    raise self._failed(offset, error) from error
                with contextlib.suppress(ValueError):  # another thread was quicker
                    self._zero_modes.remove(mode)
            else:
                return
        for at in range(offset, offset + length, len(_zeros())):
            self.write(_zeros()[: offset + length - at], at)

    def cut(self) -> None:
        """A file gets its size back and takes no space behind it, whatever somebody with a descriptor has done."""
        if not self.is_block:
            try:
                os.ftruncate(self.fd, self.size)
            except OSError as error:
                raise self._failed(self.size, error) from error

    def flush(self) -> None:
        """Return when everything written is on stable storage."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            raise DiskError(f"{self.name}: cannot be flushed: {error.strerror}; check the storage below it") from error
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def _write_all(self, view: memoryview, offset: int) -> None:
        while view:
            try:
                done = os.pwrite(self.fd, view, offset)
            except OSError as error:
                if error.errno == errno.EINVAL and kernel.is_direct(self.fd):
                    kernel.set_direct(self.fd, False)  # a file system with a coarser alignment than ours
                    continue
                raise self._failed(offset, error) from error
            view, offset = view[done:], offset + done

    def _failed(self, offset: int, error: OSError) -> DiskError:
        cure = (
            "make space on the file system it lies on" if error.errno == errno.ENOSPC else "check the storage below it"
        )
        return DiskError(f"{self.name}: cannot be written at byte {offset}: {error.strerror}; {cure}")


@contextmanager
def open_target(path: Path) -> Iterator[LocalTarget]:
    """Open an instance's disk for writing, after every check that needs no writing, for the length of the block.

    `path` may be a symbolic link, as Ganeti's are: it is resolved once. The page cache is passed by where the
    file system can. Raises DiskError.
    """
    fd = _open(path)
    try:
        _check_usable(path, fd)
        _lock(path, fd)
        yield LocalTarget(path, fd)
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    """A descriptor for reading and writing. Its type is known before it is opened: a FIFO or a tape is left alone."""
    try:
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise DiskError(f"{path}: cannot be opened: {error.strerror}; is the instance's disk activated?") from error
    try:
        mode = os.fstat(found).st_mode
        if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
            raise DiskError(f"{path}: is neither a block device nor a regular file; give the instance's disk")
        # O_EXCL on a block device: not mounted, no swap, no part of LVM, MD or device mapper, nor are its partitions.
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if stat.S_ISBLK(mode) else 0)
        fd = os.open(f"/proc/self/fd/{found}", flags)
    except OSError as error:
        match error.errno:
            case errno.EBUSY | errno.ETXTBSY:
                text = "is in use: unmount it, and release it from swap, LVM, RAID or device mapper"
            case errno.EACCES | errno.EPERM | errno.EROFS:
                text = "is read-only: make the disk writable"
            case _:
                text = f"cannot be opened for writing: {error.strerror}; check the storage below it"
        raise DiskError(f"{path}: {text}") from error
    finally:
        os.close(found)
    kernel.set_direct(fd, True)
    return fd


def _check_usable(path: Path, fd: int) -> None:
    if os.lseek(fd, 0, os.SEEK_END) == 0:
        raise DiskError(f"{path}: has a size of 0 bytes; activate or re-create the instance's disk")
    if stat.S_ISBLK(os.fstat(fd).st_mode):
        if kernel.is_read_only(fd):
            raise DiskError(f"{path}: is read-only: make the disk writable ('blockdev --setrw')")
    else:
        loop = _loop_over(fd)
        if loop:
            raise DiskError(f"{path}: is in use by /dev/{loop}: detach it ('losetup -d /dev/{loop}')")


def _loop_over(fd: int) -> str | None:
    """The loop device that stands on this file, if any."""
    for backing in _LOOPS.glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # detached meanwhile, or a file that we cannot see from here
            if os.path.samestat(Path(backing.read_text().rstrip("\n")).stat(), os.fstat(fd)):
                return backing.parts[-3]
    return None


def _lock(path: Path, fd: int) -> None:
    """Keep a second run away, and udev from probing what a tenant writes (systemd: BLOCK_DEVICE_LOCKING).

    Ours and udev's locks are flock's; QEMU's are on ranges of bytes.
    """
    deadline = time.monotonic() + _LOCK_PATIENCE
    while holder := _holder(fd):
        if time.monotonic() > deadline:
            raise DiskError(f"{path}: is locked by another {holder}")
        time.sleep(0.1)


def _holder(fd: int) -> str | None:
    """Take the lock, or say who has one."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "run of snf-image or another program: wait until it has ended"
    return "program, probably a running QEMU: stop the instance first" if kernel.is_range_locked(fd) else None


def _run(view: memoryview, start: int) -> tuple[int, bool]:
    """Where the run of zero or of data blocks that begins at `start` ends, and which of them it is."""
    is_zero = _is_zero(view[start : start + _BLOCK])
    end = min(start + _BLOCK, len(view))
    while end < len(view) and _is_zero(view[end : end + _BLOCK]) == is_zero:
        end = min(end + _BLOCK, len(view))
    return end, is_zero


def _is_zero(block: memoryview) -> bool:
    return (_ZERO_BLOCK if len(block) == _BLOCK else _ZERO_BLOCK[: len(block)]) == block


@functools.cache
def _zeros() -> memoryview:
    """A MiB of aligned zeros, made when it is first needed."""
    return huge_pages(EDGE)
