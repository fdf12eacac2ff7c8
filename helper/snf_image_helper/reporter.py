# SPDX-License-Identifier: GPL-2.0-or-later
"""The helper's mouth: events for the host. Tasks warn through it; nothing else of them leaves the VM."""

from __future__ import annotations

from collections.abc import Callable

from snf_image_shared.report import PIECE, Event, EventKind


class Reporter:
    """Writes events, one line each, to whatever `write` leads to (the third serial port, or a list in a test)."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._running: list[str] = []

    def ready(self, version: str) -> None:
        """The VM has booted: the host's boot deadline ends here."""
        self._send(EventKind.READY, version)

    def task_start(self, name: str) -> None:
        """A task begins."""
        self._running.append(name)
        self._send(EventKind.TASK_START, name)

    def task_end(self, name: str) -> None:
        """A task has ended without failing."""
        self._running = [other for other in self._running if other != name]
        self._send(EventKind.TASK_END, name)

    def end_tasks(self) -> None:
        """End what has begun, the last first: its failure is none of the run."""
        for name in reversed(self._running):
            self.task_end(name)

    def warning(self, text: str) -> None:
        """Something the operator should know; the deployment goes on."""
        self._send(EventKind.WARNING, text)

    def error(self, text: str) -> None:
        """Why the deployment fails."""
        self._send(EventKind.ERROR, text)

    def stderr(self, text: str) -> None:
        """The last lines of a failed program."""
        self._send(EventKind.STDERR, text)

    def findings(self, document: bytes) -> None:
        """What an inspection has found: JSON in ASCII, of at most findings.LARGEST bytes."""
        text = document.decode("ascii")
        for start in range(0, len(text), PIECE):
            self._send(EventKind.FINDING, text[start : start + PIECE])

    def _send(self, kind: EventKind, text: str) -> None:
        self._write(Event(kind, text).encode())
