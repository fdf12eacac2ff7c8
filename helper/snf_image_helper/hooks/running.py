# SPDX-License-Identifier: GPL-2.0-or-later
"""The administrator's hooks, one after the other. One that fails stops none of the others, and is a failure still.

Source: run-parts(8) of Debian, which instance-image runs them by.
"""

from __future__ import annotations

from collections.abc import Sequence

from snf_image_helper.guest import Guest
from snf_image_helper.hooks.room import Packed, Room, opened_archives, room_for
from snf_image_helper.reporter import Reporter
from snf_image_shared.deployment import Hooks
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job
from snf_image_shared.process import Limits, ProcessError, run_capped

_SHOWN = 64 << 10  # characters of a hook's output that the log gets, the last ones
_LAST_LINES = 3


def run_hooks(names: Sequence[str], guest: Guest, job: Job, report: Reporter) -> None:
    """Run the hooks of these names. Raises GuestError, with the last words of each that failed."""
    hooks = job.hooks
    if hooks is None or not names:
        return
    with opened_archives(hooks, job) as archives:
        run_unpacked(names, archives, guest, job, report)


def run_unpacked(names: Sequence[str], archives: Sequence[Packed], guest: Guest, job: Job, report: Reporter) -> None:
    """As run_hooks(), for archives that are open."""
    hooks = job.hooks
    if hooks is None:
        return
    guest.programs_ran = True
    failures = []
    with room_for(archives, guest, job, hooks) as room:
        for name in names:
            print(f"hook {name}:", flush=True)
            if failure := _run(name, room, hooks, guest):
                report.warning(f"The hook {name} {failure}")
                failures.append(f"the hook {name} {failure}")
    if failures:
        raise GuestError("; ".join(failures))


def _run(name: str, room: Room, hooks: Hooks, guest: Guest) -> str | None:
    """Why it failed, if it did."""
    try:
        done = run_capped(
            room.command(hooks, name),
            name=f"hook {name}",
            env=dict(room.environment),
            limits=Limits(timeout=hooks.timeout, accept=frozenset(range(256))),
        )
    except ProcessError as error:
        return error.outcome + _words(error.stderr_tail)
    text = done.stdout[-_SHOWN:]
    print(text, end="" if not text or text.endswith("\n") else "\n", flush=True)
    if done.status:
        return f"failed with status {done.status}" + _words(text.splitlines())
    if not guest.is_dir("/etc"):
        return "has left a guest without the directory /etc"
    return None


def _words(lines: Sequence[str]) -> str:
    last = [line.strip() for line in lines if line.strip()][-_LAST_LINES:]
    return f" ({' / '.join(''.join(filter(str.isprintable, line)) for line in last)})" if last else ""
