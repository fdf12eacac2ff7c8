# SPDX-License-Identifier: GPL-2.0-or-later
"""RunHooks: run the administrator's programs, with the guest mounted, in the order of their names.

The tasks that do what instance-image's own hooks did stand between them as those hooks would: a program sorts before or
behind `interfaces`, `overlays`, `ssh` and `zz_ddns`. So there are five tasks, each with the programs of one gap. When
one fails, all that are left run at once, for what they have to say, and the deployment fails.

The boot loader comes after all but the last of these: what hooks write about it counts at the first boot.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import MOUNT_IMAGE, UNIX, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

_NO_HOOKS = "there are no hooks"


def names_between(names: tuple[str, ...], first: str, end: str) -> tuple[str, ...]:
    """Those that do not sort before `first` and sort before `end`; "" is no border."""
    return tuple(name for name in names if name >= first and (not end or name < end))


def run_hooks_between(guest: Guest, job: Job, report: Reporter, *, first: str, end: str) -> None:
    """Raises GuestError, ProcessError."""
    # Not above: few jobs have hooks.
    from snf_image_helper.hooks.running import run_hooks  # noqa: PLC0415

    names = job.hooks.names if job.hooks else ()
    try:
        run_hooks(names_between(names, first, end), guest, job, report)
    except GuestError as error:
        later = names_between(names, end, "") if end else ()
        try:
            run_hooks(later, guest, job, report)
        except GuestError as another:
            raise GuestError(f"{error}; {another}") from another
        raise


def _skip(first: str, end: str) -> Callable[[Job], str | None]:
    def skip(job: Job) -> str | None:
        return None if job.hooks and names_between(job.hooks.names, first, end) else _NO_HOOKS

    return skip


def _task(name: str, first: str, end: str, after: tuple[str, ...]) -> Task[Guest]:
    return Task(
        name,
        partial(run_hooks_between, first=first, end=end),
        families=UNIX,
        after=(MOUNT_IMAGE, *after),
        skip=_skip(first, end),
        rare=True,
        on_import=True,  # of grub alone: the host gives no other
    )


BEFORE_INTERFACES = _task("RunHooksBeforeInterfaces", "", "interfaces", ())
BEFORE_OVERLAYS = _task("RunHooksBeforeOverlays", "interfaces", "overlays", ("AssignHostname", "ConfigureNetwork"))
BEFORE_SSH = _task("RunHooksBeforeSSH", "overlays", "ssh", ("ApplyOverlay",))
BEFORE_DDNS = _task("RunHooksBeforeDDNS", "ssh", "zz_ddns", ("DeleteSSHKeys",))
TASK = _task("RunHooks", "zz_ddns", "", ("SendHostname", "ConfigureBoot"))
