# SPDX-License-Identifier: GPL-2.0-or-later
"""The accounts of a Windows guest, as its hive SAM has them, and what its policy asks of a password.

Source of the layouts: chntpw's sam.h and impacket's secretsdump.py (DOMAIN_ACCOUNT_F); of the rules: Microsoft,
"Password must meet complexity requirements".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from snf_image_helper.guest import Guest
from snf_image_helper.windows.registry import HIVE_SAM, Hive, opened

_ACCOUNT = r"SAM\Domains\Account"
_ADMINISTRATOR = "000001F4"  # 500, whatever its name is
_FIRST_OWN = 1000  # what is below is Windows' own
_NAME = 0x0C  # in V: where its name lies behind the head, and how many bytes it has
_HEAD = 0xCC
_PROPERTIES, _LEAST = 0x4C, 0x50  # in F
_COMPLEX = 1
_CATEGORIES = 3


@dataclass(frozen=True)
class Policy:
    """How long a password must be, and whether it must be of several kinds of characters."""

    shortest: int = 0
    is_complex: bool = False

    def fault(self, password: str, user: str) -> str | None:
        """Why Windows would not take it, in words that do not show it; None if it would."""
        if len(password) < self.shortest:
            return f"is shorter than the {self.shortest} characters that the image's password policy asks for"
        if not self.is_complex:
            return None
        if len(user) > 2 and user.casefold() in password.casefold():
            return "has the user's name in it, which the image's password policy forbids"
        if _kinds(password) < _CATEGORIES:
            return (
                "is of less than three kinds of characters (capitals, small letters, digits, others), "
                "which the image's password policy asks for"
            )
        return None


@dataclass(frozen=True)
class Accounts:
    """`names` are of all users; `administrator` is the built-in one's, in the image's language; None if not found."""

    names: tuple[str, ...]
    administrator: str | None
    policy: Policy
    has_own: bool

    def found(self, user: str) -> str | None:
        """The user as Windows spells it, None if there is none."""
        return next((name for name in self.names if name.casefold() == user.casefold()), None)


def accounts(guest: Guest) -> Accounts:
    """Read the hive. Raises GuestError when it is missing or damaged."""
    with opened(guest, HIVE_SAM) as hive:
        numbers = hive.keys(rf"{_ACCOUNT}\Users") or ()
        return Accounts(
            hive.keys(rf"{_ACCOUNT}\Users\Names") or (),
            _administrator(hive),
            _policy(hive),
            any(_number(name) >= _FIRST_OWN for name in numbers),
        )


def _number(key: str) -> int:
    try:
        return int(key, 16) if len(key) == 8 else 0
    except ValueError:
        return 0  # the key Names


def _administrator(hive: Hive) -> str | None:
    entry = hive.value(rf"{_ACCOUNT}\Users\{_ADMINISTRATOR}", "V")
    if not isinstance(entry, bytes) or len(entry) < _HEAD:
        return None
    offset, length = struct.unpack_from("<II", entry, _NAME)
    name = entry[_HEAD + offset : _HEAD + offset + length]
    return name.decode("utf-16-le", "replace") if length and len(name) == length <= 512 else None


def _policy(hive: Hive) -> Policy:
    fixed = hive.value(_ACCOUNT, "F")
    if not isinstance(fixed, bytes) or len(fixed) < _LEAST + 2:
        return Policy()
    (properties,) = struct.unpack_from("<I", fixed, _PROPERTIES)
    (shortest,) = struct.unpack_from("<H", fixed, _LEAST)
    return Policy(shortest, bool(properties & _COMPLEX))


def _kinds(password: str) -> int:
    """Letters without case are a kind of their own; what is no letter and no digit is one, currency signs or not."""
    return len({next((kind for kind, is_one in _KINDS if is_one(character)), "other") for character in password})


_KINDS = (("capital", str.isupper), ("small", str.islower), ("digit", str.isdigit), ("letter", str.isalpha))
