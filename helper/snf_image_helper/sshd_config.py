# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest's sshd_config(5) says outside of Match blocks, drop-ins included. Only read, never written."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator

from snf_image_helper.guest import Guest

DIRECTORY = "/etc/ssh"
_FILES = ("/etc/ssh/sshd_config", "/usr/etc/ssh/sshd_config")  # the second is SUSE's default
_DEEPEST = 16  # SERVCONF_MAX_DEPTH
_MOST_FILES = 256
_WORD = re.compile(r'"([^"]*)"|(\S+)')


def config_file(guest: Guest) -> str | None:
    """The file sshd reads, or None."""
    return next((path for path in _FILES if guest.is_file(path)), None)


def settings(guest: Guest, keyword: str) -> tuple[tuple[str, ...], ...]:
    """The arguments of every line with `keyword` (any case) that holds for all connections, in sshd's order.

    For most keywords sshd takes the first line; HostKey adds up.
    """
    path = config_file(guest)
    if path is None:
        return ()
    wanted = keyword.lower()
    return tuple(words[1:] for words in _lines(guest, path, 0, [0]) if words[0].lower() == wanted and len(words) > 1)


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


def _lines(guest: Guest, path: str, depth: int, opened: list[int]) -> Iterator[tuple[str, ...]]:
    """Lines outside of Match; a Match reaches to the end of the file it stands in."""
    opened[0] += 1
    if depth > _DEEPEST or opened[0] > _MOST_FILES:
        return
    for line in guest.read_text(path).split("\n"):
        words = parse_line(line)
        if not words:
            continue
        match words[0].lower():
            case "match":
                return
            case "include":
                for pattern in words[1:]:
                    for included in _glob(guest, pattern):
                        yield from _lines(guest, included, depth + 1, opened)
            case _:
                yield words


def _glob(guest: Guest, pattern: str) -> tuple[str, ...]:
    """Files that an Include names; wildcards only in the last component, as distributions write it."""
    full = pattern if pattern.startswith("/") else f"{DIRECTORY}/{pattern}"
    head, _, tail = full.rpartition("/")
    names = guest.list_directory(head or "/", missing_ok=True)
    found = (f"{head}/{name}" for name in names if fnmatch.fnmatchcase(name, tail) and not name.startswith("."))
    return tuple(path for path in found if guest.is_file(path))
