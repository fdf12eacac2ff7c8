# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a helper VM may take: to its first word, and to its end."""

from __future__ import annotations

import asyncio

from snf_image_host.configuration.setting_types import Accelerator
from snf_image_host.vm.stream_port import Stream
from snf_image_shared.errors import HelperError, SnfImageError

FAILED = "Image customization failed."
LATE = f"{FAILED} Did not finish on time."
BOOT_DEADLINE = {Accelerator.KVM: 20.0, Accelerator.TCG: 120.0}  # seconds to the first byte on the report port
SOFT_DEADLINE = {Accelerator.KVM: 120.0, Accelerator.TCG: 900.0}  # seconds for the whole run
SLOWEST = 1 << 20  # bytes a second that a helper VM unpacks, dumps or restores at least, also one that is emulated
_TICK = 0.5  # seconds between two looks at a stream


class NeverBootedError(HelperError):
    """The VM said nothing before the boot deadline: the accelerator may be to blame."""


async def wait_for_end(
    ended: asyncio.Task[int],
    booted: asyncio.Event,
    boot_deadline: float,
    soft_deadline: float,
    stream: Stream | None = None,
) -> SnfImageError | None:
    """Wait for QEMU's end, and return the error to raise when a deadline passes first. Both count from now.

    The time for which the other end of the stream keeps the VM waiting does not count; its failure is an error as well.
    """
    boot = asyncio.create_task(booted.wait())
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        limit = min(boot_deadline, soft_deadline)
        if not (await asyncio.wait({ended, boot}, timeout=limit, return_when=asyncio.FIRST_COMPLETED))[0]:
            if boot_deadline > soft_deadline:
                return _late(soft_deadline)
            return NeverBootedError(
                f"{LATE} The helper VM said nothing for {boot_deadline:g} seconds; its console is above. "
                "Is the node overloaded? HELPER_BOOT_TIMEOUT allows more"
            )
        while not ended.done():
            if stream and stream.failures:
                return stream.failures[0]
            left = began + soft_deadline + (stream.waited if stream else 0.0) - clock()
            if left <= 0:
                return _late(soft_deadline)
            await asyncio.wait({ended}, timeout=min(left, _TICK) if stream else left)
        return None
    finally:
        boot.cancel()


def _late(seconds: float) -> HelperError:
    return HelperError(f"{LATE} It was stopped after {seconds:g} seconds; HELPER_SOFT_TIMEOUT allows more")
