# SPDX-License-Identifier: GPL-2.0-or-later
"""An archive of the administrator's files, laid over the guest's tree.

Directories that are links in the guest are followed inside its root, as they would be after its boot; a link in the
place of a file is replaced and not followed. What has another type here and there is refused: nobody meant that.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from snf_image_helper import inputs
from snf_image_helper.files.guest_errors import explained, shown
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_shared.deployment import Input
from snf_image_shared.errors import GuestError

_ATTRIBUTE = "SCHILY.xattr."
_BESIDE = ".snf-image-overlay"  # what is in the making; a run that was killed leaves one at most
_PIECE = 1 << 20  # bytes
_UNKNOWN_THERE = frozenset({errno.EPERM, errno.ENOTSUP})  # vfat has neither owners nor attributes


def copy_overlay(overlay: Input, guest: Guest, report: Reporter) -> None:
    """Raises GuestError, naming the file of the guest."""
    with (
        inputs.opened(overlay) as device,
        os.fdopen(os.dup(device), "rb") as file,
        tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as archive,
    ):
        lay_over(guest, archive, report)


def lay_over(guest: Guest, archive: tarfile.TarFile, report: Reporter) -> None:
    """As copy_overlay(), for an open archive."""
    directories: list[tarfile.TarInfo] = []
    undressed = 0
    for member in archive:
        archive.members = []  # type: ignore[attr-defined]  # all of them would be kept otherwise
        path = f"/{member.name}"
        with explained(path):
            if member.isdir():
                _make_directory(guest, path)
                directories.append(member)
            else:
                undressed += _put(guest, member, archive)
    # Last, because each file in a directory changes its time, and the deepest first.
    for member in reversed(directories):
        with explained(f"/{member.name}"), _directory(guest, f"/{member.name}") as made:
            undressed += _dress(made, member)
    if undressed:
        report.warning(f"Owner, mode or attributes of {undressed} files of the overlay are lost on their file system")


def _make_directory(guest: Guest, path: str) -> None:
    if guest.is_dir(path):
        return
    if guest.exists(path) or guest.is_link(path):
        raise GuestError(f"{shown(path)}: is a directory in the overlay and something else in the guest; change either")
    guest.make_directory(path, 0o700)


def _put(guest: Guest, member: tarfile.TarInfo, archive: tarfile.TarFile) -> bool:
    """Put a file or a link in the place of another; whether something of it is lost."""
    head, _, name = f"/{member.name}".rpartition("/")
    with _directory(guest, head or "/") as directory:
        if _is_directory(directory, name):
            raise GuestError(
                f"{shown(head)}/{shown(name)}: is a directory in the guest, and the overlay has a file there"
            )
        with suppress(FileNotFoundError):
            os.unlink(_BESIDE, dir_fd=directory)
        lost = False
        if member.issym():
            os.symlink(member.linkname, _BESIDE, dir_fd=directory)
            os.chown(_BESIDE, member.uid, member.gid, dir_fd=directory, follow_symlinks=False)
            os.utime(_BESIDE, (member.mtime, member.mtime), dir_fd=directory, follow_symlinks=False)
        elif member.islnk():
            _link(guest, f"/{member.linkname}", directory)
        else:
            lost = _write(directory, member, archive)
        os.rename(_BESIDE, name, src_dir_fd=directory, dst_dir_fd=directory)
        with suppress(FileNotFoundError):  # two names of one file: rename(2) does nothing then
            os.unlink(_BESIDE, dir_fd=directory)
        guest.note(directory, name)
        return lost


def _link(guest: Guest, path: str, directory: int) -> None:
    head, _, name = path.rpartition("/")
    with _directory(guest, head or "/") as source:
        os.link(name, _BESIDE, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)


def _write(directory: int, member: tarfile.TarInfo, archive: tarfile.TarFile) -> bool:
    content = archive.extractfile(member)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(_BESIDE, flags, 0o600, dir_fd=directory)
    try:
        while content and (piece := content.read(_PIECE)):
            view = memoryview(piece)
            while view:
                view = view[os.write(file, view) :]
        return _dress(file, member)
    finally:
        os.close(file)


def _dress(file: int, member: tarfile.TarInfo) -> bool:
    """Give an open file or directory what the archive says of it; whether its file system has no room for that."""
    lost = False
    attributes = {
        key.removeprefix(_ATTRIBUTE): value.encode("utf-8", "surrogateescape")
        for key, value in member.pax_headers.items()
        if key.startswith(_ATTRIBUTE)
    }
    try:
        os.fchown(file, member.uid, member.gid)  # first: it takes capabilities and set-uid bits away
        os.fchmod(file, member.mode & 0o7777)
        for name, value in attributes.items():
            os.setxattr(file, name, value)
    except OSError as error:
        if error.errno not in _UNKNOWN_THERE:
            raise
        lost = True
    os.utime(file, (member.mtime, member.mtime))
    return lost


def _is_directory(directory: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


@contextmanager
def _directory(guest: Guest, path: str) -> Iterator[int]:
    directory = guest.open_directory(path)
    try:
        yield directory
    finally:
        os.close(directory)
