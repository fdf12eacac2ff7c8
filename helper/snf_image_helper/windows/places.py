# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things of a Windows guest lie, whatever the case in which its version and its administrators spell them, and
how secrets are put there."""

from __future__ import annotations

import os

from snf_image_helper.files import ntfs_attributes
from snf_image_helper.files.guest_errors import explained
from snf_image_helper.guest import Guest

CONFIG = "/Windows/System32/config"


def located(guest: Guest, path: str) -> str:
    """The same path, with each part that exists spelled as it is there; what does not exist stays as it is given.

    Of several spellings side by side, which Windows itself does not make, the given one counts, else the first.
    """
    here = ""
    for name in path.split("/")[1:]:
        here = f"{here}/{_spelled(guest, here, name)}"
    return here


def _spelled(guest: Guest, directory: str, name: str) -> str:
    if guest.exists(f"{directory}/{name}"):
        return name
    siblings = guest.list_directory(directory or "/", missing_ok=True)
    return next((item for item in siblings if item.casefold() == name.casefold()), name)


def write_secret(guest: Guest, path: str, content: bytes) -> None:
    """As Guest.write_bytes(); what C: and C:\\Windows hand down would let every user read it.

    SetupComplete.cmd removes it, and does not run everywhere.
    """
    guest.write_bytes(path, content)
    head, _, name = path.rpartition("/")
    with explained(path):
        directory = guest.open_directory(head or "/")
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        finally:
            os.close(directory)
        try:
            ntfs_attributes.make_private(file)
        finally:
            os.close(file)
