# SPDX-License-Identifier: GPL-2.0-or-later
"""What the helper says while it works: one JSON event a line on the third serial port; no text forges an event.

The host reads it under limits and decides nothing from it but what to show.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from snf_image_shared import codec

RESULT_SUCCESS = "SUCCESS"
NOT_RENAMED = "The guest is not renamed"  # begins the warning of a rename that has left the guest alone
CALLED = "it is called"  # then the name that a guest has which is not the instance's, and a comma
STREAM_PORT = "snf-image.stream"  # the virtio port for an archive that goes into the VM, or comes out of it
MAX_LINE = 16384  # bytes, newline included
PIECE = 1000  # characters of a document that is sent in pieces, all of them ASCII
_MAX_TEXT = 2000  # characters; JSON's \uXXXX makes six bytes of one, and astral ones twelve


class EventKind(StrEnum):
    """The kinds of event; READY is the first byte the host waits for, FINDING a piece of what an INSPECT found."""

    READY = "ready"
    TASK_START = "task-start"
    TASK_END = "task-end"
    WARNING = "warning"
    ERROR = "error"
    STDERR = "stderr"
    FINDING = "finding"


class ReportError(ValueError):
    """A line on the report port is not an event."""


@dataclass(frozen=True)
class Event:
    """`text` is a task's name, a message, lines of standard error, a piece of a document, or the helper's version."""

    kind: EventKind
    text: str

    def encode(self) -> bytes:
        """One line of at most MAX_LINE bytes; a longer text is cut at its front, where the least news is."""
        text = self.text.encode("utf-8", "replace").decode("utf-8")
        room = _MAX_TEXT
        while True:
            kept = text if len(text) <= room else "…" + text[1 - room :]
            line = codec.dump(Event(self.kind, kept)) + b"\n"
            if len(line) <= MAX_LINE:
                return line
            room //= 2

    @classmethod
    def decode(cls, line: bytes) -> Event:
        """Read one line without its newline. Raises ReportError for anything encode() does not write."""
        if len(line) >= MAX_LINE:
            raise ReportError(f"a line of {len(line)} bytes")
        try:
            event = codec.load(cls, line)
        except codec.CodecError as error:
            raise ReportError(str(error)) from error
        # Two spellings of one event (a member twice, other blanks, half a surrogate pair) would be two readings of it.
        if event.encode() != line + b"\n":
            raise ReportError("not spelt as a helper spells events")
        return event
