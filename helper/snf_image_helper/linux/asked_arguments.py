# SPDX-License-Identifier: GPL-2.0-or-later
"""What the properties CONSOLE and KERNEL_ARGS ask for."""

from __future__ import annotations

from snf_image_helper.linux.kernel_arguments import PROPERTY, Arguments, parse
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

CONSOLE = "CONSOLE"
_SERIAL = "serial"
_SPEEDS = (9600, 19200, 38400, 57600, 115200)


def asked(job: Job) -> Arguments:
    """What the properties ask for. Raises GuestError."""
    console = job.wishes.text(CONSOLE)
    if console is None:
        return Arguments(parse(job.wishes.text(PROPERTY) or ""))
    name, has_speed, speed = console.lower().partition(",")
    if name != _SERIAL or (has_speed and speed not in map(str, _SPEEDS)):
        raise GuestError(
            f"property {CONSOLE}: {console[:40]!r} is unknown; ask for {_SERIAL}, or for {_SERIAL},SPEED "
            f"with one of {', '.join(map(str, _SPEEDS))}"
        )
    return Arguments(parse(job.wishes.text(PROPERTY) or ""), serial=True, speed=int(speed) if speed else None)
