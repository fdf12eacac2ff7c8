# SPDX-License-Identifier: GPL-2.0-or-later
"""Real disks for tests: files with real partition tables and file systems behind loop devices."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from block_devices import loop_device
from snf_image_helper.disks.disk import Disk
from snf_image_helper.reporter import Reporter
from snf_image_shared.job import JOB_VERSION, Job
from snf_image_shared.report import Event, EventKind

MIB = 1 << 20
_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = 0x4000 | (1 << 18)


class Listener:
    """A reporter's other end: the events in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.reporter = Reporter(lambda line: self.events.append(Event.decode(line.rstrip(b"\n"))))

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.events if event.kind is EventKind.WARNING]

    @property
    def tasks(self) -> list[str]:
        return [
            f"{event.kind} {event.text}"
            for event in self.events
            if event.kind in {EventKind.TASK_START, EventKind.TASK_END}
        ]


def job(*disks: str, **properties: str) -> Job:
    return Job(JOB_VERSION, "instance", "instance", "diskdump", disks or ("disk-0",), properties=properties)


def sh(*argv: str, stdin: str = "") -> str:
    """Run a program that must succeed; its output."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def table_of(path: Path | str, script: str, mib: int) -> None:
    """Make a sparse file of `mib` MiB with the partition table of an sfdisk script."""
    with Path(path).open("wb") as file:
        file.truncate(mib * MIB)
    sh("sfdisk", "--quiet", "--no-reread", str(path), stdin=script)


@contextlib.contextmanager
def attached(path: Path, *more: Path, sector_size: int = 512) -> Iterator[Disk]:
    """The file as the first disk of an instance, its partitions known to the kernel; `more` are the other disks."""
    with contextlib.ExitStack() as loops:
        options = ("--partscan", f"--sector-size={sector_size}")
        devices = [loops.enter_context(loop_device(file, *options)) for file in (path, *more)]
        yield Disk(tuple(map(str, devices)))


@contextlib.contextmanager
def image(
    path: Path, script: str, made: Mapping[int, tuple[str, ...]], *, mib: int = 64, grow_to: int = 0
) -> Iterator[Disk]:
    """A disk with `script`'s partitions, each formatted by the command in `made`; then enlarged to `grow_to` MiB."""
    table_of(path, script, mib)
    with attached(path) as disk:
        disk.reload()
        for number, command in made.items():
            sh(*command, disk.partition_device(number))
    if grow_to:
        os.truncate(path, grow_to * MIB)
    with attached(path) as disk:
        yield disk


@contextlib.contextmanager
def filled(device: str, kind: str, options: str = "defaults") -> Iterator[Path]:
    """A place where the test itself writes to a file system."""
    place = Path("/run/fill")
    place.mkdir(parents=True, exist_ok=True)
    sh("mount", "-t", kind, "-o", options, device, str(place))
    try:
        yield place
    finally:
        sh("umount", str(place))


def plant_root(place: Path, fstab: str = "") -> None:
    """The least that makes a tree a Linux root."""
    (place / "etc").mkdir(parents=True)
    (place / "etc/fstab").write_text(fstab)
    (place / "etc/os-release").write_text("ID=test\n")


@contextlib.contextmanager
def private_mounts() -> Iterator[None]:
    """A mount namespace of our own with an empty /run, so that nothing of a failed test stays mounted."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = Path.cwd()
    before = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    try:
        assert libc.unshare(_CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
        assert libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None) == 0
        assert libc.mount(b"tmpfs", b"/run", b"tmpfs", 0, None) == 0
        mounts = Path("/proc/self/mounts").read_text()
        yield
        assert Path("/proc/self/mounts").read_text() == mounts, "something stayed mounted"
    finally:
        assert libc.setns(before, _CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
        os.close(before)
        os.chdir(here)


@contextlib.contextmanager
def ext4(scratch: Path, mib: int = 16) -> Iterator[Path]:
    """The root of a new ext4, which takes labels and flags whatever file system the machine has."""
    disk, place = scratch / "ext4", scratch / "mounted"
    place.mkdir()
    with disk.open("wb") as file:
        file.truncate(mib * MIB)
    sh("mkfs.ext4", "-q", "-F", str(disk))
    with private_mounts():
        sh("mount", "-o", "loop", str(disk), str(place))
        try:
            yield place
        finally:
            sh("umount", str(place))
