# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.configuration.settings import Settings
from snf_image_host.downloads import patience
from snf_image_host.downloads.patience import Patience

MIB = 1 << 20


class Clock:
    """Seconds that go by only when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=lambda: self.now))

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_the_first_attempt_after_progress_is_made_at_once_and_the_others_later_and_later() -> None:
    settings = Settings(image_retries=20, image_stall_timeout=60)
    waiting = Patience(settings)
    pauses = [waiting.pause(0.0) for _ in range(12)]
    assert pauses[0] == 0.0
    for number, pause in enumerate(pauses[1:]):
        assert pause is not None
        assert min(60, 2**number) / 2 <= pause <= min(60, 2**number)


def test_after_so_many_failures_without_progress_it_is_given_up() -> None:
    waiting = Patience(Settings(image_retries=2))
    assert [waiting.pause(0.0) is None for _ in range(3)] == [False, False, True]
    waiting = Patience(Settings(image_retries=0))
    assert waiting.pause(0.0) is None


@given(st.lists(st.booleans(), max_size=60))
def test_progress_gives_all_attempts_back(events: list[bool]) -> None:
    waiting = Patience(Settings(image_retries=3))
    failures = 0
    for is_progress in events:
        failures = 0 if is_progress else failures + 1
        if is_progress:
            waiting.progressed(1)
        else:
            assert (waiting.pause(0.0) is None) == (failures > 3)
        assert waiting.failures == failures


def test_a_server_that_gives_a_byte_each_time_is_asked_more_and_more_seldom() -> None:
    waiting = Patience(Settings(image_retries=3, image_stall_timeout=60))
    pauses = []
    for _ in range(10):
        pauses.append(waiting.pause(0.0))
        waiting.progressed(1)
    assert pauses[0] == 0.0
    assert all(pause is not None and pause >= min(60, 2**number) / 2 for number, pause in enumerate(pauses[1:]))
    waiting.progressed(MIB)
    assert waiting.pause(0.0) == 0.0


def test_a_server_may_ask_for_a_longer_pause_but_not_for_any() -> None:
    waiting = Patience(Settings(image_stall_timeout=30))
    assert waiting.pause(20.0) == 20.0
    assert waiting.pause(1e9) == 300.0


def test_a_slow_server_has_the_time_that_the_size_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    waiting = Patience(Settings(image_stall_timeout=60, image_min_rate=1024))
    waiting.spend(lambda: clock.wait(700))
    assert waiting.lateness(100 * MIB) == ""
    waiting.spend(lambda: clock.wait(1))
    assert "not all of it came in 700 seconds, with 1024 KiB a second (IMAGE_MIN_RATE)" in waiting.lateness(100 * MIB)
    assert waiting.lateness(101 * MIB) == ""


def test_the_time_in_which_the_server_waits_for_us_is_not_its_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    waiting = Patience(Settings(image_stall_timeout=1))
    waiting.spend(lambda: clock.wait(5))
    clock.wait(1e6)
    assert waiting.spend(lambda: 7) == 7
    assert waiting.lateness(0) == ""
