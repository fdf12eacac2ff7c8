# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of sections and assignments as Setup of Windows XP reads them: changed line by line, all else stays.

configparser would drop comments and case, and has no lines without "=", of which CmdLines.txt consists. Names have no
case. A file is ANSI, in a code page that it does not tell, or UTF-16 with its mark.
"""

from __future__ import annotations

import codecs

from snf_image_shared.errors import GuestError

LIMIT = 1 << 20  # bytes
_QUOTED = frozenset(" ;,=[]")
# For the profile functions of Windows nothing escapes a quote, and INF files replace what is between two "%".
_IMPOSSIBLE = frozenset('"%')
_MARK = "; snf-image "


class IniFile:
    """One file in memory; messages call it `called`."""

    def __init__(self, content: bytes, called: str) -> None:
        """Raises GuestError for what is too large or no text."""
        self.called = called
        if len(content) > LIMIT:
            raise GuestError(f"{called}: is larger than {LIMIT} bytes; shorten it")
        self._wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        try:
            # Each byte of an unknown code page is a character, and the same byte again when it is written.
            text = content.decode("utf-16") if self._wide else content.removeprefix(codecs.BOM_UTF8).decode("latin-1")
        except UnicodeDecodeError as error:
            raise GuestError(f"{called}: is no UTF-16 though it begins so; save it anew") from error
        if "\0" in text:
            raise GuestError(f"{called}: has NUL characters; save it as ANSI, or as UTF-16 with its mark")
        self._foreign = not self._wide and not text.isascii()
        # Not splitlines(): 0x85 is a letter or an ellipsis in most code pages.
        self._lines = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n") if text else []

    @property
    def content(self) -> bytes:
        """What to write."""
        text = "".join(f"{line}\r\n" for line in self._lines)
        return codecs.BOM_UTF16_LE + text.encode("utf-16-le") if self._wide else text.encode("latin-1")

    @property
    def mark(self) -> str | None:
        """What set_mark() has left."""
        return self._lines[0].removeprefix(_MARK) if self._lines and self._lines[0].startswith(_MARK) else None

    def set_mark(self, mark: str) -> None:
        """Leave a word in a comment that tells what this file was made of."""
        if self.mark is not None:
            del self._lines[0]
        self._lines.insert(0, f"{_MARK}{mark}")

    def value(self, section: str, name: str) -> str | None:
        """The value without its quotes; None when it is missing. Of several the first counts."""
        place = self._assignment(section, name)
        return None if place is None else _unquoted(self._lines[place].partition("=")[2])

    def lines(self, section: str) -> tuple[str, ...]:
        """What is in a section but for comments and blank lines."""
        found = (self._lines[number].strip() for number in self._within(section))
        return tuple(line for line in found if line and not line.startswith(";"))

    def set(self, section: str, name: str, value: str) -> None:
        """Assign; the section is made if it is missing. Raises GuestError for what such a file cannot hold."""
        line = f"{name}={_quoted(value, f'{self.called}: {name}')}"
        self._allow(line)
        place = self._assignment(section, name)
        if place is None:
            self._insert(section, line)
        elif self.value(section, name) != value:
            self._lines[place] = line

    def add_line(self, section: str, line: str) -> None:
        """Add a line that is no assignment, once, behind what is there."""
        if line.casefold() not in (known.casefold() for known in self.lines(section)):
            self._allow(line)
            self._insert(section, line)

    def remove_section(self, section: str) -> None:
        """Take a section out, wherever parts of it stand."""
        while (start := self._heading(section)) is not None:
            del self._lines[start : self._end(start)]

    def _allow(self, line: str) -> None:
        if not line.isascii() and not self._wide:
            if self._foreign:
                raise GuestError(
                    f"{self.called}: is in an unknown code page and cannot get what is not ASCII; save it as UTF-16"
                )
            self._wide = True

    def _insert(self, section: str, line: str) -> None:
        start = self._heading(section)
        if start is None:
            self._lines += [*([""] if self._lines else []), f"[{section}]", line]
            return
        place = self._end(start)
        while not self._lines[place - 1].strip():
            place -= 1
        self._lines.insert(place, line)

    def _assignment(self, section: str, name: str) -> int | None:
        for number in self._within(section):
            found, sign, _ = self._lines[number].partition("=")
            if sign and found.strip().casefold() == name.casefold():
                return number
        return None

    def _within(self, section: str) -> range:
        start = self._heading(section)
        return range(0) if start is None else range(start + 1, self._end(start))

    def _heading(self, section: str) -> int | None:
        wanted = section.casefold()
        return next((number for number, line in enumerate(self._lines) if _section(line) == wanted), None)

    def _end(self, start: int) -> int:
        """The number of the line behind the section that begins in line `start`."""
        later = range(start + 1, len(self._lines))
        return next((number for number in later if _section(self._lines[number]) is not None), len(self._lines))


def _section(line: str) -> str | None:
    text = line.strip()
    name, bracket, _ = text[1:].partition("]")
    return name.strip().casefold() if text.startswith("[") and bracket else None


def _unquoted(text: str) -> str:
    value = text.strip()
    if value.startswith('"'):
        return value[1:].partition('"')[0]
    return value.partition(";")[0].rstrip()


def _quoted(value: str, what: str) -> str:
    """The message does not quote the value: it may be a password."""
    if _IMPOSSIBLE.intersection(value) or not value.isprintable():
        raise GuestError(f'{what}: a value with ", % or control characters cannot stand there; choose another')
    return f'"{value}"' if _QUOTED.intersection(value) or value.endswith("\\") else value
