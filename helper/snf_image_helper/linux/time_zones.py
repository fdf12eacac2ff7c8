# SPDX-License-Identifier: GPL-2.0-or-later
"""The property TIMEZONE: /etc/localtime, and the files in which some distributions say its name once more."""

from __future__ import annotations

import re

from snf_image_helper.files.edits import Edits, assigned
from snf_image_helper.guest import Guest
from snf_image_shared.errors import GuestError

PROPERTY = "TIMEZONE"
_ZONES = "/usr/share/zoneinfo"
_LOCALTIME = "/etc/localtime"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z][A-Za-z0-9_+-]*){0,2}")
_LONGEST = 64
_LARGEST = 1 << 16  # bytes
_MAGIC = b"TZif"  # RFC 8536
# Debian's and Gentoo's text file; Red Hat's up to 6 and SUSE's up to 11; Void's and old Arch's. Only where they are.
_PLAIN = "/etc/timezone"
_ASSIGNMENTS = (("/etc/sysconfig/clock", "ZONE"), ("/etc/sysconfig/clock", "TIMEZONE"), ("/etc/rc.conf", "TIMEZONE"))
_CLOCK = "/etc/conf.d/clock"  # Gentoo's of old


def check(name: str) -> None:
    """Raises GuestError for what is no name of the IANA time zone database."""
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise GuestError(f"property {PROPERTY}: {name[:80]!r} is no time zone; write one like Europe/Athens or UTC")


def configure(edits: Edits, name: str) -> None:
    """Raises GuestError when the guest does not have the zone."""
    guest = edits.guest
    content = _zone(guest, name)
    if guest.is_link(_LOCALTIME) or not guest.is_file(_LOCALTIME):
        # Relative as timedatectl(1) makes it, so that it is right wherever the root is mounted.
        edits.link(_LOCALTIME, f"..{_ZONES}/{name}")
    else:
        # A copy: /usr may be another file system, that is not there at boot.
        edits.put(_LOCALTIME, content)
    if guest.exists(_PLAIN):
        edits.put(_PLAIN, f"{name}\n")
    for path, variable in (*_ASSIGNMENTS, (_CLOCK, "TIMEZONE")):
        if assigned(edits.text(path) or "", variable) is not None:
            edits.assign(path, variable, name)


def _zone(guest: Guest, name: str) -> str:
    if not guest.is_dir(_ZONES):
        raise GuestError(f"property {PROPERTY}: the guest has no {_ZONES}; install tzdata in the image")
    path = f"{_ZONES}/{name}"
    if not guest.is_file(path) or guest.head(path, len(_MAGIC)) != _MAGIC:
        raise GuestError(f"property {PROPERTY}: the guest has no {path}; correct the name, or update its tzdata")
    return guest.read_bytes(path, limit=_LARGEST).decode("utf-8", "surrogateescape")
