# SPDX-License-Identifier: GPL-2.0-or-later
"""What a hostile VM can say on its ports: it is cut, counted and never believed further than it may be."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.vm.serial_ports import (
    CONSOLE_LIMIT,
    CONSOLE_LINE,
    EVENT_LIMIT,
    REPORT_LIMIT,
    RESULT_LIMIT,
    Console,
    Report,
    Result,
    drain,
)
from snf_image_shared.findings import LARGEST
from snf_image_shared.report import MAX_LINE, Event, EventKind

NOISE = st.lists(
    st.binary(max_size=50)
    | st.sampled_from((b"\n", b"\r\n", b"\r", b"\0", b"\x1b[2J", b"\xff", b"x" * CONSOLE_LINE, b"y" * (MAX_LINE + 1)))
    | st.builds(lambda kind, text: Event(kind, text).encode(), st.sampled_from(EventKind), st.text(max_size=20)),
    max_size=12,
).map(b"".join)
CUTS = st.lists(st.integers(0, 4000), max_size=20)


def chunks(content: bytes, cuts: list[int]) -> list[bytes]:
    """`content` cut at these places, modulo its length; never an empty piece, which would be the end."""
    places = sorted({cut % len(content) for cut in cuts} - {0}) if content else []
    pieces = [content[start:end] for start, end in zip([0, *places], [*places, len(content)], strict=True)]
    return [piece for piece in pieces if piece]


def shown_on_console(pieces: list[bytes]) -> list[str]:
    shown: list[str] = []
    console = Console(shown.append)
    for piece in [*pieces, b""]:
        console.feed(piece)
    return shown


def reported(pieces: list[bytes]) -> tuple[Report, list[Event]]:
    shown: list[Event] = []
    report = Report(shown.append)
    for piece in [*pieces, b""]:
        report.feed(piece)
    return report, shown


def result(*pieces: bytes) -> Result:
    found = Result()
    for piece in [*pieces, b""]:
        found.feed(piece)
    return found


@given(NOISE, CUTS)
def test_the_console_is_the_same_however_it_arrives(content: bytes, cuts: list[int]) -> None:
    assert shown_on_console(chunks(content, cuts)) == shown_on_console([content] if content else [])


@given(NOISE)
def test_the_console_loses_no_line_and_no_text(content: bytes) -> None:
    shown = shown_on_console([content] if content else [])
    assert all(0 < len(line) <= CONSOLE_LINE for line in shown)
    expected = content.replace(b"\r", b"").replace(b"\n", b"")
    if expected.isascii():
        assert "".join(shown).replace("\r", "") == expected.decode()


@pytest.mark.row(88)
@pytest.mark.parametrize("size", [1, 999, 65536, CONSOLE_LIMIT * 40])
@pytest.mark.parametrize("noise", [b"x", b"x\n", b"\n", b"\0\xff"])
def test_ten_megabytes_of_console_are_cut_and_one_line_says_so(size: int, noise: bytes) -> None:
    content = noise * (CONSOLE_LIMIT * 40 // len(noise))
    shown = shown_on_console(
        [content[start : start + size] for start in range(0, len(content), size)] if size > 1 else [content]
    )
    assert sum(map(len, shown)) <= CONSOLE_LIMIT + 200
    assert [line for line in shown if "is not logged" in line] == shown[-1:]


def test_a_console_of_exactly_the_limit_is_whole() -> None:
    content = (b"x" * 63 + b"\n") * (CONSOLE_LIMIT // 64)
    assert shown_on_console([content]) == ["x" * 63] * (CONSOLE_LIMIT // 64)
    assert "is not logged" in shown_on_console([content, b"x"])[-1]


@given(NOISE, CUTS)
def test_the_report_is_the_same_however_it_arrives(content: bytes, cuts: list[int]) -> None:
    whole, pieces = reported([content] if content else []), reported(chunks(content, cuts))
    assert whole[1] == pieces[1]
    assert bool(whole[0].problem) == bool(pieces[0].problem)
    assert (whole[0].errors, whole[0].version, whole[0].unfinished) == (
        pieces[0].errors,
        pieces[0].version,
        pieces[0].unfinished,
    )


@pytest.mark.row(82)
@given(
    st.lists(st.builds(Event, st.sampled_from(EventKind), st.text(max_size=20)), max_size=20),
    st.sampled_from((b"\n", b"\r\n")),
)
def test_what_a_helper_says_is_shown_in_order(events: list[Event], line_end: bytes) -> None:
    content = b"".join(event.encode().replace(b"\n", line_end) for event in events)
    report, shown = reported([content] if content else [])
    assert report.problem is None
    assert shown == [event for event in events if event.kind not in {EventKind.READY, EventKind.FINDING}]
    assert report.errors == [event.text for event in events if event.kind is EventKind.ERROR]
    sent = [Event.decode(event.encode()[:-1]) for event in events]
    assert report.findings == "".join(event.text for event in sent if event.kind is EventKind.FINDING)


def test_findings_without_end_are_not_kept() -> None:
    piece = Event(EventKind.FINDING, "x" * 1000).encode()
    report, shown = reported([piece * 400])
    assert report.problem == "it finds more than any disk holds"
    assert len(report.findings) <= LARGEST + 1000
    assert shown == []


GOOD = Event(EventKind.WARNING, "x").encode()


@pytest.mark.parametrize(
    "line", [b"\n", b"SUCCESS\n", b"{}\n", GOOD.replace(b":", b": "), b"\0" + GOOD, b"x" * (MAX_LINE + 1)]
)
def test_after_a_line_that_is_no_event_nothing_more_is_believed(line: bytes) -> None:
    report, shown = reported([GOOD, line, GOOD, GOOD])
    assert report.problem
    assert shown == [Event(EventKind.WARNING, "x")]


def test_a_report_that_breaks_off_is_told() -> None:
    report, shown = reported([GOOD, GOOD[:-1]])
    assert report.problem == "it stopped in the middle of a line"
    assert len(shown) == 1


@pytest.mark.row(88)
@pytest.mark.parametrize("size", [len(GOOD), 1000, 65536, 10**8])
def test_too_many_events_are_too_many_however_they_arrive(size: int) -> None:
    content = GOOD * (EVENT_LIMIT + 1000)
    report, shown = reported([content[start : start + size] for start in range(0, len(content), size)])
    assert report.problem == "it reports more than any job needs"
    assert len(shown) == min(EVENT_LIMIT, REPORT_LIMIT // len(GOOD))


def test_too_many_bytes_are_too_many_however_they_arrive() -> None:
    line = Event(EventKind.STDERR, "\x1b" * 2000).encode()
    content = line * (REPORT_LIMIT // len(line) + 100)
    for size in (len(line), 4096, 10**8):
        report, shown = reported([content[start : start + size] for start in range(0, len(content), size)])
        assert report.problem == "it reports more than any job needs"
        assert len(shown) == REPORT_LIMIT // len(line)


def test_a_line_without_an_end_is_given_up_at_the_limit() -> None:
    report = Report(lambda event: None)
    for _ in range(10_000):
        report.feed(b"x" * 1000)
    assert report.problem
    assert len(report._rest) <= MAX_LINE + 1000


def test_the_first_byte_is_the_sign_of_life() -> None:
    report = Report(lambda event: None)
    assert not report.booted.is_set()
    report.feed(b"{")
    assert report.booted.is_set()


def test_a_task_is_unfinished_until_its_end_is_said() -> None:
    def event(kind: EventKind, name: str) -> bytes:
        return Event(kind, name).encode()

    start, end = EventKind.TASK_START, EventKind.TASK_END
    report, _ = reported([event(start, "A"), event(start, "B"), event(end, "A"), event(end, "C")])
    assert report.unfinished == ("B",)


def test_the_version_is_what_ready_says_and_is_not_shown() -> None:
    report, shown = reported([Event(EventKind.READY, "1.0").encode()])
    assert (report.version, shown) == ("1.0", [])
    assert reported([])[0].version is None


@pytest.mark.row(86)
@pytest.mark.parametrize("content", [b"SUCCESS\n", b"SUCCESS\r\n"])
def test_success_is_one_line(content: bytes) -> None:
    assert result(content).is_success
    assert result(*(content[place : place + 1] for place in range(len(content)))).is_success


@pytest.mark.row(86)
@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\n", b"SUCCESS", b"success\n", b" SUCCESS\n", b"SUCCESS \n", b"SUCCESS\nSUCCESS\n", b"SUCCESS\n\n"),
        *(
            b"ERROR: x\nSUCCESS\n",
            b"SUCCESS\nERROR: x\n",
            b"SUCCESSFUL\n",
            b"\nSUCCESS\n",
            b"SUCCESS\0\n",
            b"\xef\xbb\xbfSUCCESS\n",
        ),
        *(b"SU\rCCESS\n", b"SUCCESS\r\r\n", b"SUCCESS\r", b"SUCCESS\n" + b"x" * 10**6, b"x" * 10**6 + b"SUCCESS\n"),
        b"\n" * RESULT_LIMIT + b"SUCCESS\n",
    ],
    ids=lambda content: repr(content)[:40],
)
def test_anything_else_is_no_success(content: bytes) -> None:
    assert not result(content).is_success
    assert not result(*(content[start : start + 7] for start in range(0, len(content), 7))).is_success


@given(st.binary(max_size=50).filter(lambda content: content not in {b"SUCCESS\n", b"SUCCESS\r\n"}), CUTS)
def test_no_other_bytes_are_a_success(content: bytes, cuts: list[int]) -> None:
    assert not result(*chunks(content, cuts)).is_success


def test_a_flood_of_results_is_kept_to_its_limit_and_told_in_short() -> None:
    found = result(*[b"x" * 65536] * 100)
    assert len(found._content) <= RESULT_LIMIT + 1
    assert len(found.first_line) <= CONSOLE_LINE
    assert result(b"ERROR: disk full\r\nmore\n").first_line == "ERROR: disk full"
    assert result().first_line == ""


def test_a_port_is_read_to_its_end_and_the_end_is_told() -> None:
    async def read() -> list[bytes]:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        theirs.sendall(b"one\ntwo")
        theirs.close()
        pieces: list[bytes] = []
        await drain(reader, pieces.append)
        writer.close()
        return pieces

    pieces = asyncio.run(read())
    assert b"".join(pieces) == b"one\ntwo"
    assert pieces[-1] == b""
