# SPDX-License-Identifier: GPL-2.0-or-later
"""FilesystemResizeMounted: let Setup extend the system volume at the first boot, when diskpart works off our script.

Before Vista diskpart cannot extend a file system alone, and the volume grows offline.
"""

from __future__ import annotations

import re

from snf_image_helper.disks.growth import filling
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import OsFamily
from snf_image_helper.task import MOUNT_IMAGE, WINDOWS, CloudInit, Task
from snf_image_helper.tasks.fix_partition_table import asked_swap
from snf_image_helper.tasks.windows.filesystem_resize_after_umount import OFFLINE, why_it_does_not_grow
from snf_image_helper.windows.facts import VERSION_KEY
from snf_image_helper.windows.registry import HIVE_SOFTWARE, opened
from snf_image_helper.windows.setup_scripts import EXTEND_FILESYSTEM, script, write_script
from snf_image_shared.job import Job


def filesystem_resize_mounted(guest: Guest, job: Job, report: Reporter) -> None:
    """Write the script of diskpart, if the volume is the one that fills the disk."""
    if guest.system.family is OsFamily.WINDOWS_LEGACY or job.wishes.flag(OFFLINE):
        return
    if filling(guest.disk, asked_swap(job)) is None:
        for warning in why_it_does_not_grow(guest.disk):
            report.warning(warning)
        return
    lines = _script(_drive(guest))
    if script(guest, EXTEND_FILESYSTEM) != lines:
        write_script(guest, EXTEND_FILESYSTEM, lines)


def _script(drive: str) -> tuple[str, ...]:
    """By its letter: diskpart's numbers of disks and volumes are in no order that is known here.

    Setup would end at a failure, such as "nothing to extend": noerr. Source: Microsoft, "extend", "select volume".
    """
    return (f"select volume {drive}", "extend filesystem noerr", "exit")


def _drive(guest: Guest) -> str:
    with opened(guest, HIVE_SOFTWARE) as hive:
        root = hive.text(VERSION_KEY, "SystemRoot") or ""
    return root[0].upper() if re.match(r"[A-Za-z]:\\", root) else "C"


TASK: Task[Guest] = Task(
    "FilesystemResizeMounted",
    filesystem_resize_mounted,
    families=WINDOWS,
    cloud_init=CloudInit.OFF,
    resizes=True,
    after=(MOUNT_IMAGE, "InstallUnattend"),
    decides="only a C: at the end of the disk, of Vista or later",
)
