# SPDX-License-Identifier: GPL-2.0-or-later
"""All that is wrong with a request, collected in one pass: whoever typed it wants to correct it once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from snf_image_shared.errors import RequestError

T = TypeVar("T")
_SHOWN = 60  # characters of a value


class Faults:
    """Faults by the name of what has them: an OS parameter in lower case, or a variable of Ganeti's."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []

    def __contains__(self, name: object) -> bool:
        return any(name == faulty for faulty, _ in self._found)

    def add(self, parameter: str, text: str) -> None:
        """Note one fault of an OS parameter. `text` says what is wrong and what to do, in one line."""
        self._found.append((parameter, f"OS parameter {parameter}: {text}"))

    def parameter(self, name: str, read: Callable[[], T], otherwise: T) -> T:
        """What `read` gives for an OS parameter; the lines of a RequestError are noted, and it is `otherwise`."""
        try:
            return read()
        except RequestError as error:
            for line in error.lines:
                self.add(name, line.removeprefix(f"OS parameter {name}: "))
            return otherwise

    def variable(self, name: str, read: Callable[[], T], otherwise: T) -> T:
        """The same for variables of Ganeti's; the error names them itself."""
        try:
            return read()
        except RequestError as error:
            self._found += [(name, line) for line in error.lines]
            return otherwise

    def check(self) -> None:
        """Raise RequestError with every fault, one line each; the last line sums up if there are several."""
        lines = [line for _, line in self._found]
        if len(lines) > 1:
            lines.append(self._summary())
        if lines:
            raise RequestError(*lines)

    def _summary(self) -> str:
        names = list(dict.fromkeys(name for name, _ in self._found))
        if not all(name.islower() for name in names):
            return f"{len(self._found)} faults in {', '.join(names)}"
        if len(names) == 1:
            return f"OS parameter {names[0]} is wrong in {len(self._found)} places"
        return f"{len(names)} OS parameters are wrong: {', '.join(names)}"


def shown(value: str) -> str:
    """A value that is no secret, as an error message shows it: quoted, printable, cut."""
    return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}..."
