# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's own users and groups: passwd(5) and group(5), read tolerantly. The helper's accounts play no part.

On a BSD master.passwd(5) is what counts: passwd is made of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from snf_image_helper.bsd.passwords import MASTER
from snf_image_helper.guest import Guest
from snf_image_helper.task import BSD
from snf_image_shared.errors import GuestError

USERS_FILE = "/etc/passwd"
GROUPS_FILE = "/etc/group"
_LARGEST = 0xFFFF_FFFE  # (uid_t) -1 means "leave it" to chown(2)


@dataclass(frozen=True)
class User:
    """One line of passwd(5); `home` and `shell` are as written there. PAM reads shadow(5) only if it `is_shadowed`."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str = ""
    is_shadowed: bool = True


def parse_passwd(text: str) -> tuple[User, ...]:
    """Users in order; lines that are no account (comments, NIS compatibility, damage) are passed over."""
    return tuple(
        User(fields[0], int(fields[2]), int(fields[3]), fields[5], fields[6], fields[1] in {"x", f"##{fields[0]}"})
        for fields in _lines(text, 7)
        if _is_id(fields[2]) and _is_id(fields[3])
    )


def parse_master(text: str) -> tuple[User, ...]:
    """The same of master.passwd(5), which has class, change and expire behind the group."""
    return tuple(
        User(fields[0], int(fields[2]), int(fields[3]), fields[8], fields[9])
        for fields in _lines(text, 10)
        if _is_id(fields[2]) and _is_id(fields[3])
    )


def parse_group(text: str) -> tuple[tuple[str, int], ...]:
    """Names and numbers in order, tolerant as parse_passwd()."""
    return tuple((fields[0], int(fields[2])) for fields in _lines(text, 4) if _is_id(fields[2]))


def find_user(guest: Guest, name: str) -> User:
    """The first account of that name, as getpwnam(3) finds it. Raises GuestError when there is none."""
    for user in _users(guest):
        if user.name == name:
            return user
    raise GuestError(f"the user {name!r} is not in {users_file(guest)}; correct the name or add it to the image")


def has_user(guest: Guest, name: str) -> bool:
    """Whether there is an account of that name."""
    return guest.exists(users_file(guest)) and any(user.name == name for user in _users(guest))


def users_file(guest: Guest) -> str:
    """Where the guest has its users."""
    return MASTER if guest.system.family in BSD else USERS_FILE


def owner_ids(guest: Guest, owner: str | None, group: str | None) -> tuple[int, int]:
    """Numbers for two names or numbers of the guest; None is 0. Raises GuestError for a name it does not have."""
    uid = _number(owner)
    if uid is None:
        uid = find_user(guest, owner or "").uid
    gid = _number(group)
    if gid is None:
        gid = _find_group(guest, group or "")
    return uid, gid


def _users(guest: Guest) -> tuple[User, ...]:
    parse = parse_master if guest.system.family in BSD else parse_passwd
    return parse(guest.read_text(users_file(guest)))


def _number(name: str | None) -> int | None:
    if name is None or name == "":
        return 0
    if not (name.isascii() and name.isdigit()):
        return None
    if not _is_id(name):
        raise GuestError(f"{name[:40]} is no user or group number; use one below {_LARGEST + 1}")
    return int(name)


def _find_group(guest: Guest, name: str) -> int:
    for found, gid in parse_group(guest.read_text(GROUPS_FILE)):
        if found == name:
            return gid
    if name == "root" and guest.system.family in BSD:
        return 0  # Linux' name of the group that is wheel there; who asks for it does not know what the guest is
    raise GuestError(f"the group {name!r} is not in {GROUPS_FILE}; correct the name or add the group to the image")


def _lines(text: str, fields: int) -> Iterator[list[str]]:
    for line in text.split("\n"):
        found = line.split(":")
        if len(found) == fields and found[0] and found[0][0] not in "#+-":
            yield found


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _LARGEST
