# SPDX-License-Identifier: GPL-2.0-or-later
"""img_id -> Source: the one place that finds an image and reads its bytes. It never interprets them.

A local name is resolved by the kernel below the image directory, without symbolic links, so neither `..` nor a
link planted there leads out of it. From the check to the last byte there is one descriptor.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from snf_image_host import kernel
from snf_image_host.images.names import local_name
from snf_image_host.vm.drives import Drive
from snf_image_shared.errors import ConfigurationError, DiskError, ImageError, RequestError, SnfImageError

ALIGNMENT = 4096  # offsets, lengths and memory of a direct transfer; covers 512-byte and 4Kn disks


@dataclass(frozen=True)
class Extent:
    """`length` bytes at `offset`; without `is_data` they are a hole and read as zeros."""

    offset: int
    length: int
    is_data: bool = True


class Readable(Protocol):
    """An open image or disk of `size` bytes, wherever it is. The methods are described at Source."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    def extents(self, start: int, end: int) -> Iterator[Extent]: ...
    def read(self, view: memoryview, offset: int, length: int) -> None: ...
    def direct(self) -> AbstractContextManager[None]: ...
    def check_unchanged(self) -> None: ...


@dataclass(frozen=True)
class Source:
    """An open image. `size` in bytes, fixed when it was opened; `warnings` are for the operator.

    Whoever opened it owns `fd`; `error` is the class its failures are raised as.
    """

    name: str
    size: int
    fd: int
    warnings: tuple[str, ...] = ()
    modified: int = 0
    error: type[SnfImageError] = field(default=ImageError, repr=False)

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Data and holes from `start`, a multiple of ALIGNMENT, to `end`, in order and without gaps.

        The borders between them are multiples of ALIGNMENT. Raises the source's error class.
        """
        position = start
        while position < end:
            data = self._seek(position, os.SEEK_DATA)
            start_of_data = end if data >= end else _aligned_down(data)
            if start_of_data > position:
                yield Extent(position, start_of_data - position, is_data=False)
            position = start_of_data
            if position < end:
                hole = min(_aligned_up(self._seek(data, os.SEEK_HOLE)), end)
                yield Extent(position, hole - position)
                position = hole

    def read(self, view: memoryview, offset: int, length: int) -> None:
        """Fill the first `length` bytes of `view`, which has room for `length` rounded up to ALIGNMENT.

        An `offset` that is no multiple of it is read through the page cache. Raises the source's error class when the
        file ends early or cannot be read.
        """
        room = _aligned_up(length)
        done = 0
        while done < length:
            try:
                count = os.preadv(self.fd, [view[done:room]], offset + done)
            except OSError as error:
                if error.errno == errno.EINVAL and kernel.is_direct(self.fd):
                    kernel.set_direct(self.fd, False)  # a file system with a coarser alignment than ours
                    continue
                raise self.failed(f"cannot be read at byte {offset + done}", error) from error
            if done + count >= length:
                break
            whole = count - count % ALIGNMENT
            if not whole:
                raise self.error(
                    f"{self.name} ends at byte {offset + done + count}, but had {self.size} bytes when it was opened: "
                    "do not change it while it is read"
                )
            done += whole
        if not kernel.is_direct(self.fd):
            os.posix_fadvise(self.fd, offset, length, os.POSIX_FADV_DONTNEED)

    def head(self, length: int) -> bytes:
        """The first bytes, at most `length`. Raises the source's error class."""
        try:
            return os.pread(self.fd, length, 0)
        except OSError as error:
            raise self.failed("cannot be read", error) from error

    @contextmanager
    def direct(self) -> Iterator[None]:
        """Read past the page cache inside the block, where the file system can."""
        kernel.set_direct(self.fd, True)
        try:
            yield
        finally:
            kernel.set_direct(self.fd, False)

    def drive(self) -> Drive:
        """The disk as QEMU gets it: for reading only."""
        return Drive(self.fd, stat.S_ISBLK(os.fstat(self.fd).st_mode), direct=kernel.is_direct(self.fd))

    def check_unchanged(self) -> None:
        """Raise the source's error class if the file was written or resized since it was opened."""
        now = os.fstat(self.fd)
        if stat.S_ISREG(now.st_mode) and (now.st_size, now.st_mtime_ns) != (self.size, self.modified):
            raise self.error(f"{self.name} was changed while it was read: try again when its writer has finished")

    def failed(self, what: str, error: OSError) -> SnfImageError:
        """The error to raise for an OSError from the descriptor."""
        return self.error(f"{self.name} {what}: {error.strerror}; check the storage it lies on")

    def _seek(self, position: int, whence: int) -> int:
        try:
            return os.lseek(self.fd, position, whence)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return self.size
            if error.errno == errno.EINVAL:  # no holes on this file system
                return position if whence == os.SEEK_DATA else self.size
            raise self.failed(f"cannot be searched for holes at byte {position}", error) from error


