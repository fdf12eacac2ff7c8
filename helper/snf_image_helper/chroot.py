# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of the guest's own, run with the guest as their root. The helper VM is their cage; nothing of theirs stays.

/dev, /proc, /sys and a /run of its own are there while they run, as a package's scripts expect. Each run has name
spaces of its own for processes and mounts, so what it starts in the background and what it mounts ends with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper.disks.filesystems import unmount
from snf_image_helper.guest import Guest
from snf_image_shared.process import SEARCH_PATH, Finished, Limits, ProcessError, run, run_capped

_MOUNTS = (
    ("/dev", ["--bind", "/dev"]),
    ("/proc", ["-t", "proc", "proc"]),
    ("/sys", ["-t", "sysfs", "sys"]),
    ("/run", ["-t", "tmpfs", "-o", "mode=755", "run"]),
    ("/tmp", ["-t", "tmpfs", "-o", "mode=1777", "tmp"]),  # noqa: S108 - the guest's
)
_TIMEOUT = 900.0  # seconds
_ENVIRONMENT = {
    "PATH": f"/usr/local/sbin:/usr/local/bin:{SEARCH_PATH}",
    "HOME": "/root",
    "TERM": "dumb",
    "DEBIAN_FRONTEND": "noninteractive",
}


@dataclass(frozen=True)
class Chroot:
    """What programs of the guest can be run in; `proc` is where its /proc is in the helper."""

    root: str
    proc: str

    def run(self, argv: Sequence[str], *, env: dict[str, str] | None = None, limits: Limits | None = None) -> Finished:
        """Run a program of the guest by itself, with nothing to read. Both its outputs are `stdout`, the end of them.

        Raises ProcessError, with its last lines.
        """
        limits = limits or Limits(timeout=_TIMEOUT)
        # timeout(1), with no time, is the first process of the name space: it stays outside the root, by which programs
        # tell that they are in a chroot, and the kernel kills all others when it ends.
        confined = [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={self.proc}"),
            *("timeout", "--foreground", "0", "chroot", self.root, *argv),
        ]
        try:
            done = run_capped(confined, name=Path(argv[0]).name, env=_ENVIRONMENT | (env or {}), limits=limits)
        except ProcessError as error:
            raise ProcessError(error.program, error.outcome, _printable("\n".join(error.stderr_tail))) from error
        return Finished(done.status, _printable(done.stdout), "")


@contextmanager
def chroot(guest: Guest) -> Iterator[Chroot]:
    """Mount what programs expect, and unmount all of it. Raises GuestError, ProcessError."""
    guest.programs_ran = True
    with ExitStack() as stack:
        places = {}
        for path, options in _MOUNTS:
            guest.make_directory(path)
            directory = guest.open_directory(path)
            try:
                place = str(Path(f"/proc/self/fd/{directory}").readlink())  # by the kernel, inside the root
            finally:
                os.close(directory)
            run(["mount", *options, place])
            stack.callback(unmount, place, lazily=True)
            places[path] = place
        yield Chroot(guest.root, places["/proc"])


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)
