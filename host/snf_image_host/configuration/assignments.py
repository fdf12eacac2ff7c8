# SPDX-License-Identifier: GPL-2.0-or-later
"""Shell-style configuration files (KEY=value) read as data: nothing in them is ever executed.

Understands what such files have always held, and what bash's `set` prints: comments, `export`, 'single', "double" and
$'ANSI-C' quotes, backslashes, and values over several lines. Where the reader gives variables, $NAME and ${NAME} stand
for those and for what the file has assigned before. Everything else is an error that names file and line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from snf_image_shared.errors import ConfigurationError

_NAME = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=")
_PLAIN = re.compile(r"[^ \t\r\n'\"\\$`;&|<>()]+")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
_ANSI = re.compile(r"\$'([^'\\]*(?:\\.[^'\\]*)*)'", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_REFERENCE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)
_IN_DOUBLE = re.compile(rf"\\(?P<escaped>.)|(?P<reference>{_REFERENCE.pattern})|[$`]", re.DOTALL | re.ASCII)
_EXPORT = re.compile(r"export(?:[ \t]+[A-Za-z_][A-Za-z0-9_]*)+[ \t]*(?=[\n;#]|\Z);?")
_IN_ANSI = re.compile(
    r"(?P<text>[^\\]+)|\\(?:x(?P<hex>[0-9A-Fa-f]{1,2})|(?P<octal>[0-7]{1,3})|"
    r"u(?P<short>[0-9A-Fa-f]{1,4})|U(?P<long>[0-9A-Fa-f]{1,8})|(?P<letter>.))",
    re.DOTALL,
)
_LETTERS = {"a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_LETTERS |= {letter: letter for letter in "\\'\"?"}
_MAX_SIZE = 4 << 20  # bytes: a variant may carry a whole personality


@dataclass(frozen=True)
class Assignment:
    """One KEY=value; `line` is where it begins, from 1. The value may be a secret, so it is not in the repr."""

    name: str
    value: str = field(repr=False)
    line: int


def read_assignments(
    path: Path, found: list[Assignment] | None = None, variables: Mapping[str, str] | None = None
) -> tuple[Assignment, ...]:
    """All of the file, in its order. Raises ConfigurationError, or FileNotFoundError for the caller.

    `found` gets what stands before a fault. `variables` are what the file may refer to beside what it assigns itself;
    without them every reference is a fault.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_SIZE + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > _MAX_SIZE:
        raise ConfigurationError(f"{path}: larger than {_MAX_SIZE} bytes; is this a configuration file?")
    return parse_assignments(content.decode("utf-8", "surrogateescape"), str(path), found, variables)


def parse_assignments(
    text: str, name: str, found: list[Assignment] | None = None, variables: Mapping[str, str] | None = None
) -> tuple[Assignment, ...]:
    """As read_assignments(), from text; `name` stands for the file in messages."""
    return _Parser(text, name, found=[] if found is None else found, variables=variables).parse()


