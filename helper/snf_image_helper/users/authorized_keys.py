# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the guest's sshd looks for a user's keys (AuthorizedKeysFile), and how keys get there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from snf_image_helper.guest import Guest, Ownership
from snf_image_helper.users import sshd_config
from snf_image_helper.users.accounts import User
from snf_image_helper.users.public_keys import PublicKey, parse_line, with_keys
from snf_image_shared.errors import GuestError

_DEFAULT = (".ssh/authorized_keys", ".ssh/authorized_keys2")  # sshd_config(5)
_TOKEN = re.compile(r"%(.?)")


@dataclass(frozen=True)
class KeyFile:
    """What a user's file of keys is to be; `shared` is one that sshd reads for every user."""

    user: User
    path: str
    text: str
    shared: bool

    def write(self, guest: Guest) -> None:
        """Make the file, its directory too, the user's alone; nothing is written that is so already."""
        ownership = Ownership(0, 0, 0o644) if self.shared else Ownership(self.user.uid, self.user.gid, 0o600)
        _make_directory(guest, self.path.rpartition("/")[0] or "/", self.user)
        if guest.read_text(self.path, missing_ok=True) != self.text or guest.ownership(self.path) != ownership:
            guest.write_text(self.path, self.text, ownership=ownership)


def places(guest: Guest) -> tuple[str, ...]:
    """What AuthorizedKeysFile says for all users; empty when sshd reads no file."""
    patterns = next(iter(sshd_config.settings(guest, "AuthorizedKeysFile")), _DEFAULT)
    return () if patterns[0].lower() == "none" else patterns


def planned(guest: Guest, user: User, keys: tuple[PublicKey, ...], patterns: tuple[str, ...]) -> KeyFile:
    """The file of `patterns` that is to have the keys, the first one of the user's own.

    Keys that stand in another one are not added. Raises GuestError.
    """
    if not user.home.startswith("/"):
        raise GuestError(f"the home directory of {user.name!r} is {user.home[:80]!r}; correct it in the guest's passwd")
    own = next((pattern for pattern in patterns if _is_own(pattern)), None)
    path = keys_path(own or patterns[0], user)
    files = {keys_path(pattern, user) for pattern in patterns}
    elsewhere = {key for other in files - {path} for key in _keys_in(guest, other)}
    missing = tuple(key for key in keys if (key.options, key.blob) not in elsewhere)
    text = with_keys(guest.read_text(path, missing_ok=True) or "", missing)
    return KeyFile(user, path, text, own is None)


def keys_path(pattern: str, user: User) -> str:
    """Expand %h, %u, %U and %% of AuthorizedKeysFile; a relative path begins at the home directory."""
    tokens = {"h": user.home, "u": user.name, "U": str(user.uid), "%": "%"}
    unknown = next((token for token in _TOKEN.findall(pattern) if token not in tokens), None)
    if unknown is not None:
        raise GuestError(
            f"AuthorizedKeysFile {pattern!r} in the guest's sshd_config uses %{unknown}; use only %h %u %U %%"
        )
    path = _TOKEN.sub(lambda match: tokens[match[1]], pattern)
    return path if path.startswith("/") else f"{user.home.rstrip('/')}/{path}"


def _is_own(pattern: str) -> bool:
    return not pattern.startswith("/") or any(token in {"h", "u", "U"} for token in _TOKEN.findall(pattern))


def _keys_in(guest: Guest, path: str) -> set[tuple[str, bytes]]:
    lines = (guest.read_text(path, missing_ok=True) or "").split("\n")
    return {(key.options, key.blob) for key in map(parse_line, map(str.strip, lines)) if key}


def _make_directory(guest: Guest, directory: str, user: User) -> None:
    """Below the home all is the user's; a directory elsewhere is shared, and sshd wants it to be root's."""
    home = user.home.rstrip("/")
    if not directory.startswith(f"{home}/"):
        guest.make_directory(directory)
        return
    guest.make_directory(home.rpartition("/")[0] or "/")
    guest.make_directory(directory, 0o700, user.uid, user.gid)
    if not guest.is_link(directory) and guest.ownership(directory) != Ownership(user.uid, user.gid, 0o700):
        guest.chmod(directory, 0o700)
        guest.chown(directory, user.uid, user.gid)
