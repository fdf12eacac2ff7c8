# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest's sshd_config(5) says outside of Match blocks, drop-ins included. Only read, never written."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator

from snf_image_helper.guest import Guest
from snf_image_shared.errors import GuestError

DIRECTORY = "/etc/ssh"
_FILES = ("/etc/ssh/sshd_config", "/usr/etc/ssh/sshd_config")  # the second is SUSE's default
_DEEPEST = 16  # SERVCONF_MAX_DEPTH
_LONGEST = 1 << 20  # bytes, of all files together and the names among which Include looks for them
_EACH = 256  # bytes: what a file or an Include counts at least
_WORD = re.compile(r'"([^"]*)"|(\S+)')


def config_file(guest: Guest) -> str | None:
    """The file sshd reads, or None."""
    return next((path for path in _FILES if guest.is_file(path)), None)


def settings(guest: Guest, keyword: str) -> tuple[tuple[str, ...], ...]:
    """The arguments of every line with `keyword` (any case) that holds for all connections, in sshd's order.

    For most keywords sshd takes the first line; HostKey adds up. Raises GuestError.
    """
    path = config_file(guest)
    if path is None:
        return ()
    wanted = keyword.lower()
    lines = _Reading(guest).lines(path, 0)
    return tuple(words[1:] for words in lines if words[0].lower() == wanted and len(words) > 1)


def parse_line(line: str) -> tuple[str, ...]:
    """Keyword and arguments; empty for blanks and comments. "Keyword=value" is as good as "Keyword value"."""
    text = line.strip()
    if not text or text.startswith("#"):
        return ()
    match = re.match(r"(\w+)(?:\s*=\s*|\s+)(.*)", text)
    if not match:
        return (text,)
    words = []
    for quoted, plain in _WORD.findall(match[2]):
        if plain.startswith("#"):
            break
        words.append(quoted or plain)
    return (match[1], *words)


class _Reading:
    """One reading of a file and what it includes, however often; it has an end whatever a tenant has written."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._left = _LONGEST

    def lines(self, path: str, depth: int) -> Iterator[tuple[str, ...]]:
        """Lines outside of Match; a Match reaches to the end of the file it stands in."""
        if depth > _DEEPEST:
            return
        text = self._guest.read_text(path)
        self._spend(len(text))
        for line in text.split("\n"):
            words = parse_line(line)
            if not words:
                continue
            match words[0].lower():
                case "match":
                    return
                case "include":
                    for pattern in words[1:]:
                        for included in self._glob(pattern):
                            yield from self.lines(included, depth + 1)
                case _:
                    yield words

    def _glob(self, pattern: str) -> tuple[str, ...]:
        """Files that an Include names; wildcards only in the last component, as distributions write it."""
        full = pattern if pattern.startswith("/") else f"{DIRECTORY}/{pattern}"
        head, _, tail = full.rpartition("/")
        names = self._guest.list_directory(head or "/", missing_ok=True)
        self._spend(sum(map(len, names), len(pattern)))
        found = (f"{head}/{name}" for name in names if fnmatch.fnmatchcase(name, tail) and not name.startswith("."))
        return tuple(path for path in found if self._guest.is_file(path))

    def _spend(self, length: int) -> None:
        self._left -= length + _EACH
        if self._left < 0:
            raise GuestError(f"{DIRECTORY}: sshd's configuration has more than {_LONGEST} bytes; make it smaller")
