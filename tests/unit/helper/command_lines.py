# SPDX-License-Identifier: GPL-2.0-or-later
"""What cmd.exe makes of a line of a batch file, and a program of its command line: written from their documentation.

cmd.exe first replaces %% and %NAME%, then reads characters: ^ takes the next one for itself and ", outside of quotes,
begins a quoted part in which nothing but " is special. The program's C runtime then splits what is left ("Parsing C
command-line arguments", Microsoft): backslashes count before a quote alone.
"""

from __future__ import annotations

import base64
import re

VARIABLES = {"PATH": "C:\\Windows;&", "WINDIR": "C:\\Windows"}


def arguments(line: str) -> list[str]:
    """The arguments that the only program of the line gets; its name comes first. AssertionError: there are more."""
    return split(command_line(line))


def command_line(line: str) -> str:
    """What cmd.exe passes on to the program. AssertionError when the line runs two, or reads or writes files."""
    expanded = re.sub(r"%(%|([^%]*)%|[0-9*])", lambda found: _expanded(found[1], found[2]), line)
    passed, quoting, escaped = "", False, False
    for character in expanded:
        if escaped:
            passed, escaped = passed + character, False
        elif character == "^" and not quoting:
            escaped = True
        else:
            assert quoting or character not in "&|<>()\n", f"{character} is cmd.exe's own"
            quoting ^= character == '"'
            passed += character
    return passed


def split(line: str) -> list[str]:
    """As parse_cmdline() of Microsoft's C runtime since 2008: "" within quotes is a quote."""
    found, at = [], 0
    while at < len(line):
        if line[at] in " \t":
            at += 1
            continue
        argument, quoting = "", False
        while at < len(line) and (quoting or line[at] not in " \t"):
            slashes = len(line) - at - len(line[at:].lstrip("\\"))
            at += slashes
            if at < len(line) and line[at] == '"':
                argument += "\\" * (slashes // 2)
                if slashes % 2:
                    argument += '"'
                elif quoting and line[at + 1 : at + 2] == '"':
                    argument += '"'
                    at += 1
                else:
                    quoting = not quoting
                at += 1
            else:
                argument += "\\" * slashes
                if at < len(line) and (quoting or line[at] not in " \t"):
                    argument += line[at]
                    at += 1
        found.append(argument)
    return found


def powershell_script(line: str) -> str:
    """The script that a line runs."""
    program, *options, encoded = arguments(line)
    assert (program, options[-1]) == ("powershell.exe", "-EncodedCommand")
    return base64.b64decode(encoded).decode("utf-16-le")


def powershell_texts(script: str) -> list[str]:
    """The texts that it carries."""
    return [
        base64.b64decode(found).decode("utf-16-le") for found in re.findall(r"FromBase64String\('([^']*)'\)", script)
    ]


def _expanded(found: str, name: str | None) -> str:
    return "%" if found == "%" else VARIABLES.get(name.upper(), "") if name is not None else ""
