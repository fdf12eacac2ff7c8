# SPDX-License-Identifier: GPL-2.0-or-later
"""The report codec: no text forges an event, no line is too long, no bytes are worse than a ReportError."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from snf_image_shared.report import MAX_LINE, Event, EventKind, ReportError

KINDS = st.sampled_from(EventKind)
HOSTILE = st.text(st.characters() | st.sampled_from('\n\r\0\x1b\x85\u2028\ud800\U0001f600"\\'), max_size=300)
EVENTS = st.builds(Event, KINDS, HOSTILE)


@given(EVENTS)
def test_an_event_is_one_line_whatever_its_text(event: Event) -> None:
    line = event.encode()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert line.isascii()
    assert line[:-1].decode().isprintable()


@given(EVENTS)
def test_a_short_event_arrives_as_it_was_said_but_for_half_characters(event: Event) -> None:
    arrived = Event.decode(event.encode()[:-1])
    assert arrived == Event(event.kind, event.text.encode("utf-8", "replace").decode())


@given(
    KINDS, st.text(st.characters() | st.sampled_from('\0\x1b\U0001f600\ud800"'), min_size=1), st.integers(1, 200_000)
)
@example(EventKind.ERROR, "\U0001f600", 100_000)
@example(EventKind.ERROR, "\x1b", 2_001)
@example(EventKind.STDERR, '"', 16_384)
def test_a_long_text_keeps_its_end_and_fits_into_a_line(kind: EventKind, text: str, times: int) -> None:
    event = Event(kind, (text * times)[:200_000] + "the end")
    line = event.encode()
    assert len(line) <= MAX_LINE
    arrived = Event.decode(line[:-1])
    assert arrived.kind is kind
    assert arrived.text.endswith("the end")
    assert arrived.text.startswith("…") or len(arrived.text) == len(event.text)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_event_or_a_report_error(line: bytes) -> None:
    try:
        event = Event.decode(line)
    except ReportError:
        return
    assert event.encode() == line + b"\n"


def test_a_line_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(ReportError, match=f"a line of {MAX_LINE} bytes"):
        Event.decode(b"[" * MAX_LINE)


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"SUCCESS", b"TASK_START:AddSwap", b"null", b"[]", b'"ready"', b"{}", b"\xff\xfe", b"[" * 10_000),
        b'{"kind":"ready"}',
        b'{"kind":"ready","text":1}',
        b'{"kind":"ready","text":null}',
        b'{"kind":["ready"],"text":""}',
        b'{"kind":"done","text":""}',
        b'{"kind":"ready","text":"","more":1}',
        b'{"kind":"ready","kind":"error","text":""}',
        b'{"kind": "ready", "text": ""}',
        b'{"text":"","kind":"ready"}',
        b'{"kind":"error","text":"\\ud800"}',
        b'{"kind":"error","text":"\xc3\xa9"}',
        b'{"kind":"ready","text":""}{"kind":"ready","text":""}',
        '{"kind":"ready","text":""}'.encode("utf-16"),
        json.dumps({"kind": "error", "text": "x" * 5000}, separators=(",", ":")).encode(),
    ],
    ids=repr,
)
def test_what_no_helper_writes_is_no_event(line: bytes) -> None:
    with pytest.raises(ReportError):
        Event.decode(line)