@contextmanager
def open_source(img_id: str, image_dir: Path, img_format: str = "diskdump") -> Iterator[Source]:
    """Open the image that `img_id` names, for the length of the block.

    Forms: `name`, `sub/name`, `local://name`, `file://name` (deprecated). A name that does not exist is tried again as
    `NAME.<img_format>` (contract 4.2). Raises RequestError for a form or path that is refused, ImageError for a missing
    or unsuitable file, ConfigurationError for the image directory itself.
    """
    source = _open_local(img_id, image_dir, img_format)
    try:
        yield source
    finally:
        os.close(source.fd)


def open_below(image_dir: Path, name: str, what: str) -> int | None:
    """A descriptor opened without blocking, or None if there is no such file. Messages call it `what`.

    Raises RequestError, ImageError, ConfigurationError.
    """
    try:
        directory = os.open(image_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"IMAGE_DIR {image_dir} cannot be opened: {error.strerror}; create it") from error
    try:
        return kernel.open_beneath(directory, name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        match error.errno:
            case errno.ENOENT | errno.ENOTDIR:
                return None
            case errno.EXDEV:
                raise RequestError(f"OS parameter img_id: {what} leaves {image_dir}: name a file below it") from error
            case errno.ELOOP:
                raise ImageError(
                    f"{what} is or passes a symbolic link: put the file itself into {image_dir}"
                ) from error
            case errno.ENOSYS | errno.EPERM:
                raise ConfigurationError(
                    "openat2 is not available: snf-image needs Linux 5.6 or later without a filter on it"
                ) from error
            case _:
                raise ImageError(
                    f"{what} cannot be opened in {image_dir}: {error.strerror}; "
                    "it must be a regular file that root can read"
                ) from error
    finally:
        os.close(directory)


@contextmanager
def open_device(path: Path) -> Iterator[Source]:
    """Open an instance's disk, block device or file, for reading only, as export does.

    Raises DiskError, also for a disk that another run, or this one, is just writing.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise DiskError(f"{path} cannot be opened: {error.strerror}; is the disk activated?") from error
    try:
        status = os.fstat(fd)
        if not (stat.S_ISBLK(status.st_mode) or stat.S_ISREG(status.st_mode)):
            raise DiskError(f"{path} is neither a block device nor a regular file: give the instance's disk")
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DiskError(
                f"disk {path} is being written by another run of snf-image, or given twice: wait until it has ended"
            ) from error
        size = os.lseek(fd, 0, os.SEEK_END)
        yield Source(f"disk {path}", size, fd, modified=status.st_mtime_ns, error=DiskError)
    finally:
        os.close(fd)


def _open_local(img_id: str, image_dir: Path, img_format: str) -> Source:
    name, warnings = local_name(img_id)
    fd = open_below(image_dir, name, f"image {img_id!r}")
    if fd is None:
        fallback = f"{name}.{img_format}"
        fd = open_below(image_dir, fallback, f"image {img_id!r}")
        if fd is None:
            raise ImageError(
                f"image {img_id!r}: there is no file {name!r} in {image_dir}: correct img_id or put it there"
            )
        warnings += (f"img_id {img_id!r} without its extension is deprecated: write {fallback!r}",)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise ImageError(f"image {img_id!r} is not a regular file: put the image itself into {image_dir}")
    os.set_blocking(fd, True)
    return Source(f"image {img_id!r}", status.st_size, fd, warnings=warnings, modified=status.st_mtime_ns)


def _aligned_down(number: int) -> int:
    return number - number % ALIGNMENT


def _aligned_up(number: int) -> int:
    return -(-number // ALIGNMENT) * ALIGNMENT
