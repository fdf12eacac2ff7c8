# SPDX-License-Identifier: GPL-2.0-or-later
"""What of the guest is mounted, in order, so that all of it is unmounted again whatever happens in between."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from snf_image_helper.disks.filesystems import (
    FileSystem,
    check_writable,
    mount,
    mount_for_a_look,
    repair_known_errors,
    unmount,
)
from snf_image_helper.disks.ufs import UFS
from snf_image_helper.disks.ufs_check import refuse_spoiled
from snf_image_helper.fstab import FSTAB, Entry, printable
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_shared.errors import GuestError

TARGET = "/run/snf-image/target"


@dataclass(frozen=True)
class Mount:
    device: str
    path: str
    kind: str


@dataclass
class Mounts:
    """What is mounted, in order. The paths are the helper's, without links in them.

    `repairs` lets e2fsck see to a file system in which a kernel has found errors before it is mounted, and tells of
    journals that the kernel replays; to a guest that has lived neither is news.
    """

    report: Reporter
    read_only: bool
    repairs: bool
    stack: list[Mount] = field(default_factory=list)

    def add(self, system: FileSystem, path: str, options: str = "", *, at: str | None = None) -> None:
        """Mount at `path`; `at` is another name of the same directory that nobody can exchange. Raises GuestError."""
        if self.read_only:
            mount_for_a_look(system.device, at or path, system.type, options)
        else:
            repaired = repair_known_errors(system.device, system.type) if self.repairs else ()
            replayed = mount(system.device, at or path, system.type, options)
            for warning in (*repaired, *replayed) if self.repairs else ():
                self.report.warning(warning)
        self.stack.append(Mount(system.device, path, system.type))
        if not self.read_only:
            check_writable(system.device, path)

    def release(self) -> None:
        """Flush and unmount all, the last one first, and see that each UFS is still sound. Raises GuestError."""
        written = () if self.read_only else tuple(self.stack)
        for done in written:
            check_writable(done.device, done.path)
        while self.stack:
            unmount(self.stack[-1].path)
            self.stack.pop()
        os.sync()
        for done in written:
            if done.kind == UFS:
                refuse_spoiled(done.device)

    def abandon(self) -> None:
        """Unmount what a failure left mounted; that failure is the one to tell."""
        while self.stack:
            left = self.stack.pop()
            try:
                unmount(left.path)
            except GuestError:
                with suppress(GuestError):
                    unmount(left.path, lazily=True)


@contextmanager
def opened_mount_point(entry: Entry, guest: Guest, report: Reporter) -> Iterator[tuple[str, str] | None]:
    """Where a line of fstab mounts: the path to unmount it by, and a name that nobody can exchange, for mounting there.

    None, with a warning, when that is the root itself. Raises GuestError when there is no such directory.
    """
    directory = guest.open_directory(entry.mount_point)
    try:
        resolved = f"/proc/self/fd/{directory}"  # by the kernel, inside the root
        path = str(Path(resolved).readlink())
        inside = path.startswith(f"{TARGET}/")
        if not inside:
            report.warning(f"{FSTAB}: {printable(entry.mount_point)} is not mounted: it is the root itself")
        yield (path, resolved) if inside else None
    finally:
        os.close(directory)
