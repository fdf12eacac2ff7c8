# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.downloads.http_heads import LARGEST_HEAD, BadHeadError, ContentRange, Head, split_head

pytestmark = pytest.mark.row(57)
NOW = datetime(2026, 11, 21, 16, 0, 0, tzinfo=UTC)


def head(*lines: bytes) -> Head:
    found = split_head(b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""]))
    assert found
    return found[0]


def test_the_head_ends_at_the_empty_line_and_the_rest_is_the_body() -> None:
    found = split_head(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\r\n\r\n")
    assert found
    assert (found[0].length, found[1]) == (5, b"hello\r\n\r\n")


@given(st.integers(0, 60))
def test_a_head_that_is_not_all_there_is_waited_for(length: int) -> None:
    whole = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nA: b\r\n\r\n"
    found = split_head(whole[:length])
    assert (found is None) == (length < len(whole))
    assert found is None or found[0].status == 404


def test_names_are_in_any_case_and_values_without_blanks_around_them() -> None:
    assert head(b'eTaG:\t "a b" \t').etag == '"a b"'
    assert head(b"LAST-MODIFIED: now").last_modified == "now"


def test_a_chunked_body_has_no_length_whatever_is_said_beside_it() -> None:
    found = head(b"Content-Length: 5", b"Transfer-Encoding: chunked")
    assert (found.is_chunked, found.length) == (True, None)


@pytest.mark.parametrize("text", [b"identity", b"gzip", b"gzip, chunked", b"chunked, identity", b"chunked;q=1", b""])
def test_a_body_whose_end_nothing_marks_is_refused_whatever_length_is_said_beside_it(text: bytes) -> None:
    with pytest.raises(BadHeadError, match="its end cannot be told"):
        head(b"Content-Length: 5", b"Transfer-Encoding: " + text)


@pytest.mark.parametrize("text", [b"-5", b"5,5", b"0x5", b"", b"5 5", b"1" * 20, "٥".encode()])
def test_a_length_that_is_no_number_is_refused(text: bytes) -> None:
    with pytest.raises(BadHeadError):
        assert head(b"Content-Length: " + text).length is None


@pytest.mark.parametrize(
    "line",
    [
        *(
            b" folded",
            b"\tfolded",
            b"no colon",
            b": no name",
            b"a b: c",
            b"a : c",
            b"A: b\rC: d",
            b"A: \0",
            b"A: \x1b[",
        ),
        *(b"\xff: a", "Location: http://ü/".encode()),
    ],
)
def test_a_line_that_is_none_of_http_is_refused(line: bytes) -> None:
    with pytest.raises(BadHeadError):
        head(b"A: b", line, b"C: d")


def test_what_nobody_asks_for_may_be_in_any_alphabet() -> None:
    assert head('Content-Disposition: filename="été.img"'.encode(), b"Content-Length: 5").length == 5


@pytest.mark.parametrize("name", [b"Content-Length", b"Content-Range", b"ETag", b"Location"])
def test_a_head_that_contradicts_itself_is_refused(name: bytes) -> None:
    head(name + b": 1", name.lower() + b": 1")
    with pytest.raises(BadHeadError):
        head(name + b": 1", name.lower() + b": 2")


@pytest.mark.parametrize(
    "first", [b"220 ready", b"HTTP/1.1 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 099 x", b"", b"http/1 200"]
)
def test_what_does_not_begin_as_an_answer_is_none(first: bytes) -> None:
    with pytest.raises(BadHeadError):
        split_head(first + b"\r\nA: b\r\n\r\n")


@pytest.mark.parametrize("received", [b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20000, b"x" * LARGEST_HEAD])
def test_a_head_without_an_end_is_given_up(received: bytes) -> None:
    with pytest.raises(BadHeadError, match="more than 65536 bytes"):
        split_head(received)


def test_a_large_head_with_an_end_and_many_before_the_last_are_given_up_too() -> None:
    for received in (b"HTTP/1.1 200 OK\r\nA: " + b"b" * LARGEST_HEAD, b"HTTP/1.1 102 P\r\n\r\n" * 4096):
        with pytest.raises(BadHeadError, match="more than 65536 bytes"):
            split_head(received + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"bytes 5-9/10", ContentRange(5, 9, 10)),
        (b"bytes 5-9/*", ContentRange(5, 9, None)),
        (b"bytes */10", ContentRange(None, None, 10)),
    ],
)
def test_of_a_part_its_place_is_told(text: bytes, found: ContentRange) -> None:
    assert head(b"Content-Range: " + text).content_range == found


@pytest.mark.parametrize("text", [b"", b"5-9/10", b"bytes 5-/10", b"bytes=5-9/10", b"bytes 5-9", b"lines 5-9/10"])
def test_a_place_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(BadHeadError):
        assert head(b"Content-Range: " + text).content_range


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *((b"120", 120.0), (b"Sat, 21 Nov 2026 16:01:00 GMT", 60.0), (b"Sat, 21 Nov 2020 16:01:00 GMT", 0.0)),
        *((b"soon", 0.0), (b"-5", 0.0), (b"Sat, 21 Nov 2026 16:01:00", 0.0), (b"", 0.0), (b"1e9", 0.0)),
    ],
)
def test_how_long_to_wait_is_told_in_seconds_or_as_a_date(text: bytes, seconds: float) -> None:
    assert head(b"Retry-After: " + text).retry_after(NOW) == seconds


@given(st.one_of(st.binary(), st.binary().map(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest + b"\r\n\r\n")))
def test_any_bytes_are_a_head_or_part_of_one_or_refused(received: bytes) -> None:
    try:
        found = split_head(received)
        if found:
            found[0].retry_after(NOW)
            assert found[0].length is None or found[0].length >= 0
            assert isinstance(found[0].content_range, ContentRange)
    except BadHeadError:
        pass
