# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's ends of the helper VM's serial ports: console -> log, result, report -> events, all of it under limits.

Whatever the VM sends is a tenant's word. A port that says too much is read on and forgotten, so that QEMU never blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from snf_image_shared import findings
from snf_image_shared.report import MAX_LINE, RESULT_SUCCESS, Event, EventKind, ReportError

CONSOLE_LIMIT = 256 << 10  # bytes of console that reach the log
CONSOLE_LINE = 1000  # characters of one line
REPORT_LIMIT = 1 << 20  # bytes
EVENT_LIMIT = 10_000
RESULT_LIMIT = 4096  # bytes
_CHUNK = 64 << 10


@dataclass
class Console:
    """ttyS0: each line goes to `show` until more than CONSOLE_LIMIT bytes have come, then one line says so.

    A longer line than CONSOLE_LINE bytes is shown in pieces.
    """

    show: Callable[[str], None]
    _rest: bytearray = field(default_factory=bytearray)
    _budget: int = CONSOLE_LIMIT

    def feed(self, chunk: bytes) -> None:
        """Take what was read; b"" is the end."""
        if self._budget < 0:
            return
        self._rest += chunk[: self._budget]
        self._budget -= len(chunk)
        *lines, rest = bytes(self._rest).split(b"\n")
        for line in lines:
            self._show_line(line)
        kept = (len(rest) - 1) % CONSOLE_LINE + 1 if rest else 0
        self._show_line(rest[: len(rest) - kept])
        self._rest = bytearray(rest[len(rest) - kept :])
        if not chunk or self._budget < 0:
            self._show_line(bytes(self._rest))
            self._rest.clear()
        if self._budget < 0:
            self.show(f"(the helper's console said more than {CONSOLE_LIMIT} bytes; the rest is not logged)")

    def _show_line(self, line: bytes) -> None:
        for start in range(0, len(line), CONSOLE_LINE):
            text = line[start : start + CONSOLE_LINE].decode("utf-8", "replace").rstrip("\r")
            if text:
                self.show(text)


@dataclass
class Result:
    """ttyS1: success is the one line SUCCESS (a terminal may end it with CR LF) and nothing else, before or after."""

    _content: bytearray = field(default_factory=bytearray)

    def feed(self, chunk: bytes) -> None:
        """Take what was read."""
        self._content += chunk[: RESULT_LIMIT + 1 - len(self._content)]

    @property
    def is_success(self) -> bool:
        """Whether the helper said SUCCESS, once."""
        return bytes(self._content) in {f"{RESULT_SUCCESS}{end}".encode() for end in ("\n", "\r\n")}

    @property
    def first_line(self) -> str:
        """What the helper said, for a person; "" when it said nothing."""
        lines = bytes(self._content).decode("utf-8", "replace").splitlines()
        return lines[0].strip()[:CONSOLE_LINE] if lines else ""


@dataclass
class Report:
    """ttyS2: events go to `show` as they come, but for findings, which are put together.

    `errors` are the texts of the helper's own error events.
    """

    show: Callable[[Event], None]
    booted: asyncio.Event = field(default_factory=asyncio.Event)
    errors: list[str] = field(default_factory=list)
    findings: str = ""
    problem: str | None = None
    _rest: bytearray = field(default_factory=bytearray)
    _bytes: int = 0
    _events: int = 0
    _running: list[str] = field(default_factory=list)

    @property
    def version(self) -> str | None:
        """What the helper says it is; None before its first word."""
        return self._version

    _version: str | None = None

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Tasks that were started and have not ended."""
        return tuple(self._running)

    def feed(self, chunk: bytes) -> None:
        """Take what was read; b"" is the end. After the first malformed line nothing more is believed."""
        if self.problem:
            return
        if not chunk:
            self.problem = "it stopped in the middle of a line" if self._rest else None
            return
        self.booted.set()
        self._rest += chunk
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        for line in lines:
            self._take(line)
        if len(self._rest) > MAX_LINE:
            self.problem = self.problem or f"it sent a line of more than {MAX_LINE} bytes"

    def _take(self, line: bytes) -> None:
        if self.problem:
            return
        self._events += 1
        self._bytes += len(line) + 1
        if self._bytes > REPORT_LIMIT or self._events > EVENT_LIMIT:
            self.problem = "it reports more than any job needs"
            return
        try:
            event = Event.decode(line.removesuffix(b"\r"))
        except ReportError as error:
            self.problem = f"it sent a line that is no event: {error}"
            return
        match event.kind:
            case EventKind.READY:
                self._version = event.text
            case EventKind.TASK_START:
                self._running.append(event.text)
            case EventKind.TASK_END:
                if event.text in self._running:
                    self._running.remove(event.text)
            case EventKind.ERROR:
                self.errors.append(event.text)
            case EventKind.FINDING:
                self.findings += event.text
                if len(self.findings) > findings.LARGEST:
                    self.problem = "it finds more than any disk holds"
            case _:
                pass
        if event.kind not in {EventKind.READY, EventKind.FINDING}:
            self.show(event)


async def drain(reader: asyncio.StreamReader, feed: Callable[[bytes], None]) -> None:
    """Read a port to its end. A connection torn down by QEMU's death is an end like any other."""
    try:
        while chunk := await reader.read(_CHUNK):
            feed(chunk)
    except ConnectionError:
        pass
    feed(b"")
