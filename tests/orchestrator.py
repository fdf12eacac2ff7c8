# SPDX-License-Identifier: GPL-2.0-or-later
"""An orchestrator's side of PROGRESS_MONITOR, written from the descriptions of Synnefo's monitor and of Cyclades.

As a program, `orchestrator.py RECORD [OPTION...] INSTANCE`, it is what snf-progress-monitor is: it reads concatenated
JSON from standard input and passes it on, here into the file RECORD. Cyclades then makes a build's state of it.
"""

from __future__ import annotations

import codecs
import io
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_READ = 512  # bytes
_TYPES = frozenset({"image-copy-progress", "image-error", "image-info", "image-warning", "image-helper"})
_LEVELS = {"image-error": "ERROR", "image-warning": "WARNING", "error": "ERROR", "warning": "WARNING"}


class RefusedError(Exception):
    """Cyclades would not take the message."""


def messages(stream: io.RawIOBase | io.BytesIO) -> Iterator[dict[str, object]]:
    """Each JSON object of the stream as soon as it is whole, wherever the reads happen to end."""
    decoder, text = json.JSONDecoder(), ""
    bytes_to_text = codecs.getincrementaldecoder("utf-8")()
    while piece := stream.read(_READ):
        text = (text + bytes_to_text.decode(piece)).lstrip()
        while text:
            try:
                message, end = decoder.raw_decode(text)
            except ValueError:
                break  # the rest of it is still to come
            yield message
            text = text[end:].lstrip()
    if text:
        raise RefusedError(f"the stream ends in the middle of {text[:60]!r}")


@dataclass(frozen=True)
class Diagnostic:
    """A line of the history that Cyclades shows of a server."""

    source: str
    level: str
    message: str
    details: str | None
    time: float


@dataclass
class Build:
    """What Cyclades knows of a server that is being built."""

    percentage: float = 0.0
    diagnostics: list[Diagnostic] = field(default_factory=list)

    @classmethod
    def of(cls, events: Iterable[Mapping[str, object]]) -> Build:
        """Raises RefusedError for the first message that is not as it has to be."""
        build = cls()
        for event in events:
            build.take(event)
        return build

    def take(self, event: Mapping[str, object]) -> None:
        """Take one message in."""
        kind, stamp = event.get("type"), event.get("timestamp")
        if kind not in _TYPES:
            raise RefusedError(f"type {kind!r}")
        if not isinstance(stamp, float):
            raise RefusedError(f"timestamp {stamp!r}")
        if kind == "image-copy-progress":
            self._progress(event.get("progress"))
            return
        texts = event.get("messages", [])
        if not (isinstance(texts, list) and all(isinstance(text, str) for text in texts)):
            raise RefusedError(f"messages {texts!r}")
        details = event.get("stderr")
        if not isinstance(details, str | None):
            raise RefusedError(f"stderr {details!r}")
        subtype = str(event.get("subtype", ""))
        source = f"{kind}-{subtype}" if subtype.startswith("task-") else str(kind)
        message = "\n".join(texts) or str(event.get("task", ""))
        if not (message or details):
            raise RefusedError(f"nothing is said in {event!r}")
        level = _LEVELS.get(subtype or str(kind), "DEBUG")
        self.diagnostics.append(Diagnostic(source, level, message, details, stamp))

    def _progress(self, value: object) -> None:
        if not isinstance(value, float) or value < 0:
            raise RefusedError(f"progress {value!r}")
        self.percentage = min(value, 100.0)

    def texts(self, source: str) -> list[str]:
        """What was said by one source, in order."""
        return [each.message for each in self.diagnostics if each.source == source]


def recorded(record: Path) -> list[dict[str, object]]:
    """What the program wrote: all messages with `event_time`, `instance` and the program's own `arguments`."""
    return [json.loads(line) for line in record.read_text().splitlines()]


def main() -> None:
    """The program."""
    record, *options, instance = sys.argv[1:]
    # Unbuffered: a read takes what is there.
    with open(0, "rb", buffering=0) as stream, Path(record).open("a", buffering=1) as file:
        for message in messages(stream):
            event = {**message, "event_time": time.time(), "instance": instance, "arguments": options}
            sys.stderr.write(f"[MONITOR] {json.dumps(message)}\n")
            file.write(json.dumps(event) + "\n")


if __name__ == "__main__":
    main()
