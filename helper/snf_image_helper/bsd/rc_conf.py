# SPDX-License-Identifier: GPL-2.0-or-later
"""Assignments in the files that rc(8) of a BSD reads: found, made and taken out as text. Nothing is ever expanded.

Which files count, and in which order: rc.conf(5) and load_rc_config() in rc.subr of each; OpenBSD's _rc_parse_conf()
reads no shell, only lines of the form name=value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from snf_image_helper.files.edits import Edits
from snf_image_helper.system import OsFamily
from snf_image_shared.errors import GuestError

RC_CONF = "/etc/rc.conf"
RC_CONF_LOCAL = "/etc/rc.conf.local"
_DIRECTORIES = {
    OsFamily.FREEBSD: ("/etc/rc.conf.d", "/usr/local/etc/rc.conf.d"),
    OsFamily.NETBSD: ("/etc/rc.conf.d",),
}
_MOST_FILES = 256
_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_BEHIND = re.compile(r"[ \t]*(?:;|&&)|[ \t]+(?:#|[A-Za-z_][A-Za-z0-9_]*=)")
_UNSAFE = re.compile(r"""["'$`\\\n\r\0]""")
_MOST_LINES = 256  # of one value


@dataclass(frozen=True)
class Assignment:
    """One of them: the lines from `start` up to but without `end`; `value` is without quotes.

    `behind` is what else these lines say: further commands, or a comment.
    """

    name: str
    value: str
    start: int
    end: int
    behind: str = ""


class RcConf:
    """The configuration of rc as its files say it; changes are left in `edits`. Raises GuestError like Guest."""

    def __init__(self, edits: Edits) -> None:
        self._edits = edits
        family = edits.guest.system.family
        self.main = RC_CONF_LOCAL if family is OsFamily.OPENBSD else RC_CONF
        more = (RC_CONF_LOCAL,) if family is OsFamily.FREEBSD else ()
        self._files = (self.main, *more, *self._service_files(_DIRECTORIES.get(family, ())))

    def value(self, name: str) -> str | None:
        """What the last assignment of all files says, None when there is none; defaults/rc.conf is not looked at."""
        found = self.values(name)
        return found[-1] if found else None

    def values(self, name: str) -> tuple[str, ...]:
        """What all assignments say, in the order in which they are read."""
        return tuple(item.value for item in self._all() if item.name == name)

    def set(self, name: str, value: str) -> None:
        """Every file that assigns it is to say this, and the main one in any case. Raises GuestError for a quote."""
        for path in self._files:
            text = self._edits.text(path) or ""
            if path == self.main or any(item.name == name for item in assignments(text)):
                self._edits.put(path, assign(text, name, value))

    def _all(self) -> Iterator[Assignment]:
        for path in self._files:
            yield from assignments(self._edits.text(path) or "")

    def _service_files(self, directories: tuple[str, ...]) -> tuple[str, ...]:
        """Files that only scripts of their name read, and those in directories of such a name."""
        guest = self._edits.guest
        found: list[str] = []
        for directory in directories:
            for name in guest.list_directory(directory, missing_ok=True):
                path = f"{directory}/{name}"
                names = guest.list_directory(path, missing_ok=True) if guest.is_dir(path) else ()
                found += [path, *(f"{path}/{inner}" for inner in names)]
        files = tuple(path for path in found if guest.is_file(path))
        if len(files) > _MOST_FILES:
            raise GuestError(f"{directories[0]}: holds more than {_MOST_FILES} files; remove some from the image")
        return files


def assignments(text: str) -> Iterator[Assignment]:
    """In order, those in conditions as well; a value in quotes may go over several lines."""
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        match = _ASSIGNMENT.fullmatch(lines[number])
        if match is None:
            number += 1
            continue
        end = _end(lines, number, match[2])
        value, behind = _parts("\n".join((match[2], *lines[number + 1 : end])))
        yield Assignment(match[1], value, number, end, behind)
        number = end


def assign(text: str, name: str, value: str) -> str:
    """The file with every assignment of `name` saying `value`, or a new one at its end.

    Raises GuestError for a value that a shell would not take as it is.
    """
    if _UNSAFE.search(value):
        raise GuestError(f"{name}: the value holds a quote or what else a shell would read; rc.conf cannot have it")
    found = [item for item in assignments(text) if item.name == name]
    if found and all(item.value == value for item in found):
        return text
    line = f'{name}="{value}"'
    lines = text.split("\n")
    for item in reversed(found):
        indent = re.match(r"[ \t]*(?:export[ \t]+)?", lines[item.start])
        lines[item.start : item.end] = [f"{indent[0] if indent else ''}{line}{item.behind}"]
    if not found:
        lines[-1:] = [*filter(None, lines[-1:]), line, ""]
    return "\n".join(lines)


def _end(lines: list[str], start: int, value: str) -> int:
    """The number of the line behind a value that begins in line `start`."""
    quote = value[:1] if value[:1] in {'"', "'"} else ""
    if quote and quote in value[1:]:
        return start + 1
    for number in range(start, min(len(lines), start + _MOST_LINES)):
        line = value if number == start else lines[number]
        if quote and number > start and quote in line:
            return number + 1
        if not quote and not line.endswith("\\"):
            return number + 1
    # A quote that nobody closes: this line alone is ours to change. What goes on and on is one value.
    return start + 1 if quote else min(len(lines), start + _MOST_LINES)


def _parts(value: str) -> tuple[str, str]:
    """The value without its quotes, and what is behind it where that can be told; lines that were continued are one."""
    joined = value.replace("\\\n", " ")
    quote = joined[:1]
    if quote in {'"', "'"}:
        inner, _, behind = joined[1:].partition(quote)
        is_plain = quote == "'" or not re.search(r"[$`\\]", inner)
        inner = " ".join(inner.split())
    else:
        inner = re.split(r"[ \t;]", joined.strip(), maxsplit=1)[0]
        behind = joined.strip()[len(inner) :]
        is_plain = not re.search(r"""[$`\\"']""", inner)
    return inner, behind if is_plain and _BEHIND.match(behind) else ""
