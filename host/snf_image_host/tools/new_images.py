# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that become images: without their names until they are complete, and never in the place of another file.

The files beside an image appear before it, so that whoever finds the image finds them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from snf_image_shared.errors import ConfigurationError, ImageError, RequestError

CHECKSUM = ".sha256"
METADATA = ".json"
LEAST_ROOM = 16 << 20  # bytes that a directory must have free before work begins
_LONGEST = 200  # bytes of a name; extensions come on top
_PIECE = 1 << 20


@dataclass
class NewImage:
    """A file that is to be called `name`. `temporary` is what it is called until then, "" for not at all."""

    name: str
    fd: int
    temporary: str = ""
    digest: str = ""
    size: int = field(default=0)

    def complete(self) -> None:
        """It is on stable storage, and its size and checksum known. Raises ImageError."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            raise not_written(self.name, error) from error
        self.size = os.fstat(self.fd).st_size
        hasher = hashlib.sha256()
        at = 0
        while piece := os.pread(self.fd, _PIECE, at):
            hasher.update(piece)
            at += len(piece)
        self.digest = hasher.hexdigest()


def not_written(name: str, error: OSError) -> ImageError:
    """The error to raise when a file takes no more."""
    cure = "make space there" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "check the storage it lies on"
    return ImageError(f"{name} cannot be written: {error.strerror}; {cure}")


def check_name(name: str) -> str:
    """A name that is one file's in any directory, or RequestError."""
    if not name or name.startswith((".", "-")) or "/" in name or not name.isprintable() or not name.isascii():
        raise RequestError(f"{name[:40]!r} is no name of an image: letters, digits and what is printable but /")
    if len(name) > _LONGEST:
        raise RequestError(f"the image's name has more than {_LONGEST} characters: give a shorter one by -n")
    return name


@dataclass(frozen=True)
class ImageDirectory:
    """Where images come to lie. `fd` belongs to image_directory()."""

    path: Path
    fd: int

    def refuse_existing(self, names: Sequence[str]) -> None:
        """Raise RequestError if one of these images, or a file that belongs to it, is there already."""
        for name in (each + end for each in names for end in ("", CHECKSUM, METADATA)):
            with suppress(FileNotFoundError):
                os.stat(name, dir_fd=self.fd, follow_symlinks=False)
                raise RequestError(
                    f"{self.path / name} is there already, and is never overwritten: remove it, or give another -n"
                )

    @contextmanager
    def new(self, name: str) -> Iterator[NewImage]:
        """A new file, which is gone at the end of the block unless it was published. Raises ImageError."""
        temporary = ""
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            try:
                fd = os.open(".", flags | os.O_TMPFILE, 0o640, dir_fd=self.fd)
            except OSError as error:
                if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOSYS}:
                    raise
                # NFS has no files without a name.
                temporary = f".{name}.{secrets.token_hex(4)}.part"
                fd = os.open(temporary, flags | os.O_CREAT | os.O_EXCL, 0o640, dir_fd=self.fd)
        except OSError as error:
            raise not_written(str(self.path / name), error) from error
        try:
            yield NewImage(name, fd, temporary)
        finally:
            os.close(fd)
            if temporary:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=self.fd)

    def publish(self, images: Sequence[NewImage], metadata: bytes) -> None:
        """Give them their names, with what belongs to them; all or none. Raises RequestError if one is taken by now."""
        with ExitStack() as beside, ExitStack() as undo:
            small = [(image.name + CHECKSUM, f"{image.digest}  {image.name}\n".encode()) for image in images]
            small.append((images[0].name + METADATA, metadata))
            files = [beside.enter_context(self._written(name, content)) for name, content in small]
            for each in (*files, *reversed(images)):
                self._link(each)
                undo.callback(self._unlink, each.name)
            os.fsync(self.fd)
            undo.pop_all()

    @contextmanager
    def _written(self, name: str, content: bytes) -> Iterator[NewImage]:
        with self.new(name) as file:
            try:
                os.write(file.fd, content)
                os.fsync(file.fd)
            except OSError as error:
                raise not_written(str(self.path / name), error) from error
            yield file

    def _link(self, file: NewImage) -> None:
        source = file.temporary or f"/proc/self/fd/{file.fd}"
        at = self.fd if file.temporary else None
        try:
            os.link(source, file.name, src_dir_fd=at, dst_dir_fd=self.fd, follow_symlinks=not file.temporary)
        except FileExistsError as error:
            raise RequestError(
                f"{self.path / file.name} has come into being meanwhile, and is not overwritten: capture it again"
            ) from error
        except OSError as error:
            raise not_written(str(self.path / file.name), error) from error

    def _unlink(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)


@contextmanager
def image_directory(path: Path) -> Iterator[ImageDirectory]:
    """The directory, held open. Raises ConfigurationError when it is not there, or full."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; create the directory, or give another by -d") from error
    try:
        directory = ImageDirectory(path, fd)
        check_room(directory, LEAST_ROOM)
        yield directory
    finally:
        os.close(fd)


def check_room(directory: ImageDirectory, needed: int) -> None:
    """Raise ImageError unless so many bytes are free."""
    status = os.fstatvfs(directory.fd)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise ImageError(
            f"{directory.path} has {free >> 20} MiB free, and {-(-needed >> 20)} MiB may be needed: "
            "make space there, or give another directory by -d"
        )
