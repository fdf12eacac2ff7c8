# SPDX-License-Identifier: GPL-2.0-or-later
"""rc.conf(5) with our variables in it, and without those of the template: a shell script that is read as data.

What goes becomes a comment behind a command that does nothing, so that a branch of the script which holds nothing else
stays one. Nothing is expanded or executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from snf_image_helper.network.rendering import HEADER
from snf_image_shared.errors import GuestError

_BEGIN = HEADER + "# Its network: these lines are written anew when the image of this guest is deployed.\n"
_END = "# End of what snf-image wrote of the network.\n"
_GONE, _MORE = ": # snf-image: ", "# snf-image: "
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]{0,200})=")


@dataclass(frozen=True)
class _Statement:
    """Lines that belong together, newlines included; `name` is what they assign to, "" for anything else.

    `is_alone`: there is nothing else on the lines.
    """

    text: str
    name: str
    is_alone: bool


def with_network(path: str, text: str, variables: Mapping[str, str], goes: Callable[[str], bool]) -> str:
    """The script with these variables, where an earlier deployment had put them or at its end.

    Assignments go whose names say so. Values must mean nothing to a shell between quotes. Raises GuestError for a
    script that ends within quotes.
    """
    before, after = _around_ours(text)
    kept = []
    emptied = {}
    for part in (before, after):
        lines = ""
        for statement in _statements(path, part):
            if not goes(statement.name):
                lines += statement.text
            elif statement.is_alone:
                lines += _commented(statement.text)
            else:
                lines += statement.text
                emptied[statement.name] = ""
        kept.append(lines)
    block = "".join(f'{name}="{value}"\n' for name, value in {**emptied, **variables}.items())
    if not block:
        return kept[0] + kept[1]
    head = kept[0] if not kept[0] or kept[0].endswith("\n") else f"{kept[0]}\n"
    return f"{head}{_BEGIN}{block}{_END}{kept[1]}"


def _around_ours(text: str) -> tuple[str, str]:
    before, begins, rest = text.partition(_BEGIN)
    _, ends, after = rest.partition(_END)
    return (before, after) if begins and ends else (text, "")


def _commented(text: str) -> str:
    first, *others = _lines(text)
    return _GONE + first.lstrip(" \t") + "".join(_MORE + line for line in others)


def _lines(text: str) -> list[str]:
    return [match[0] for match in _LINE.finditer(text)]


def _statements(path: str, text: str) -> Iterator[_Statement]:
    lines = _lines(text)
    begin = 0
    while begin < len(lines):
        state, end, is_alone = "", begin, True
        while True:
            state, plain = _after(state, lines[end])
            is_alone = is_alone and plain
            end += 1
            if not state:
                break
            if end == len(lines):
                if state == "\\":
                    break
                raise GuestError(f"{path}: a quotation mark in line {begin + 1} has no end; correct the image")
        statement = "".join(lines[begin:end])
        assigned = _ASSIGNMENT.match(statement)
        yield _Statement(statement, assigned[1] if assigned else "", is_alone)
        begin = end


def _after(state: str, line: str) -> tuple[str, bool]:
    """What is open at the end of a line: a quotation mark, a backslash or "". And whether no other command is there."""
    if state == "\\":
        state = ""
    is_plain, is_escaped, previous = True, False, ""
    for char in line.rstrip("\n"):
        if is_escaped:
            is_escaped = False
        elif state == "'":
            state = "" if char == "'" else state
        elif char == "\\":
            is_escaped = True
        elif state == '"':
            state = "" if char == '"' else state
        elif char in "'\"":
            state = char
        elif char == "#" and previous in {"", " ", "\t", ";"}:
            break
        elif char in ";&|":
            is_plain = False
        previous = char
    return state or ("\\" if is_escaped else ""), is_plain
