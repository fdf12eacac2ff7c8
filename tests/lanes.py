# SPDX-License-Identifier: GPL-2.0-or-later
"""`make test`: the whole suite in lanes, two more than there are processors because every part waits now and then.

Many tests look for what a deployment leaves on the whole machine. Each lane therefore has a machine of its own as far
as they can see: mounts, processes, /tmp, /var/tmp, /run and /dev/shm; the project stays where it is, wherever that is.
Loop devices are everybody's; who looks at those tells them apart by LANE (leaks.py).
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent
LOGS = TESTS.parent / ".cache" / "tests"
LANE = "SNF_IMAGE_TEST_LANE"  # the directory that temporary files of the lane lie in
# Those that take longest begin first, so that no lane is left alone with them: clusters and unit-helper mostly wait,
# and have beside them what mostly calculates.
_LONGEST = (
    *("cluster-12", "unit-helper", "test_image_guests", "cluster-13", "unit-others", "test_boot_loaders"),
    *("test_guests", "unit-host", "test_failures", "test_layouts", "test_unusual_layouts", "test_disks"),
    *("test_exchange", "test_capture", "test_captured_roots", "test_shell", "test_windows", "test_hooks"),
    *("test_bsd_mounting", "test_bsd", "test_inspect", "test_rename", "test_divided_disks"),
)
# The shell stays: somebody has to bury orphans, as the first process of a machine does.
_ROOM = """
mkdir -m 1777 "$1/tmp" "$1/var"
case $3 in
/tmp/*) kept=$1/tmp/${3#/tmp/} ;;
/var/tmp/*) kept=$1/var/${3#/var/tmp/} ;;
*) kept= ;;
esac
if [ -n "$kept" ]; then
    mkdir -p "$kept"
    mount --bind "$3" "$kept"
fi
mount --rbind "$1/tmp" /tmp
mount --rbind "$1/var" /var/tmp
cd "$3"
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mkdir -m 1777 /run/lock
mkdir -p "$2"
shift 3
status=0
"$@" || status=$?
exit $status
"""


@dataclass(frozen=True)
class Job:
    """A part of the suite: pytest's arguments, and the name of its log."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a job; `seconds` are real ones."""

    job: Job
    status: int
    seconds: float


def jobs() -> list[Job]:
    """All parts in the order in which they begin."""
    plain = ("-m", "not vm and not ganeti and not guests")
    apart = {"unit-helper": str(TESTS / "unit/helper"), "unit-host": str(TESTS / "unit/host")}
    parts = [Job(name, (directory, *plain)) for name, directory in apart.items()]
    parts.append(Job("unit-others", (*(f"--ignore={directory}" for directory in apart.values()), *plain)))
    # Each release of Debian has its own cluster, and half of the tests is of the one.
    for name, release in (("cluster-12", "bookworm"), ("cluster-13", "not bookworm")):
        parts.append(Job(name, (str(TESTS / "ganeti"), "-m", "ganeti", "-k", release)))
    found = sorted(path for path in TESTS.rglob("test_*.py") if "mark.vm" in path.read_text(encoding="utf-8"))
    parts += [Job(path.stem, (str(path), "-m", "vm and not guests")) for path in found]
    order = {name: place for place, name in enumerate(_LONGEST)}
    return sorted(parts, key=lambda part: order.get(part.name, len(order)))


def main() -> int:
    """Run everything, show each part when it has ended; 0 when all of it passed."""
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    parts = jobs()
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in parts:
        waiting.put(job)
    outcomes: list[Outcome] = []
    numbers = range((os.cpu_count() or 1) + 2)
    lanes = [threading.Thread(target=_work, args=(waiting, number, outcomes)) for number in numbers]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    print("\n== All parts")
    for outcome in sorted(outcomes, key=lambda each: each.status):
        print(f"{outcome.seconds:6.0f} s  {'passed' if not outcome.status else 'FAILED'}  {outcome.job.name}")
    return 0 if all(not outcome.status for outcome in outcomes) and len(outcomes) == len(parts) else 1


def run(job: Job, number: int) -> Outcome:
    """Run one part in the lane of this number, and print what it said."""
    begun = time.monotonic()
    print(f"== {job.name} begins; what it says comes when it has ended\n", end="", flush=True)  # in one piece
    log = LOGS / f"{job.name}.log"
    with _private_directory() as directory, log.open("w") as output:
        root = f"/tmp/lane-{number}"
        argv = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-euc",
            _ROOM,
            "lane",
        ]
        argv += [
            str(directory),
            root,
            str(TESTS.parent),
            sys.executable,
            "-m",
            "pytest",
            "--durations=10",
            *job.arguments,
        ]
        environment = {**os.environ, LANE: root, "PYTEST_DEBUG_TEMPROOT": root}
        done = subprocess.run(argv, stdout=output, stderr=subprocess.STDOUT, env=environment, check=False)
    print(f"\n== {job.name}\n{log.read_text(errors='replace')}", flush=True)
    return Outcome(job, done.returncode, time.monotonic() - begun)


def _work(waiting: queue.SimpleQueue[Job], number: int, outcomes: list[Outcome]) -> None:
    while True:
        try:
            job = waiting.get_nowait()
        except queue.Empty:
            return
        outcomes.append(run(job, number))


@contextmanager
def _private_directory() -> Iterator[Path]:
    """On a disk: images of many GiB lie in there."""
    directory = Path(tempfile.mkdtemp(prefix="lane-", dir="/var/tmp"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
