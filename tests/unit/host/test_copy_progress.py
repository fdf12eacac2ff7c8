# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.copying.figures import COPY_INTERVAL, Bar, CopyClock, CopyState

BYTES = st.integers(0, 1 << 50)


@pytest.mark.row(69)
@given(read=BYTES, total=st.none() | BYTES, written=BYTES, seconds=st.floats(0, 1e6), is_last=st.booleans())
def test_no_figure_is_out_of_its_range(
    read: int, total: int | None, written: int, seconds: float, is_last: bool
) -> None:
    clock = CopyClock()
    clock.at(0, total, 0, 0.0)
    state = clock.at(read, read if is_last else total, written, seconds)
    message = state.message(is_last=is_last)
    assert isinstance(message["progress"], float)
    assert 0 <= message["progress"] <= (100 if is_last else 99.99)
    if is_last:
        assert message["progress"] == (100 if read else 0)
        assert message["left"] == 0.0
    assert Bar().drawn(state, seconds, is_last=is_last).isprintable()


def test_the_time_left_is_that_of_the_image_not_of_the_disk() -> None:
    state = CopyState(read=100, total=400, written=1000, seconds=10.0)
    assert state.message(is_last=False) == {
        "position": 100,
        "total": 400,
        "progress": 25.0,
        "written": 1000,
        "rate": 100,
        "left": 30.0,
    }


def test_of_an_image_of_unknown_length_nobody_says_when_it_ends() -> None:
    message = CopyState(read=100, total=None, written=1000, seconds=10.0).message(is_last=False)
    assert (message["total"], message["progress"], message["left"]) == (0, 0.0, None)


def test_at_the_end_all_of_the_image_is_read_as_it_was_stored() -> None:
    known, unknown, untold = CopyClock(), CopyClock(), CopyClock()
    known.at(90, 100, 1000, 0.0)
    unknown.at(90, None, 1000, 0.0)
    assert [clock.all_read(1000) for clock in (known, unknown, untold)] == [100, 90, 1000]


def test_a_message_is_due_every_few_seconds_and_once_at_the_end() -> None:
    clock = CopyClock()
    clock.at(0, 10, 0, 100.0)
    assert not clock.is_due(100.0 + COPY_INTERVAL / 2, is_last=False)
    assert clock.is_due(100.0 + COPY_INTERVAL, is_last=False)
    assert not clock.is_due(100.0 + COPY_INTERVAL, is_last=False)
    assert clock.is_due(100.0 + COPY_INTERVAL, is_last=True)
    assert not clock.is_due(200.0, is_last=True)


def test_the_bar_tells_share_rate_and_time() -> None:
    half = CopyState(read=1 << 30, total=2 << 30, written=3 << 30, seconds=3.0)
    assert Bar().drawn(half, 3.0, is_last=False) == (
        "  copy [###############...............]  50% of 2.0 GiB, 3.0 GiB written, 1.0 GiB/s, 3 s left"
    )
    unknown = CopyState(read=1 << 20, total=None, written=2 << 20, seconds=2.0)
    assert Bar().drawn(unknown, 2.0, is_last=False) == "  copy 1 MiB read, 2 MiB written, 1 MiB/s"
    end = CopyState(read=1 << 20, total=1 << 20, written=1 << 20, seconds=2.0)
    assert Bar().drawn(end, 2.0, is_last=True).endswith("100% of 1 MiB, 512 KiB/s, 2.0 s")
