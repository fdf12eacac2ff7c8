# SPDX-License-Identifier: GPL-2.0-or-later
"""Removes files of the guest by patterns of their names, and whole directories with all that is in them."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping

from snf_image_helper.files.guest_errors import explained, shown
from snf_image_helper.guest import Guest
from snf_image_shared.errors import GuestError

_MOST = 1_000_000  # entries: a minute's work, and more than any state of a template
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STAYS = frozenset({errno.EBUSY, errno.ENOTEMPTY})


def remove_files(guest: Guest, patterns: Mapping[str, str]) -> int:
    """Remove the regular files in a directory whose whole names fit its pattern; how many there were."""
    found = 0
    for directory, pattern in patterns.items():
        for name in guest.list_directory(directory, missing_ok=True):
            if re.fullmatch(pattern, name) and guest.is_file(f"{directory}/{name}"):
                guest.remove(f"{directory}/{name}")
                found += 1
    return found


def remove_tree(guest: Guest, path: str) -> None:
    """Remove a directory with all in it, or a link or file itself; a missing one is none of our business.

    No link is followed and no other file system entered, whatever its depth is. A file system that is mounted in it
    stays, with the directories that lead there. Raises GuestError.
    """
    if guest.is_link(path) or not guest.is_dir(path):
        guest.remove(path, missing_ok=True)
        return
    head, _, name = path.rpartition("/")
    parent = guest.open_directory(head or "/")
    try:
        with explained(path):
            sweep = _Sweep(path, os.fstat(parent).st_dev)
            sweep.empty(parent, name)
            sweep.remove(parent, name)
    finally:
        os.close(parent)


class _Sweep:
    """One removal: how much it has seen, and the directories that stay."""

    def __init__(self, path: str, device: int) -> None:
        self._path = path
        self._device = device
        self._seen = 0
        self._staying: set[int] = set()  # inodes of the one device

    def empty(self, parent: int, name: str) -> None:
        """Empty a directory. Holds one descriptor, however deep the tree is."""
        if os.stat(name, dir_fd=parent, follow_symlinks=False).st_dev != self._device:
            return
        way: list[str] = []
        here = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            while True:
                below = self._clear(here)
                if below is None and not way:
                    return
                # Nobody else is here to rename a directory, so ".." is where we came from.
                there = os.open(".." if below is None else below, _DIRECTORY, dir_fd=here)
                here, left = there, here
                os.close(left)
                if below is None:
                    self.remove(here, way.pop())
                else:
                    way.append(below)
        finally:
            os.close(here)

    def remove(self, here: int, name: str) -> None:
        """Remove an empty directory; one that is not empty stays."""
        self._count()
        try:
            os.rmdir(name, dir_fd=here)
        except OSError as error:
            if error.errno not in _STAYS:
                raise
            self._staying.add(os.stat(name, dir_fd=here, follow_symlinks=False).st_ino)

    def _clear(self, here: int) -> str | None:
        """Remove all but directories; one of these, or None when none is to be entered."""
        with os.scandir(here) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    if found.st_dev == self._device and found.st_ino not in self._staying:
                        return entry.name
                    continue
                self._count()
                os.unlink(entry.name, dir_fd=here)
        return None

    def _count(self) -> None:
        self._seen += 1
        if self._seen > _MOST:
            raise GuestError(f"{shown(self._path)}: holds more than {_MOST} entries; clean it up in the image")
