# SPDX-License-Identifier: GPL-2.0-or-later
"""ALLOW_MOUNTED_TASK_OVERWRITING: an image may bring a program that runs before, after or instead of a mounted task.

The program is /root/snf-image/helper/overwrite_task_<Task>, in any case, executable. Called with "pre-exec" it does the
task itself; if it ends with status 101, the task runs as usual and the program is called again with "post-exec".
"""

from __future__ import annotations

from collections.abc import Callable

from snf_image_helper.guest import Guest
from snf_image_helper.program import run_program
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job
from snf_image_shared.process import ProcessError

PROPERTY = "ALLOW_MOUNTED_TASK_OVERWRITING"
DIRECTORY = "/root/snf-image/helper"
_GO_ON = 101
_LARGEST_PROGRAM = 64 * 1024 * 1024  # bytes


def run_overridden(name: str, guest: Guest, job: Job, normal: Callable[[], None]) -> None:
    """Call `normal`, which is the task `name`, with whatever the image puts around it or in its place.

    Raises GuestError when the image brings several programs for it, and ProcessError when one fails.
    """
    path = override_for(name, guest, job)
    if path is None:
        normal()
        return
    program = guest.read_bytes(path, limit=_LARGEST_PROGRAM)
    before = run_program(program, ("pre-exec",), guest, job)
    if before.status == _GO_ON:
        normal()
        after = run_program(program, ("post-exec",), guest, job)
        if after.status:
            raise ProcessError(path, f"post-exec failed with status {after.status}", after.stderr)
    elif before.status:
        raise ProcessError(path, f"pre-exec failed with status {before.status}", before.stderr)


def override_for(name: str, guest: Guest, job: Job) -> str | None:
    """As find_override(), if the image may override anything at all."""
    return find_override(name, guest) if job.wishes.flag(PROPERTY) else None


def find_override(name: str, guest: Guest) -> str | None:
    """The one executable file for the task, or None. Raises GuestError when several differ only in case."""
    wanted = f"overwrite_task_{name}".lower()
    found = [
        path
        for path in (f"{DIRECTORY}/{entry}" for entry in guest.list_directory(DIRECTORY, missing_ok=True))
        if path.rpartition("/")[2].lower() == wanted and _is_program(path, guest)
    ]
    if len(found) > 1:
        raise GuestError(f"{' and '.join(found)} both claim the task {name}; keep one of them in the image")
    return found[0] if found else None


def _is_program(path: str, guest: Guest) -> bool:
    owned = guest.ownership(path)
    return owned is not None and guest.is_file(path) and bool(owned.mode & 0o111)
