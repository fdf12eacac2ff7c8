# SPDX-License-Identifier: GPL-2.0-or-later
"""The mounted guest: every path is resolved by the kernel inside its root, whatever links a tenant has laid.

Only regular files are read and written. A write replaces the file atomically and keeps what made it that file:
owner, mode, ACLs and SELinux label. Nothing of the guest is ever executed here.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, overload

from snf_image_helper.files.guest_errors import explained, shown
from snf_image_helper.files.replacement import Ownership, Replacement, dress_directory, ownership_of, replace_file
from snf_image_helper.files.resolution import open_inside, refuse_unreadable
from snf_image_helper.system import System
from snf_image_shared.errors import GuestError

if TYPE_CHECKING:
    from snf_image_helper.disks.disk import Disk

__all__ = ["READ_LIMIT", "Guest", "Ownership"]

READ_LIMIT = 4 * 1024 * 1024  # bytes
_LIST_LIMIT = 65536  # names
_LINK_LIMIT = 40  # hops, as in path_resolution(7)
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})


class Guest:
    """The guest's file tree. Paths are `str`, begin with "/" and mean what they would mean to the booted guest.

    `mounts` maps guest mount points to devices; the mounting code fills it. `changed` are the files, directories and
    links that were written or made, by names without a link in them; `programs_ran` is set when a tenant's program may
    have changed more. Use as a context manager or call close() before the root is unmounted. Every method raises
    GuestError, with the path and the cure, for whatever fails.
    """

    def __init__(self, root: str, disk: Disk, system: System) -> None:
        self.root = root
        self.disk = disk
        self.system = system
        self.mounts: dict[str, str] = {}
        self.changed: set[str] = set()
        self.programs_ran = False
        self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the root, so that it can be unmounted; calling it twice does no harm."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def exists(self, path: str) -> bool:
        """Whether the path, its links followed, leads to anything."""
        return self._mode(path) is not None

    def is_file(self, path: str) -> bool:
        """Whether the path, its links followed, leads to a regular file."""
        mode = self._mode(path)
        return mode is not None and stat.S_ISREG(mode)

    def is_dir(self, path: str) -> bool:
        """Whether the path, its links followed, leads to a directory."""
        mode = self._mode(path)
        return mode is not None and stat.S_ISDIR(mode)

    def is_link(self, path: str) -> bool:
        """Whether the last component itself is a symbolic link."""
        return self.link_target(path) is not None

    def link_target(self, path: str) -> str | None:
        """The text of a symbolic link; None when the path is missing or something else."""
        with explained(path):
            try:
                with self._opened(path, os.O_PATH | os.O_NOFOLLOW) as entry:
                    return os.readlink("", dir_fd=entry) if stat.S_ISLNK(os.fstat(entry).st_mode) else None
            except OSError as error:
                if error.errno in _MISSING:
                    return None
                raise

    def ownership(self, path: str) -> Ownership | None:
        """Owner, group and permission bits of a file or directory, its links followed; None when it is missing."""
        with explained(path):
            try:
                with self._opened(path, os.O_PATH) as entry:
                    return ownership_of(os.fstat(entry))
            except OSError as error:
                if error.errno in _MISSING:
                    return None
                raise

    @overload
    def read_bytes(self, path: str, *, limit: int = READ_LIMIT) -> bytes: ...
    @overload
    def read_bytes(self, path: str, *, missing_ok: Literal[True], limit: int = READ_LIMIT) -> bytes | None: ...
    def read_bytes(self, path: str, *, missing_ok: bool = False, limit: int = READ_LIMIT) -> bytes | None:
        """The content of a regular file of at most `limit` bytes. With `missing_ok` a missing one is None."""
        with explained(path):
            try:
                with self._regular(path) as file:
                    return _read(file, path, limit)
            except OSError as error:
                if missing_ok and error.errno in _MISSING:
                    return None
                raise

    def head(self, path: str, length: int) -> bytes:
        """The first bytes of a regular file of any size, at most `length`."""
        with explained(path), self._regular(path) as file:
            return os.pread(file, length, 0)

    @overload
    def read_text(self, path: str) -> str: ...
    @overload
    def read_text(self, path: str, *, missing_ok: Literal[True]) -> str | None: ...
    def read_text(self, path: str, *, missing_ok: bool = False) -> str | None:
        """As read_bytes(); bytes that are not UTF-8 survive a round trip through write_text()."""
        content = self.read_bytes(path, missing_ok=True) if missing_ok else self.read_bytes(path)
        return None if content is None else content.decode("utf-8", "surrogateescape")

    def write_bytes(self, path: str, content: bytes, *, ownership: Ownership | None = None) -> None:
        """Put `content` in the place of a file, or make a new one; links are followed to the file that is meant.

        Without `ownership` the replaced file's owner, mode and ACLs stay, and a new file is root's with mode 0644.
        The SELinux label and the other extended attributes stay in both cases. Until all is written and flushed the
        old file stays as it was. A hard link of it keeps the old content. A file that is so already stays itself.
        """
        with explained(path):
            directory, name = self._place(path)
            try:
                if not _is_so(directory, name, content, ownership):
                    replace_file(directory, name, content, ownership)
                self.note(directory, name)
            finally:
                os.close(directory)

    def write_text(self, path: str, content: str, *, ownership: Ownership | None = None) -> None:
        """As write_bytes()."""
        self.write_bytes(path, content.encode("utf-8", "surrogateescape"), ownership=ownership)

    def write_texts(self, texts: Mapping[str, str]) -> None:
        """As write_text() for each path, but all of the files or, if one of them cannot be written, none."""
        with ExitStack() as stack:
            written: dict[tuple[int, int, str], tuple[str, Replacement]] = {}
            for path, text in texts.items():
                with explained(path):
                    directory, name = self._place(path)
                    stack.callback(os.close, directory)
                    content = text.encode("utf-8", "surrogateescape")
                    found = os.fstat(directory)
                    # One path may be a link to another: the file is written once, and the last word counts.
                    replacement = stack.enter_context(Replacement(directory, name, content, None))
                    written[found.st_dev, found.st_ino, name] = path, replacement
                    self.note(directory, name)
            for step in (Replacement.get_ready, Replacement.commit):
                for path, replacement in written.values():
                    with explained(path):
                        step(replacement)

    def append_text(self, path: str, text: str, *, ownership: Ownership | None = None) -> None:
        """Add `text` at the end of a file, on a line of its own, or make the file. As atomic as write_bytes()."""
        old = self.read_text(path, missing_ok=True) or ""
        if old and not old.endswith("\n"):
            old += "\n"
        self.write_text(path, old + text, ownership=ownership)

    def remove(self, path: str, *, missing_ok: bool = False) -> None:
        """Remove a file, or a link itself; never a directory."""
        with explained(path):
            try:
                with self._parent(path) as (directory, name):
                    os.unlink(name, dir_fd=directory)
            except OSError as error:
                if not (missing_ok and error.errno in _MISSING):
                    raise

    def rename(self, path: str, new_path: str) -> None:
        """Rename an entry, itself and not what it links to, within one file system; an existing file is replaced."""
        with (
            explained(path),
            self._parent(path) as (directory, name),
            self._parent(new_path) as (new_directory, new_name),
        ):
            os.rename(name, new_name, src_dir_fd=directory, dst_dir_fd=new_directory)
            self.changed.discard(self._called(directory, name))
            self.note(new_directory, new_name)

    def symlink(self, target: str, path: str) -> None:
        """Make a symbolic link at `path`; it must not exist."""
        with explained(path), self._parent(path) as (directory, name):
            os.symlink(target, name, dir_fd=directory)
            self.note(directory, name)

    def make_directory(self, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        """Make a directory and its missing parents, all with this owner and mode; existing ones stay untouched."""
        _check(path)
        names = [name for name in path.split("/") if name]
        for depth in range(1, len(names) + 1):
            self._make_one("/" + "/".join(names[:depth]), Ownership(uid, gid, mode))

    def list_directory(self, path: str, *, missing_ok: bool = False) -> tuple[str, ...]:
        """The names in a directory, sorted. With `missing_ok` one that is missing or no directory is empty."""
        with explained(path):
            try:
                with self._opened(path, os.O_RDONLY | os.O_DIRECTORY) as directory:
                    return _names(directory, path)
            except OSError as error:
                if missing_ok and error.errno in _MISSING:
                    return ()
                raise

    def open_directory(self, path: str) -> int:
        """A descriptor of a directory; the caller closes it."""
        with explained(path):
            return self._open(path, os.O_RDONLY | os.O_DIRECTORY)

    def chmod(self, path: str, mode: int) -> None:
        """Set the permission bits of a file or directory, its links followed."""
        with explained(path), self._changeable(path) as entry:
            os.fchmod(entry, mode & 0o7777)

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Set owner and group of a file or directory, its links followed."""
        with explained(path), self._changeable(path) as entry:
            os.fchown(entry, uid, gid)

    def note(self, directory: int, name: str) -> None:
        """Keep in mind that this entry of an open directory is ours now."""
        self.changed.add(self._called(directory, name))

    def _called(self, directory: int, name: str) -> str:
        """The guest path of an entry of an open directory, without links."""
        root, place = (Path(f"/proc/self/fd/{descriptor}").readlink() for descriptor in (self._root, directory))
        return f"/{(place / name).relative_to(root)}"

    def _mode(self, path: str) -> int | None:
        try:
            with self._opened(path, os.O_PATH) as entry:
                return os.fstat(entry).st_mode
        except OSError as error:
            if error.errno in {*_MISSING, errno.ELOOP, errno.ENAMETOOLONG}:
                return None
            with explained(path):
                raise

    def _open(self, path: str, flags: int) -> int:
        """Raises OSError; the caller closes the descriptor."""
        _check(path)
        if self._root < 0:
            raise ValueError("the guest is closed")
        return open_inside(self._root, path, flags)

    @contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[int]:
        entry = self._open(path, flags)
        try:
            yield entry
        finally:
            os.close(entry)

    @contextmanager
    def _regular(self, path: str) -> Iterator[int]:
        # Looked at before it is opened: opening some devices has effects, and a FIFO would block.
        with self._opened(path, os.O_PATH) as entry:
            _refuse_irregular(os.fstat(entry).st_mode, path)
        with self._opened(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY) as file:
            _refuse_irregular(os.fstat(file).st_mode, path)
            yield file

    @contextmanager
    def _changeable(self, path: str) -> Iterator[int]:
        if self.is_dir(path):
            with self._opened(path, os.O_RDONLY | os.O_DIRECTORY) as entry:
                yield entry
        else:
            with self._regular(path) as entry:
                yield entry

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The directory that holds the last component of `path`, and that component."""
        _check(path)
        head, name = _split(path)
        with self._opened(head, os.O_PATH | os.O_DIRECTORY) as directory:
            yield directory, name

    def _place(self, path: str) -> tuple[int, str]:
        """The directory and name where the file really is that `path` means; the caller closes the directory.

        A relative link is appended to its directory's path as text: the kernel resolves the whole again, inside.
        """
        here = path
        for _ in range(_LINK_LIMIT):
            _check(here)
            head, name = _split(here)
            directory = self._open(head, os.O_PATH | os.O_DIRECTORY)
            try:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
            except FileNotFoundError:
                return directory, name
            except OSError:
                os.close(directory)
                raise
            if stat.S_ISREG(found):
                return directory, name
            try:
                if not stat.S_ISLNK(found):
                    _refuse_irregular(found, path)
                target = os.readlink(name, dir_fd=directory)
                refuse_unreadable(target, path)
            finally:
                os.close(directory)
            here = target if target.startswith("/") else f"{head}/{target}"
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def _make_one(self, path: str, ownership: Ownership) -> None:
        if self.is_dir(path):
            return
        with explained(path):
            with self._parent(path) as (directory, name):
                os.mkdir(name, 0o700, dir_fd=directory)
                self.note(directory, name)
            with self._opened(path, os.O_RDONLY | os.O_DIRECTORY) as made:
                dress_directory(made, ownership)


def _check(path: str) -> None:
    if not path.startswith("/") or "\0" in path:
        raise GuestError(f"{shown(path)!r} is not an absolute path; begin it with / and leave out NUL characters")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair
        raise GuestError(f"{shown(path)!r} is no text that can be a path; write it in UTF-8") from error


def _split(path: str) -> tuple[str, str]:
    head, _, name = path.rpartition("/")
    if name in {"", ".", ".."}:
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return head or "/", name


def _refuse_irregular(mode: int, path: str) -> None:
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        kind = "a FIFO" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise GuestError(f"{shown(path)}: is {kind} where a regular file belongs; replace it in the image")


def _read(file: int, path: str, limit: int) -> bytes:
    chunks = []
    left = limit + 1
    while left > 0 and (chunk := os.read(file, min(left, 1 << 20))):
        chunks.append(chunk)
        left -= len(chunk)
    if left == 0 or os.fstat(file).st_size > limit:
        raise GuestError(f"{shown(path)}: is larger than {limit} bytes; make it smaller in the image")
    return b"".join(chunks)


def _is_so(directory: int, name: str, content: bytes, ownership: Ownership | None) -> bool:
    """Whether this entry is a regular file of this content and, if any is asked for, this ownership."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return False
    try:
        found = os.fstat(file)
        if found.st_size != len(content) or (ownership is not None and ownership_of(found) != ownership):
            return False
        return os.pread(file, len(content) + 1, 0) == content
    finally:
        os.close(file)


def _names(directory: int, path: str) -> tuple[str, ...]:
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            found.append(entry.name)
            if len(found) > _LIST_LIMIT:
                raise GuestError(f"{shown(path)}: holds more than {_LIST_LIMIT} entries; clean it up in the image")
    return tuple(sorted(found))
