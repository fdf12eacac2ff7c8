# SPDX-License-Identifier: GPL-2.0-or-later
"""What an inspection could not find, and why: a hostile or damaged image is still worth a report of the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from snf_image_helper.reporter import Reporter
from snf_image_shared.errors import SnfImageError
from snf_image_shared.findings import shortened
from snf_image_shared.report import Event, EventKind

_MOST = 40
_LONGEST = 400  # characters: some of our messages are longer than a guest's texts may be


class Problems:
    """Texts in the order in which they came up, each once. `report` takes the warnings of whatever is called."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}
        self.report = Reporter(self._hear)

    @property
    def texts(self) -> tuple[str, ...]:
        """All of them, but for those of an image that has more than anybody reads."""
        found = tuple(self._texts)
        return found if len(found) <= _MOST else (*found[:_MOST], f"and {len(found) - _MOST} more")

    def add(self, text: str) -> None:
        """Note one; it may quote the guest."""
        self._texts[printable(text)[:_LONGEST]] = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Turn the failure of the block into a problem."""
        try:
            yield
        except SnfImageError as error:
            self.add(str(error))
        except OSError as error:
            self.add(f"{error.filename or 'the disk'}: {error.strerror}; check the image")

    def _hear(self, line: bytes) -> None:
        event = Event.decode(line.removesuffix(b"\n"))
        if event.kind is EventKind.WARNING:
            self.add(event.text)


def printable(text: str) -> str:
    """The guest's text on one line, without what a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in text)


def fact(text: str) -> str:
    """The guest's text as a finding."""
    return shortened(printable(text))
