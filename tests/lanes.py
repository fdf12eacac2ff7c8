# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole suite in lanes, one for each processor and one for the clusters, which mostly wait: `make test`.

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
# Those that take longest begin first, so that no lane is left alone with them.
_LONGEST = ("test_layouts.py", "test_failures.py", "test_guests.py", "test_unusual_layouts.py", "test_disks.py")
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


def jobs() -> tuple[Job, list[Job]]:
    """The clusters, and all other parts in the order in which they begin."""
    found = (path for path in TESTS.rglob("test_*.py") if "mark.vm" in path.read_text(encoding="utf-8"))
    files = sorted(found, key=lambda path: (path.name not in _LONGEST, path.name))
    parts = [Job(path.stem, (str(path), "-m", "vm and not guests")) for path in files]
    plain = ("-m", "not vm and not ganeti and not guests")
    helper = str(TESTS / "unit/helper")
    units = [Job("unit-helper", (helper, *plain)), Job("unit-others", (f"--ignore={helper}", *plain))]
    return Job("clusters", (str(TESTS / "ganeti"), "-m", "ganeti")), [*units, *parts]


def main() -> int:
    """Run everything, show each part when it has ended; 0 when all of it passed."""
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    clusters, rest = jobs()
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in rest:
        waiting.put(job)
    outcomes: list[Outcome] = []
    lanes = [threading.Thread(target=lambda: outcomes.append(run(clusters, 0)))]
    for number in range(1, (os.cpu_count() or 1) + 1):
        lanes.append(threading.Thread(target=_work, args=(waiting, number, outcomes)))
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    print("\n== All parts")
    for outcome in sorted(outcomes, key=lambda each: each.status):
        print(f"{outcome.seconds:6.0f} s  {'passed' if not outcome.status else 'FAILED'}  {outcome.job.name}")
    return 0 if all(not outcome.status for outcome in outcomes) and len(outcomes) == len(rest) + 1 else 1


def run(job: Job, number: int) -> Outcome:
    """Run one part in the lane of this number, and print what it said."""
    begun = time.monotonic()
    print(f"== {job.name} begins; what it says comes when it has ended", flush=True)
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