@dataclass
class _Parser:
    text: str
    name: str
    position: int = 0
    counted: int = 0
    line: int = 1
    found: list[Assignment] = field(default_factory=list)
    variables: Mapping[str, str] | None = None
    assigned: dict[str, str] = field(default_factory=dict)

    def parse(self) -> tuple[Assignment, ...]:
        while True:
            self._skip(r"(?:[ \t\n]+|#[^\n]*)*")
            if self.position == len(self.text):
                return tuple(self.found)
            line = self._line()
            if self.variables is not None and (exported := _EXPORT.match(self.text, self.position)):
                self.position = exported.end()
                continue
            found = _NAME.match(self.text, self.position)
            if not found:
                # The line itself is not shown, here as below: it may hold a password.
                raise self._error("not an assignment; only lines KEY=value, without blanks around '=', are understood")
            self.position = found.end()
            value = self._value(found[1])
            if "\0" in value:
                raise self._error(f"{found[1]} contains a NUL character; remove it")
            self.found.append(Assignment(found[1], value, line))
            self.assigned[found[1]] = value

    def _value(self, key: str) -> str:
        start, parts = self.position, list[str]()
        while self.position < len(self.text):
            if found := _PLAIN.match(self.text, self.position):
                if re.search(r"(?:^|:)~" if self.position == start else ":~", found[0]):
                    raise self._error("a shell would put a home directory for '~'; write the path out")
                parts.append(found[0])
            elif found := _SINGLE.match(self.text, self.position):
                parts.append(found[1])
            elif found := _DOUBLE.match(self.text, self.position):
                parts.append(_IN_DOUBLE.sub(self._in_double, found[1]))
            elif found := _ANSI.match(self.text, self.position):
                # Escapes are bytes, as in bash: `set` and printf %q may spell one character with several of them.
                pieces = [self._in_ansi(piece) for piece in _IN_ANSI.finditer(found[1])]
                parts.append(b"".join(pieces).decode("utf-8", "surrogateescape"))
            elif found := _ESCAPED.match(self.text, self.position):
                parts.append("" if found[1] == "\n" else found[1])
            elif self.variables is not None and (found := _REFERENCE.match(self.text, self.position)):
                parts.append(self._referred(found))
            else:
                break
            self.position = found.end()
        self._end_of_value(key)
        return "".join(parts)

    def _in_double(self, found: re.Match[str]) -> str:
        if self.variables is not None and found["reference"]:
            return self._referred(_REFERENCE.fullmatch(found[0]) or found)
        if found["escaped"] is None:
            what = found[0][0]
            raise self._error(f"{what!r} inside double quotes would run or expand something; use single quotes")
        if found["escaped"] == "\n":
            return ""
        return found["escaped"] if found["escaped"] in '$`"\\' else found[0]

    def _referred(self, found: re.Match[str]) -> str:
        """What a reference stands for. One that a shell would take for nothing is a fault: it is a slip of the pen."""
        name = found[1] or found[2]
        try:
            return self.assigned[name] if name in self.assigned else (self.variables or {})[name]
        except KeyError as error:
            raise self._error(f"{found[0]} is not set before this line; write what it is to stand for") from error

    def _in_ansi(self, found: re.Match[str]) -> bytes:
        if found["text"]:
            return found["text"].encode("utf-8", "surrogateescape")
        if found["hex"] or found["octal"]:
            return bytes([int(found["hex"] or "0", 16) | int(found["octal"] or "0", 8) & 0xFF])
        letter = found["letter"]
        if letter:
            if letter in "xuUc":
                raise self._error(f"'\\{letter}' is an escape that is not understood; write the character itself")
            return _LETTERS.get(letter, found[0]).encode("utf-8", "surrogateescape")
        try:
            return chr(int(found["short"] or found["long"], 16)).encode()
        except (ValueError, OverflowError) as error:
            raise self._error(f"{found[0]!r} is no character; write the character itself") from error

    def _end_of_value(self, key: str) -> None:
        self._skip(r"[ \t]*")
        character = self.text[self.position : self.position + 1]
        match character:
            case "" | "\n" | "#":
                return
            case ";":
                self.position += 1
                return
            case "'" | '"':
                why = "an unfinished quote"
            case "\r":
                why = "a Windows line end (convert the file with dos2unix)"
            case _:
                why = "shell syntax that is not understood"
        raise self._error(f"{character!r} in the value of {key} is {why}; write {key}='value'")

    def _skip(self, pattern: str) -> None:
        found = re.compile(pattern).match(self.text, self.position)
        self.position = found.end() if found else self.position

    def _error(self, problem: str) -> ConfigurationError:
        return ConfigurationError(f"{self.name}, line {self._line()}: {problem}")

    def _line(self) -> int:
        """The line that is being read. It goes on counting from where it was asked last: a file may be megabytes."""
        self.line += self.text.count("\n", self.counted, self.position)
        self.counted = self.position
        return self.line
