# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories of the node that go into the helper VM: packed as one tar archive in anonymous memory.

Owners are numbers, links stay links, and nothing but files, directories and links is taken. What changes while it is
read is refused. Of the extended attributes those go along that mean the same in a guest: ACLs, capabilities, user.*.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from snf_image_shared.errors import ConfigurationError

LARGEST = 256 << 20  # bytes of an archive
_MOST = 100_000  # files, directories and links
_DEEPEST = 60  # directories within one another, each of which is kept open
_ATTRIBUTES = ("user.", "system.posix_acl_", "security.capability")
_SPECIAL = {stat.S_IFBLK: "a block device", stat.S_IFCHR: "a device", stat.S_IFIFO: "a named pipe"}


@dataclass
class Archive:
    """An archive in the making, for packed(). All of it raises ConfigurationError, naming file and cure."""

    tar: tarfile.TarFile
    count: int = 0
    directories: set[str] = field(default_factory=set)
    linked: dict[tuple[int, int], str] = field(default_factory=dict)

    def add_directory(self, path: Path, at: str = "", followed: Collection[str] = ()) -> None:
        """All that is in a directory, under the name `at`, or as the archive's own root.

        Links in it whose names are `followed` are taken for the file that they lead to, if that lies elsewhere.
        """
        with _told(path):
            directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._add_parents(at)
                self._add_entries(directory, path, at, followed)
            finally:
                os.close(directory)

    def add_file(self, path: Path, at: str) -> None:
        """One file, or what a link leads to, under the name `at`."""
        with _told(path):
            self._add_parents(at.rpartition("/")[0])
            self._add_regular(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), path, at)

    def _add_parents(self, at: str) -> None:
        """The directories down to `at`, as any system has them."""
        parts = at.split("/") if at else []
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            if name not in self.directories:
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                self._write(entry, Path("/", name))
                self.directories.add(name)

    def _add_entries(self, directory: int, path: Path, at: str, followed: Collection[str] = ()) -> None:
        before = os.fstat(directory)
        for name in sorted(os.listdir(directory)):
            inside = f"{at}/{name}".lstrip("/")
            if name in followed and _leads_out(path / name, path):
                self.add_file(path / name, inside)
            else:
                with _told(path / name):
                    self._add(directory, name, path / name, inside)
        _refuse_changed(before, os.fstat(directory), path)

    def _add(self, directory: int, name: str, path: Path, at: str) -> None:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            entry = _entry(at, found, tarfile.SYMTYPE)
            entry.linkname = os.readlink(name, dir_fd=directory)
            self._write(entry, path)
        elif stat.S_ISDIR(found.st_mode):
            if at.count("/") > _DEEPEST:
                raise ConfigurationError(f"{path}: lies more than {_DEEPEST} directories deep; it cannot be packed")
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                self._write(_entry(at, os.fstat(inner), tarfile.DIRTYPE, inner), path)
                self._add_entries(inner, path, at)
            finally:
                os.close(inner)
        elif stat.S_ISREG(found.st_mode):
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            self._add_regular(os.open(name, flags, dir_fd=directory), path, at)
        else:
            _refuse_special(found, path)

    def _add_regular(self, file: int, path: Path, at: str) -> None:
        """Closes `file`."""
        with os.fdopen(file, "rb") as content:
            before = os.fstat(file)
            if not stat.S_ISREG(before.st_mode):
                _refuse_special(before, path)
            first = self.linked.setdefault((before.st_dev, before.st_ino), at)
            if first != at:
                entry = _entry(at, before, tarfile.LNKTYPE)
                entry.linkname = first
                self._write(entry, path)
                return
            entry = _entry(at, before, tarfile.REGTYPE, file)
            entry.size = before.st_size
            self._write(entry, path, content)
            _refuse_changed(before, os.fstat(file), path)

    def _write(self, entry: tarfile.TarInfo, path: Path, content: IO[bytes] | None = None) -> None:
        self.count += 1
        if self.count > _MOST or self.tar.offset + entry.size > LARGEST:
            raise ConfigurationError(
                f"{path}: with it, what is to go into the helper VM is more than {LARGEST >> 20} MiB or {_MOST} files; "
                "put what is so large into the image"
            )
        self.tar.addfile(entry, content)


@contextmanager
def packed(*, fill: Callable[[Archive], None]) -> Iterator[int]:
    """A descriptor, open for reading alone and for the length of the block, of the archive that `fill` has filled."""
    writable = os.memfd_create("snf-image-tree", os.MFD_CLOEXEC)
    try:
        with (
            os.fdopen(os.dup(writable), "wb") as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar,
        ):
            fill(Archive(tar))
        # QEMU takes a read-only disk only from a descriptor that is read-only itself.
        readable = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writable)
    try:
        yield readable
    finally:
        os.close(readable)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename if _is_whole(error.filename) else path}: {error.strerror or error}"
        ) from error


def _is_whole(name: object) -> bool:
    return isinstance(name, str) and name.startswith("/")


def _leads_out(link: Path, directory: Path) -> bool:
    return link.is_symlink() and not link.resolve().is_relative_to(directory.resolve())


def _entry(at: str, found: os.stat_result, kind: bytes, file: int | None = None) -> tarfile.TarInfo:
    """What the archive says of it; the attributes are those of the open `file`."""
    entry = tarfile.TarInfo(at)
    entry.type, entry.mode, entry.mtime = kind, stat.S_IMODE(found.st_mode), found.st_mtime
    entry.uid, entry.gid = found.st_uid, found.st_gid
    if file is not None:
        entry.pax_headers = {
            f"SCHILY.xattr.{name}": os.getxattr(file, name).decode("utf-8", "surrogateescape")
            for name in _attributes(file)
            if name.startswith(_ATTRIBUTES)
        }
    return entry


def _attributes(file: int) -> list[str]:
    try:
        return os.listxattr(file)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def _refuse_special(found: os.stat_result, path: Path) -> None:
    what = _SPECIAL.get(stat.S_IFMT(found.st_mode), "a socket")
    raise ConfigurationError(f"{path}: is {what}, which cannot go into the helper VM; remove it from there")


def _refuse_changed(before: os.stat_result, after: os.stat_result, path: Path) -> None:
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ConfigurationError(f"{path}: was changed while it was read; start again when nobody writes there")
