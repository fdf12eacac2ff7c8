# SPDX-License-Identifier: GPL-2.0-or-later
"""What a deployment could leave behind, photographed before and after; and where a secret could be seen meanwhile."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PLACES = (Path("/tmp"), Path("/var/tmp"), Path("/run"), Path("/dev/shm"))
PROJECT = Path(__file__).resolve().parents[1]  # where other tests work at the same time
PATIENCE = 120.0  # seconds for killed processes to be gone
MARKS = ("snf-image/create", "snf-disk-", '"node-name":"disk"')  # in the arguments of create, QEMU, a storage daemon
_MAX_FILE = 8 << 20


@dataclass(frozen=True)
class Traces:
    """Mounts, attached loop devices, files and processes, as text that says which."""

    mounts: frozenset[str]
    loops: frozenset[str]
    files: frozenset[str]
    processes: frozenset[str]

    def beyond(self, before: Traces) -> list[str]:
        """What is here now, and was not `before`."""
        pairs = (
            (self.mounts, before.mounts),
            (self.loops, before.loops),
            (self.processes, before.processes),
            (self.files, before.files),
        )
        return [trace for now, then in pairs for trace in sorted(now - then)]


def traces(own: Path) -> Traces:
    """Look at temporary places and our kind of processes. Files below `own`, the test's directory, do not count."""
    return Traces(
        frozenset(Path("/proc/self/mountinfo").read_text().splitlines()),
        frozenset(_loops()),
        frozenset(_files(own)),
        frozenset(_processes()),
    )


@contextmanager
def nothing_left(own: Path) -> Iterator[None]:
    """Fail if the block leaves anything."""
    before = traces(own)
    yield
    deadline = time.monotonic() + PATIENCE
    while (left := traces(own).beyond(before)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


def sightings(secret: str, own: Path) -> list[str]:
    """Every process whose arguments or environment show the secret, and every file in a temporary place that does."""
    needle = secret.encode()
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        for name in ("cmdline", "environ"):
            with suppress(OSError):
                if needle in (process / name).read_bytes():
                    found.append(f"{process.name} {name}: {(process / 'comm').read_text().strip()}")
    for file in _files(own):
        with suppress(OSError):
            path = Path(file)
            if (
                path.is_file()
                and not path.is_symlink()
                and path.stat().st_size < _MAX_FILE
                and needle in path.read_bytes()
            ):
                found.append(file)
    return found


def open_to_others(own: Path) -> list[str]:
    """Files in temporary places that others than root may write."""
    found = []
    for file in _files(own):
        with suppress(OSError):
            if stat.S_ISREG(os.lstat(file).st_mode) and os.lstat(file).st_mode & 0o022:
                found.append(file)
    return found


def _loops() -> Iterator[str]:
    """Attached loop devices, but for those of the clusters' nodes and of tests that run beside ours."""
    lane = os.environ.get("SNF_IMAGE_TEST_LANE", "/tmp/lane-none")
    for loop in subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout.splitlines():
        if "(/srv/ganeti/" not in loop and ("/tmp/lane-" not in loop or f"{lane}/" in loop):
            yield loop


def _files(own: Path) -> Iterator[str]:
    for place in PLACES:
        for directory, names, files in os.walk(place):
            inside = Path(directory)
            # Directories of other test runs and developers change all the time; ours is one that we know the name of.
            names[:] = [
                name for name in names if inside / name not in {own, PROJECT} and not name.startswith("pytest-of-")
            ]
            for name in files:
                if "snf" in name or "floppy" in name or "snf-image" in directory:
                    yield str(inside / name)


def _processes() -> Iterator[str]:
    """Processes of a deployment by what they run; a zombie has no arguments left and does not count."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0")
                text = b" ".join(words).decode("utf-8", "replace")
                if any(mark in text for mark in MARKS):
                    yield f"{process.name} {text[:200]}"
