# SPDX-License-Identifier: GPL-2.0-or-later
"""The EFI system partition of a new disk: where the guest expects it, and what its archive has for it.

An archive of a guest that had one has the ESP's files below its mount point. FAT keeps neither owners nor links, so
they are moved there once all is unpacked, where nothing of them is left to be hidden by the mount.
"""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from snf_image_helper import fstab
from snf_image_helper.boot_loaders.places import ESPS
from snf_image_helper.files.removal import remove_tree
from snf_image_helper.fstab import Entry
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_shared.errors import GuestError

_MOST, _DEEPEST = 4096, 16  # files and directories, and directories in one another
_NO_NAME = frozenset({errno.EINVAL, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EISDIR})
_FAT_TYPES = frozenset({"vfat", "msdos"})


def place_of_esp(guest: Guest, entries: tuple[Entry, ...], *, separate_boot: bool) -> str:
    """Its mount point: the one in the image's fstab, else where the guest's boot loader or directories expect it.

    `separate_boot` is whether another partition has /boot.
    """
    possible = tuple(place for place in ESPS if not (separate_boot and place == "/boot"))
    told = [entry for entry in entries if entry.type in _FAT_TYPES]
    for place in possible:
        if any(entry.place == tuple(place.strip("/").split("/")) for entry in told):
            return place
    if "/boot" in possible and guest.is_dir("/boot/loader/entries") and guest.is_dir("/boot/EFI/systemd"):
        return "/boot"
    has_efi = guest.is_dir("/efi") and not guest.is_dir("/boot/efi")
    return "/efi" if has_efi else "/boot/efi"


def fill_esp(guest: Guest, place: str, esp: str, report: Reporter) -> None:
    """Move what the archive has at `place` of a file system to `esp`, where the ESP is mounted. Raises GuestError.

    Links, devices and names that FAT does not take are left out with a warning.
    """
    if not guest.is_dir(place):
        return
    source = guest.open_directory(place)
    try:
        left = _copied(source, esp)
    except OSError as error:
        cure = "; give a larger ESP_SIZE" if error.errno == errno.ENOSPC else ""
        raise GuestError(f"what the image has for the EFI system partition: {error.strerror}{cure}") from error
    finally:
        os.close(source)
    for name in guest.list_directory(place):
        remove_tree(guest, f"{place}/{name}")
    if left:
        names = ", ".join(fstab.printable(name) for name in left[:3])
        report.warning(f"{len(left)} entries have no place on the EFI system partition, as FAT has no such: {names}")


def _copied(source: int, destination: str) -> tuple[str, ...]:
    """Copy a tree from an open directory; the answer are the names of what FAT has no place for. Raises OSError."""
    left: list[str] = []
    for count, (path, name, directory) in enumerate(_entries(source)):
        if count >= _MOST or path.count("/") >= _DEEPEST:
            raise GuestError(
                f"the image has more than {_MOST} files for the EFI system partition, or directories deeper than "
                f"{_DEEPEST}; clean it up"
            )
        kind = stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
        try:
            if kind == stat.S_IFDIR:
                Path(destination, path).mkdir(exist_ok=True)
            elif kind == stat.S_IFREG:
                _copy(name, directory, f"{destination}/{path}")
            else:
                left.append(path)
        except OSError as error:
            if error.errno not in _NO_NAME:
                raise
            left.append(path)
    return tuple(left)


def _entries(source: int) -> Iterator[tuple[str, str, int]]:
    """Path below `source`, name, and the open directory that has it; directories before what they hold."""
    for base, directories, files, directory in os.fwalk(".", dir_fd=source, follow_symlinks=False):
        for name in (*directories, *files):
            yield posixpath.normpath(f"{base}/{name}"), name, directory


def _copy(name: str, directory: int, path: str) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, dir_fd=directory), "rb") as file, Path(path).open("wb") as copy:
        shutil.copyfileobj(file, copy, 1 << 20)
