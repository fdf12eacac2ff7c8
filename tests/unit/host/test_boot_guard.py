# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snf_image_host.disks.boot_guard import boot_guard
from snf_image_host.disks.targets import EDGE, open_target
from snf_image_shared.errors import HelperError

MIB = 1 << 20
SIZE = 24 * MIB
GARBAGE = b"\xa5"
PATIENCE = 120.0

# create() in small: it says how far it is and waits there to be killed.
SCRIPT = """
import subprocess, sys, time
from pathlib import Path
from snf_image_host.disks.boot_guard import boot_guard
from snf_image_host.images.integrity import Integrity
from snf_image_host.copying.pipeline import PlainImage, copy
from snf_image_host.progress import Progress
from snf_image_host.images.sources import open_source
from snf_image_host.disks.targets import open_target

directory, stop = Path(sys.argv[1]), sys.argv[2]

def reached(point, *numbers):
    print(point, *numbers, flush=True)
    if point == stop:
        time.sleep(600)

with open_source("image", directory) as source, open_target(directory / "disk") as target:
    with boot_guard(target) as guard:
        reached("guarded", guard.pid)
        class Terminal:
            encoding = "ascii"
            isatty = lambda self: True
            flush = lambda self: None
            write = lambda self, text: reached("copying", guard.pid)
        with Progress.start("inst", "", log=Terminal()) as progress:
            copy(PlainImage(source, Integrity(None), "diskdump"), target, progress)
        reached("copied", guard.pid)
        qemu = subprocess.Popen(["sleep", "600"], pass_fds=[guard.fd], start_new_session=True)
        reached("booted", guard.pid, qemu.pid)
        qemu.kill()
        qemu.wait()
    reached("finished", guard.pid)
"""


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A finished guard leaves signals blocked; the other tests need them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name, "image").write_bytes(b"x" * SIZE)
        Path(name, "disk").write_bytes(GARBAGE * SIZE)
        yield Path(name)


def killed_at(directory: Path, point: str, number: int = signal.SIGKILL) -> list[int]:
    """Kill a deployment there, with its whole process group; the numbers that it said at that point."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, directory, point],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), "OSP_IMG_PASSWD": "canary"},
        start_new_session=True,
    ) as create:
        assert create.stdout
        for line in create.stdout:
            words = line.split()
            if words[0] == point:
                os.killpg(create.pid, number)
                return [int(word) for word in words[1:]]
    raise AssertionError(f"never reached {point}")


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} is left behind"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def ends(disk: Path) -> bytes:
    content = disk.read_bytes()
    return content[:EDGE] + content[-EDGE:]


@pytest.mark.parametrize("point", ["guarded", "copying", "copied"])
def test_a_killed_deployment_leaves_a_disk_that_does_not_boot(directory: Path, point: str) -> None:
    (guard,) = killed_at(directory, point)
    wait_for_end(guard)
    assert ends(directory / "disk") == bytes(2 * EDGE)


def test_the_wipe_waits_until_qemu_is_dead(directory: Path) -> None:
    guard, qemu = killed_at(directory, "booted")
    try:
        time.sleep(0.3)
        assert is_running(guard)
        assert ends(directory / "disk") == b"x" * (2 * EDGE)
    finally:
        os.kill(qemu, signal.SIGKILL)
    wait_for_end(guard)
    assert ends(directory / "disk") == bytes(2 * EDGE)


def test_the_disk_stays_locked_until_it_is_wiped(directory: Path) -> None:
    (guard,) = killed_at(directory, "copied")
    with open_target(directory / "disk") as target:
        assert os.pread(target.fd, 1, 0) != b"x" or not is_running(guard)
    wait_for_end(guard)


def test_a_finished_disk_is_left_as_it_is(directory: Path) -> None:
    (guard,) = killed_at(directory, "finished")
    assert not is_running(guard)
    assert (directory / "disk").read_bytes() == b"x" * SIZE


def test_a_signal_that_comes_too_late_is_no_failure(directory: Path) -> None:
    with open_target(directory / "disk") as target:
        with boot_guard(target):
            pass
        os.kill(os.getpid(), signal.SIGTERM)  # would end the tests
        assert signal.SIGTERM in signal.sigpending()
        signal.sigtimedwait([signal.SIGTERM], 0)


def test_a_failure_wipes_the_disk_before_it_is_raised(directory: Path) -> None:
    with (
        open_target(directory / "disk") as target,
        pytest.raises(HelperError, match=r"^it failed$"),
        boot_guard(target) as guard,
    ):
        raise HelperError("it failed")
    assert ends(directory / "disk") == bytes(2 * EDGE)
    assert not is_running(guard.pid)


def test_a_failure_wipes_the_disk_even_if_the_guard_was_killed(directory: Path) -> None:
    with (
        open_target(directory / "disk") as target,
        pytest.raises(HelperError),
        boot_guard(target) as guard,
    ):
        os.kill(guard.pid, signal.SIGKILL)
        raise HelperError("it failed")
    assert ends(directory / "disk") == bytes(2 * EDGE)


def test_a_killed_guard_does_not_hurt_a_good_run(directory: Path) -> None:
    with open_target(directory / "disk") as target, boot_guard(target) as guard:
        os.kill(guard.pid, signal.SIGKILL)
    assert ends(directory / "disk") == GARBAGE * (2 * EDGE)


def test_what_qemu_says_on_its_descriptor_does_not_call_the_wipe_off(directory: Path) -> None:
    with open_target(directory / "disk") as target, pytest.raises(HelperError), boot_guard(target) as guard:
        os.write(guard.fd, b"done")
        raise HelperError("it failed")
    assert ends(directory / "disk") == bytes(2 * EDGE)


def test_the_guard_outlives_the_signals_that_end_create(directory: Path) -> None:
    with open_target(directory / "disk") as target, pytest.raises(HelperError), boot_guard(target) as guard:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            os.kill(guard.pid, number)
        time.sleep(0.1)
        assert is_running(guard.pid)
        raise HelperError("it failed")
    assert ends(directory / "disk") == bytes(2 * EDGE)


def test_the_guard_holds_no_file_but_its_own_and_no_secret(directory: Path) -> None:
    with (
        open_target(directory / "disk") as target,
        (directory / "log").open("w"),
        boot_guard(target) as guard,
    ):
        held = {os.readlink(link) for link in Path(f"/proc/{guard.pid}/fd").iterdir()}
        assert {name.partition(":")[0] for name in held} == {str(directory / "disk"), "pipe"}
        assert not Path(f"/proc/{guard.pid}/environ").read_bytes().strip(b"\0")


def test_no_descriptor_is_left_open(directory: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with open_target(directory / "disk") as target, boot_guard(target):
        pass
    with open_target(directory / "disk") as target, pytest.raises(HelperError), boot_guard(target):
        raise HelperError("it failed")
    assert len(os.listdir("/proc/self/fd")) == len(before)
