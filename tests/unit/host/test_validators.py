# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a part belongs to the version that was begun with. What servers do with it: tests/hostile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.downloads.http_heads import BadHeadError, Head
from snf_image_host.downloads.validators import ChangedError, Validators

pytestmark = pytest.mark.row(58)
DATE = "Sat, 21 Nov 2026 16:00:00 GMT"


def test_a_strong_etag_proves_a_version_and_a_weak_one_does_not() -> None:
    assert Validators('"a"', DATE).proof == '"a"'
    assert Validators('W/"a"', DATE).proof == DATE
    assert Validators('W/"a"').proof == ""


def test_what_is_left_is_asked_for_on_condition_that_nothing_has_changed() -> None:
    assert Validators('"a"', DATE).rest(7) == ["Range: bytes=7-", 'If-Range: "a"']
    assert Validators("", DATE).rest(7) == ["Range: bytes=7-", f"If-Range: {DATE}"]
    assert Validators().rest(7) == ["Range: bytes=7-"]


def test_whether_it_has_changed_is_asked_by_what_the_server_said() -> None:
    assert Validators('W/"a"', DATE).when_changed() == ['If-None-Match: W/"a"']
    assert Validators("", DATE).when_changed() == [f"If-Modified-Since: {DATE}"]
    assert (Validators().when_changed(), Validators().can_be_asked) == ([], False)


@pytest.mark.parametrize(
    ("head", "is_told"),
    [
        (Head(304, {}), True),
        (Head(200, {"etag": '"a"', "content-length": "9"}), True),
        (Head(200, {"etag": '"a"', "content-length": "8"}), False),
        (Head(200, {"etag": '"b"', "content-length": "9"}), False),
        (Head(200, {"content-length": "9"}), False),
        (Head(206, {"etag": '"a"', "content-length": "9"}), False),
        (Head(404, {"etag": '"a"', "content-length": "9"}), False),
    ],
)
def test_it_is_unchanged_if_the_server_says_so_or_gives_the_same_again(head: Head, is_told: bool) -> None:
    assert Validators('"a"', "", 9).is_told_by(head) is is_told


def test_two_answers_that_prove_nothing_are_not_the_same() -> None:
    assert not Validators('W/"a"', "", 9).is_told_by(Head(200, {"etag": 'W/"a"', "content-length": "9"}))


@given(
    first=st.sampled_from([7, 0, 6, 8]),
    total=st.sampled_from([20, None, 19, 21]),
    etag=st.sampled_from(['"a"', '"b"', ""]),
    status=st.sampled_from([206, 200, 416]),
    is_checked=st.booleans(),
)
def test_a_part_is_accepted_only_if_it_is_the_one_of_the_version(
    first: int, total: int | None, etag: str, status: int, is_checked: bool
) -> None:
    where = f"bytes {first}-19/{'*' if total is None else total}"
    head = Head(status, {"content-range": where, **({"etag": etag} if etag else {})})
    try:
        Validators('"a"', "", 20).check_rest(head, 7, is_checked=is_checked)
    except (ChangedError, BadHeadError):
        assert (status, first, total, etag) != (206, 7, 20, '"a"')
    else:
        assert (status, first, total, etag) == (206, 7, 20, '"a"')


def test_where_nothing_is_proved_a_checksum_of_the_whole_is_needed() -> None:
    head = Head(206, {"content-range": "bytes 7-19/20"})
    assert Validators(size=20).check_rest(head, 7, is_checked=True) == 20
    with pytest.raises(ChangedError, match="tells no version"):
        Validators(size=20).check_rest(head, 7, is_checked=False)


@pytest.mark.parametrize(("etag", "is_same"), [('W/"a"', True), ("", True), ('W/"b"', False)])
def test_a_weak_etag_proves_nothing_but_another_one_is_another_version(etag: str, is_same: bool) -> None:
    """Of two files of one second, for instance."""
    begun = Validators('W/"a"', DATE, 20)
    fields = {"etag": etag, "last-modified": DATE}
    assert begun.is_told_by(Head(200, {**fields, "content-length": "20"})) is is_same
    part = Head(206, {**fields, "content-range": "bytes 7-19/20"})
    if is_same:
        assert begun.check_rest(part, 7, is_checked=False) == 20
    else:
        with pytest.raises(ChangedError, match="another version"):
            begun.check_rest(part, 7, is_checked=False)
