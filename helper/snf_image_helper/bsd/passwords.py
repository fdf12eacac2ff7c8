# SPDX-License-Identifier: GPL-2.0-or-later
"""master.passwd(5) and what can stand in it: which hashes the crypt(3) of each BSD verifies, and a new one in a line.

crypt(3) of FreeBSD, OpenBSD (bcrypt alone since 5.6) and NetBSD, whose bcrypt knows no minor version but "a".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from snf_image_helper.system import OsFamily
from snf_image_helper.users.passwords import hash_with
from snf_image_shared.errors import GuestError

MASTER = "/etc/master.passwd"
SECURE_DATABASE = "/etc/spwd.db"
# What an interrupted pwd_mkdb(8) leaves; NetBSD's would then refuse to begin (O_EXCL).
LEFTOVERS = ("/etc/spwd.db.tmp", "/etc/pwd.db.tmp", "/etc/master.passwd.orig")
_FIELDS = 10
_COST = 10  # of bcrypt
_METHODS = {
    OsFamily.FREEBSD: {"sha512": b"$6$", "sha256": b"$5$", "blowfish": b"$2b$", "md5": b"$1$"},
    OsFamily.OPENBSD: {"blowfish": b"$2b$"},
    OsFamily.NETBSD: {"sha1": b"$sha1", "blowfish": b"$2a$", "md5": b"$1$"},
}
_VERIFIED = {
    OsFamily.FREEBSD: re.compile(r"\$(1|2[abxy]?|3|5|6)\$"),
    OsFamily.OPENBSD: re.compile(r"\$2[ab]?\$"),
    OsFamily.NETBSD: re.compile(r"\$(1|2a?|sha1|argon2i?d?)\$"),
}


def check_method(name: str, family: OsFamily) -> str:
    """The property PASSWD_HASHING_METHOD for this family. Raises GuestError for what it could not verify."""
    word = name.strip().lower()
    known = _METHODS[family]
    if word not in known:
        raise GuestError(
            f"property PASSWD_HASHING_METHOD: {name[:40]!r} is none that {family} knows; use one of {', '.join(known)}"
        )
    return word


def default_method(family: OsFamily) -> str:
    """What is taken when nothing is asked for."""
    return next(iter(_METHODS[family]))


def hash_for(family: OsFamily, password: str, method: str, entropy: bytes) -> str:
    """A hash that this family verifies. Raises GuestError for a password that crypt(3) cannot take."""
    return hash_with(password, _METHODS[family][method], _COST if method == "blowfish" else 0, entropy)


def is_verified(family: OsFamily, hashed: str) -> bool:
    """Whether the family's crypt(3) knows hashes of this kind; what is no hash at all ("*") is none of its business."""
    return not hashed.startswith("$") or _VERIFIED[family].match(hashed) is not None


@dataclass(frozen=True)
class Master:
    """The file, line by line."""

    lines: tuple[tuple[str, ...], ...]

    @classmethod
    def parse(cls, text: str, family: OsFamily) -> Master:
        """Raises GuestError for a file that pwd_mkdb(8) would not take: nobody could log in then."""
        lines = tuple(tuple(line.split(":")) for line in text.removesuffix("\n").split("\n"))
        for number, fields in enumerate(lines, start=1):
            if len(fields) != _FIELDS and not _is_ignored(fields[0], family):
                raise GuestError(
                    f"{MASTER}: line {number} has {len(fields)} fields instead of {_FIELDS}, so that pwd_mkdb would "
                    "refuse the file; correct it in the image"
                )
        return cls(lines)

    @property
    def text(self) -> str:
        """The file, its last line ended: pwd_mkdb(8) wants that."""
        return "".join(":".join(fields) + "\n" for fields in self.lines)

    def fields(self, user: str) -> tuple[str, ...] | None:
        """Name, password, uid, gid, class, change, expire, gecos, home, shell of the user; None for nobody."""
        return next((fields for fields in self.lines if len(fields) == _FIELDS and fields[0] == user), None)

    def with_password(self, user: str, hashed: str) -> Master:
        """The user's lines with this hash, which does not have to be changed at a certain time; all else stays."""
        return Master(
            tuple(
                (user, hashed, *fields[2:5], "0", *fields[6:])
                if len(fields) == _FIELDS and fields[0] == user
                else fields
                for fields in self.lines
            )
        )


def _is_ignored(first: str, family: OsFamily) -> bool:
    """NIS entries, and comments and blank lines: scan() of FreeBSD's pwd_mkdb.c alone takes them."""
    return first[:1] in {"+", "-"} or (family is OsFamily.FREEBSD and first.lstrip(" \t")[:1] in {"", "#"})
