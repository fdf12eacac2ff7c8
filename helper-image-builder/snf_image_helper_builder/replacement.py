# SPDX-License-Identifier: GPL-2.0-or-later
"""Put a directory in the place of another in one step, or not at all.

Whoever reads the directory meanwhile finds the old one complete or the new one complete, and after a crash as well: the
new one reaches the disk before it is renamed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def locked(directory: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold `directory`, made if need be, for this process; `on_wait` is called once when another one holds it.

    The lock is on the directory itself: nothing is left lying beside it, and the kernel drops it with the process.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def replacement(place: Path, mode: int) -> Iterator[Path]:
    """A new, empty sibling of `place` with `mode`, which takes its place if the block ends well and is removed if not.

    The caller holds the lock on the parent directory.
    """
    new = Path(tempfile.mkdtemp(prefix=_prefix(place), dir=place.parent))
    try:
        yield new
        new.chmod(mode)
        _flush(new)
        _swap(new, place)
    finally:
        with suppress(OSError):
            _remove(new)


@contextmanager
def scratch_beside(place: Path) -> Iterator[Path]:
    """An empty directory beside `place`, gone afterwards; remove_stale() knows it, should we be killed."""
    scratch = Path(tempfile.mkdtemp(prefix=_prefix(place), dir=place.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_stale(place: Path) -> None:
    """Remove what killed builds left for `place`, whose name may be a pattern. The caller holds the lock."""
    for left in place.parent.glob(_prefix(place) + "*"):
        _remove(left)


def _remove(left: Path) -> None:
    # What was in the place may have been a link or a file, which rmtree refuses.
    if left.is_dir() and not left.is_symlink():
        shutil.rmtree(left)
    else:
        left.unlink(missing_ok=True)


def _prefix(place: Path) -> str:
    return f".{place.name}.new-"


def _flush(directory: Path) -> None:
    # One syncfs instead of an fsync for each of a root's ten thousand files.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(directory))
    finally:
        os.close(descriptor)


def _swap(new: Path, place: Path) -> None:
    """Afterwards `new` is what was in `place`, if there was anything."""
    if not place.exists():
        new.rename(place)
    else:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(_AT_FDCWD, bytes(new), _AT_FDCWD, bytes(place), _RENAME_EXCHANGE) != 0:
            number = ctypes.get_errno()
            if number not in _UNSUPPORTED:
                raise OSError(number, os.strerror(number), str(place))
            _swap_in_two_steps(new, place)
    descriptor = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap_in_two_steps(new: Path, place: Path) -> None:
    # Some network file systems cannot exchange: for a moment there is no helper, but always a complete one or none.
    aside = Path(tempfile.mkdtemp(prefix=_prefix(place), dir=place.parent))
    place.rename(aside)
    new.rename(place)
    aside.rename(new)
