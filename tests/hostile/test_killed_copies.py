# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGKILL at random moments of a copy, from before the first byte to after the last one, of each kind of image."""

from __future__ import annotations

import gzip
import io
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.pipeline import Terms, check_fits, copy
from snf_image_host.disks import targets
from snf_image_host.disks.boot_guard import boot_guard
from snf_image_host.disks.targets import EDGE, open_target
from snf_image_host.images.names import WantedImage
from snf_image_host.images.opening import open_image
from snf_image_host.progress import Progress

MIB = 1 << 20
SIZE = 48 * MIB
GREETING = b"booted\r\n"
# x86 real mode: send the text behind it to the first serial port, then halt.
BOOT_CODE = bytes.fromhex("31c0 8ed8 fc be167c baf803 ac 84c0 7403 ee ebf8 f4 ebfd") + GREETING + b"\0"


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """With one image in three wrappings: a boot sector, a partition, data with a hole, and data in the last MiB."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        directory = Path(name)
        dice = random.Random(4)
        raw = directory / "raw"
        with raw.open("wb") as file:
            file.write(
                BOOT_CODE.ljust(446, b"\0") + b"\x80" + bytes(3) + b"\x83" + bytes(3) + (2048).to_bytes(4, "little")
            )
            file.write((SIZE // 512 - 2048).to_bytes(4, "little") + bytes(48) + b"\x55\xaa")
            for start, end in ((1, 20), (32, 48)):
                file.seek(start * MIB)
                file.write(dice.randbytes((end - start) * MIB))
        (directory / "gzip").write_bytes(gzip.compress(raw.read_bytes(), 1))
        convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(directory / "qcow2")]
        subprocess.run(convert, check=True)
        yield directory


def deploy(directory: Path, kind: str) -> None:
    settings = Settings(image_dir=directory, run_dir=directory / "run")
    wanted = WantedImage(kind, "qcow2" if kind == "qcow2" else "diskdump")
    with (
        Progress.start("inst", "", log=io.StringIO()) as progress,
        open_image(wanted, settings, progress) as image,
        open_target(directory / "disk") as target,
    ):
        assert image
        check_fits(image, target)
        with boot_guard(target) as guard:
            copy(image, target, progress, Terms(guard.fd))


def forked(directory: Path, kind: str) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setsid()
            deploy(directory, kind)
            status = 0
        finally:
            os._exit(status)
    return pid


def wait_for_wipe(disk: Path) -> None:
    """Until the last owner's boot sector is gone."""
    deadline = time.monotonic() + 120
    with disk.open("rb", buffering=0) as file:
        while os.pread(file.fileno(), 512, 0) != bytes(512):
            assert time.monotonic() < deadline, "nothing is copied"
            time.sleep(0.001)


def partitions(disk: Path) -> bool:
    """Whether partition tools find a table on the disk."""
    return subprocess.run(["sfdisk", "--dump", str(disk)], capture_output=True, check=False).returncode == 0


def boots(disk: Path) -> bool:
    """Whether a PC starts from the disk: it says so, or its firmware says that there is nothing to start."""
    qemu = ["qemu-system-x86_64", "-accel", "tcg", "-nodefaults", "-nographic", "-serial", "stdio", "-no-reboot"]
    drive = ["-drive", f"file={disk},format=raw,if=ide,snapshot=on,file.locking=off"]
    with subprocess.Popen([*qemu, *drive], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as machine:
        said = b""
        try:
            assert machine.stdout
            while b"No bootable device" not in said and GREETING not in said:
                more = os.read(machine.stdout.fileno(), 4096)
                assert more, said
                said += more
        finally:
            machine.kill()
    return GREETING in said


@pytest.mark.parametrize(("kind", "kills"), [("raw", 20), ("gzip", 15), ("qcow2", 15)])
def test_a_deployment_killed_at_any_moment_leaves_a_disk_that_does_not_boot_and_can_be_repeated(
    directory: Path, kind: str, kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "_LOCK_PATIENCE", 120.0)  # however busy the machine is
    image = (directory / "raw").read_bytes()
    disk = directory / "disk"
    garbage = image[:MIB] + b"\xa5" * SIZE  # the last owner's disk boots
    dice = random.Random()
    disk.write_bytes(garbage)
    began = time.monotonic()
    assert os.waitpid(forked(directory, kind), 0)[1] == 0
    duration = time.monotonic() - began
    outcomes = dict.fromkeys(("untouched", "wiped", "complete"), 0)
    for number in range(kills):
        disk.write_bytes(garbage)
        pid = forked(directory, kind)
        if number % 5:
            time.sleep(dice.uniform(0, 1.1 * duration))
        else:  # how long it takes to get there differs; some of the points shall be in the copy itself
            wait_for_wipe(disk)
            time.sleep(dice.uniform(0, 0.1 * duration * (number > 0)))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with open_target(disk):  # waits for the lock, which the guard has until it has wiped the disk
            pass
        content = disk.read_bytes()
        if content == garbage:
            outcomes["untouched"] += 1
        elif content[:SIZE] == image and content[-EDGE:] == bytes(EDGE):
            outcomes["complete"] += 1
        else:
            outcomes["wiped"] += 1
            assert content[:EDGE] + content[-EDGE:] == bytes(2 * EDGE)
            assert not partitions(disk)
            if outcomes["wiped"] == 1:
                assert not boots(disk)
    assert sum(outcomes.values()) == kills
    assert outcomes["wiped"], outcomes
    deploy_again = os.waitpid(forked(directory, kind), 0)[1]
    assert deploy_again == 0
    assert disk.read_bytes()[:SIZE] == image
    assert partitions(disk)
    assert boots(disk)
