# SPDX-License-Identifier: GPL-2.0-or-later
"""How tar(1) is called to keep all of a guest: numbers of owners, extended attributes, ACLs, capabilities, holes.

What a deployment makes anew is left out: lost+found, and the files that are swap space. The order of names and the
headers depend on the guest alone, so that an unchanged guest gives the same archive again.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from snf_image_helper import fstab
from snf_image_helper.fstab import FSTAB
from snf_image_helper.guest import Guest

_LOST = "lost+found"
_SAME_NUMBER = ("unshare", "--pid", "--fork", "--kill-child")  # tar writes its process id beside files with holes


def tar_command(guest: Guest, hidden: Sequence[str] = ()) -> list[str]:
    """The command that writes the archive of the mounted guest to its standard output, without what is `hidden`.

    That are paths as left_out() has them.
    """
    words = [
        *_SAME_NUMBER,
        "tar",
        "--create",
        "--file=-",
        f"--directory={guest.root}",
        "--sort=name",
        "--numeric-owner",
        "--sparse",
    ]
    words += ["--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"]
    # xfs shows its ACLs a second time, as attributes that mean nothing elsewhere.
    words += ["--xattrs", "--xattrs-include=*", "--xattrs-exclude=trusted.SGI_ACL_*", "--acls", "--no-check-device"]
    words += ["--anchored", "--no-wildcards", *(f"--exclude=./{path}" for path in (*left_out(guest), *hidden))]
    return [*words, "."]


def left_out(guest: Guest) -> tuple[str, ...]:
    """Paths below the root, without a slash before them."""
    lost = {posixpath.join(place.strip("/"), _LOST).lstrip("/") for place in guest.mounts}
    entries, _ = fstab.parse(guest.read_text(FSTAB, missing_ok=True) or "")
    swap = {
        posixpath.normpath(entry.device).lstrip("/")
        for entry in entries
        if entry.type == "swap" and entry.device.startswith("/") and not entry.device.startswith("/dev/")
    }
    return tuple(sorted((lost | swap) - {""}))
