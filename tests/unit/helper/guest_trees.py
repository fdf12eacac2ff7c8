# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest trees for tests: plain directories that a Guest has as its root."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from snf_image_helper.disks.disk import Disk
from snf_image_helper.guest import Guest
from snf_image_helper.system import OsFamily, System
from snf_image_helper.task import Task
from snf_image_shared.job import JOB_VERSION, Job
from unit.helper.disk_images import Listener

JOB = Job(JOB_VERSION, "web.example.com", "web.example.com", "diskdump", ("disk-0",))


def guest_in(root: Path, files: Mapping[str, str | bytes] | None = None) -> Guest:
    """A guest whose root is `root`, with these files in it; the names of its disks are all there is of them."""
    root.mkdir(exist_ok=True)
    put(root, files or {})
    disk = cast(Disk, SimpleNamespace(device="/dev/vda", devices=("/dev/vda", "/dev/vdb")))
    return Guest(str(root), disk, System(OsFamily.LINUX, 1))


def put(root: Path, files: Mapping[str, str | bytes]) -> None:
    for path, content in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))


def perform(task: Task[Guest], guest: Guest, job: Job = JOB, **properties: str) -> Listener:
    """Run a task alone; what it said."""
    listener = Listener()
    task.run(guest, replace(job, properties={**job.properties, **properties}), listener.reporter)
    return listener


def text(guest: Guest, path: str) -> str:
    return Path(guest.root, path.lstrip("/")).read_text(encoding="utf-8", errors="surrogateescape")


def seen(guest: Guest, path: str) -> tuple[int, int, int]:
    """Owner, group and permission bits, asked from outside the code under test."""
    found = Path(guest.root, path.lstrip("/")).lstat()
    return found.st_uid, found.st_gid, found.st_mode & 0o7777
