# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of the guest's own, run with the guest as their root. The helper VM is their cage; nothing of theirs stays.

/dev, /proc, /sys and a /run of its own are there while they run, as a package's scripts expect.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper.disks.filesystems import unmount
from snf_image_helper.guest import Guest
from snf_image_shared.process import SEARCH_PATH, Finished, Limits, run

_MOUNTS = (
    ("/dev", ["--bind", "/dev"]),
    ("/proc", ["-t", "proc", "proc"]),
    ("/sys", ["-t", "sysfs", "sys"]),
    ("/run", ["-t", "tmpfs", "-o", "mode=755", "run"]),
    ("/tmp", ["-t", "tmpfs", "-o", "mode=1777", "tmp"]),  # noqa: S108 - the guest's
)
_TIMEOUT = 900.0  # seconds


@dataclass(frozen=True)
class Chroot:
    """What programs of the guest can be run in."""

    root: str

    def run(self, argv: Sequence[str], *, env: dict[str, str] | None = None, limits: Limits | None = None) -> Finished:
        """As process.run(), with a guest's path. Raises ProcessError."""
        environment = {"PATH": f"/usr/local/sbin:/usr/local/bin:{SEARCH_PATH}", "HOME": "/root", **(env or {})}
        return run(["chroot", self.root, *argv], env=environment, limits=limits or Limits(timeout=_TIMEOUT))


@contextmanager
def chroot(guest: Guest) -> Iterator[Chroot]:
    """Mount what programs expect, and unmount all of it. Raises GuestError, ProcessError."""
    guest.programs_ran = True
    with ExitStack() as stack:
        for path, options in _MOUNTS:
            guest.make_directory(path)
            directory = guest.open_directory(path)
            try:
                place = str(Path(f"/proc/self/fd/{directory}").readlink())  # by the kernel, inside the root
            finally:
                os.close(directory)
            run(["mount", *options, place])
            stack.callback(unmount, place, lazily=True)
        yield Chroot(guest.root)
