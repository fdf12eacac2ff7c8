# SPDX-License-Identifier: GPL-2.0-or-later
"""The Linux calls that Python 3.11 does not offer, as functions that raise OSError. No policy lives here."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from pathlib import Path

IDLE_IO = 3 << 13  # linux/ioprio.h: the class IOPRIO_CLASS_IDLE
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x01, 0x02, 0x10  # linux/falloc.h

_SYS_OPENAT2 = 437  # the same number on every architecture, as all system calls since 5.0
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_OPEN_TRIES = 16
_BLKROGET, _BLKSSZGET = 0x125E, 0x1268  # linux/fs.h
_F_OFD_GETLK, _F_OFD_SETLK, _F_OFD_SETLKW = 36, 37, 38
_SYS_IOPRIO_SET, _SYS_IOPRIO_GET = 251, 252  # x86-64, the one architecture of the packages
_IOPRIO_WHO_PROCESS = 1
_FLOCK = "hhqqi4x"  # struct flock, 64-bit: type, whence, start, length, pid

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def open_beneath(directory: int, name: str, flags: int) -> int:
    """Open `name` below the directory descriptor; the caller owns the result.

    The kernel refuses what leaves the directory (EXDEV) and any symbolic link on the way (ELOOP).
    Source: man 2 openat2; it exists since Linux 5.6 (ENOSYS before).
    """
    how = struct.pack("QQQ", flags, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_SYMLINKS)
    for _ in range(_OPEN_TRIES):
        fd = int(_libc.syscall(_SYS_OPENAT2, directory, os.fsencode(name), how, ctypes.c_size_t(len(how))))
        if fd >= 0:
            return fd
        if ctypes.get_errno() != errno.EAGAIN:  # EAGAIN: a rename elsewhere raced with the look-up
            break
    raise _os_error()


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Zero `length` bytes at `offset` without writing them; never changes the size. EOPNOTSUPP where it cannot.

    On a block device ZERO_RANGE is BLKZEROOUT: the kernel writes zeros itself if the device has no command for it.
    """
    if _libc.fallocate(fd, mode | KEEP_SIZE, offset, length):
        raise _os_error()


def logical_sector_size(fd: int) -> int:
    """Bytes of one sector of a block device."""
    return int(struct.unpack("i", fcntl.ioctl(fd, _BLKSSZGET, bytes(4)))[0])


def is_read_only(fd: int) -> bool:
    """Whether a block device refuses writes."""
    return bool(struct.unpack("i", fcntl.ioctl(fd, _BLKROGET, bytes(4)))[0])


def is_range_locked(fd: int) -> bool:
    """Whether another open file holds a POSIX or OFD lock on any byte, as a running QEMU does on its disks."""
    question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = fcntl.fcntl(fd, _F_OFD_GETLK, question)
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)


def lock_byte(fd: int, offset: int, *, wait: bool) -> bool:
    """Hold one byte of an open file, there or not, for this open file alone; False if another has it.

    The kernel lets go of it when the file is closed, however the process ends.
    """
    wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    try:
        fcntl.fcntl(fd, _F_OFD_SETLKW if wait else _F_OFD_SETLK, wanted)
    except (BlockingIOError, PermissionError):  # man 2 fcntl: EAGAIN or EACCES
        return False
    return True


def unlock_byte(fd: int, offset: int) -> None:
    """Let go of it."""
    fcntl.fcntl(fd, _F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_UNLCK, os.SEEK_SET, offset, 1, 0))


def set_direct(fd: int, wanted: bool) -> bool:
    """Turn O_DIRECT of an open file on or off; False where the file system has none."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT if wanted else flags & ~os.O_DIRECT)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
            raise
        return False
    return True


def is_direct(fd: int) -> bool:
    """Whether an open file goes past the page cache."""
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)


def io_priority() -> int:
    """Class and level of this thread's input and output, as linux/ioprio.h packs them."""
    found = int(_libc.syscall(_SYS_IOPRIO_GET, _IOPRIO_WHO_PROCESS, 0))
    if found < 0:
        raise _os_error()
    return found


def set_io_priority(priority: int) -> None:
    """The same for this thread and those that it starts from now on."""
    if _libc.syscall(_SYS_IOPRIO_SET, _IOPRIO_WHO_PROCESS, 0, priority):
        raise _os_error()


def forget_environment() -> None:
    """Overwrite what /proc/self/environ shows: Ganeti puts the instance's password there. Clear os.environ first."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = (int(field) for field in fields[47:49])  # man 5 proc: env_start and env_end
    ctypes.memset(start, 0, end - start)


def _os_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
