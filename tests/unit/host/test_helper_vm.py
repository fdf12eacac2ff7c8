# SPDX-License-Identifier: GPL-2.0-or-later
"""The deadlines of a helper VM, in a time that passes only while everybody waits."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping

import pytest

from snf_image_host.vm.deadlines import wait_for_end
from snf_image_host.vm.stream_port import Stream
from snf_image_shared.errors import SnfImageError

NEVER = 10_000.0


class _Clock(selectors.SelectSelector):
    """Nobody waits for real: what select() would wait is added to the time."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = _Clock()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def waited(
    boots: float, ends: float, boot_deadline: float, soft_deadline: float, stream: Stream | None = None
) -> tuple[str, float]:
    """What a VM that boots and ends at these seconds is told, and after how many seconds."""

    async def run() -> tuple[str, float]:
        booted = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.call_later(boots, booted.set)
        ended = loop.create_task(asyncio.sleep(ends, 0))
        late = await wait_for_end(ended, booted, boot_deadline, soft_deadline, stream)
        now = loop.time()
        ended.cancel()
        return str(late or ""), round(now, 3)

    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(run())


@pytest.mark.parametrize(
    ("times", "cause", "seconds"),
    [
        ({"boots": 5, "ends": 50}, "", 50),
        ({"boots": NEVER, "ends": 1}, "", 1),
        ({"boots": NEVER, "ends": NEVER}, "HELPER_BOOT_TIMEOUT", 20),
        ({"boots": 19, "ends": NEVER}, "HELPER_SOFT_TIMEOUT", 100),
        ({"boots": NEVER, "ends": NEVER, "soft_deadline": 10}, "HELPER_SOFT_TIMEOUT", 10),
    ],
)
def test_the_soft_deadline_is_for_the_whole_run(times: Mapping[str, float], cause: str, seconds: float) -> None:
    told = {"boot_deadline": 20.0, "soft_deadline": 100.0, **times}
    said, after = waited(told["boots"], told["ends"], told["boot_deadline"], told["soft_deadline"])
    assert cause in said
    assert bool(said) == bool(cause)
    assert after == seconds


def test_the_time_for_which_the_other_end_of_a_stream_is_waited_for_does_not_count() -> None:
    said, after = waited(5, NEVER, 20, 100, Stream(_waited=50.0))
    assert "HELPER_SOFT_TIMEOUT" in said
    assert after == 150


def test_a_stream_that_cannot_be_passed_on_ends_the_wait() -> None:
    said, after = waited(5, NEVER, 20, 100, Stream(failures=[SnfImageError("nobody reads it")]))
    assert (said, after) == ("nobody reads it", 5)
