# SPDX-License-Identifier: GPL-2.0-or-later
"""The config device, made by the real mke2fs and read back by debugfs, and nothing is left of it."""

from __future__ import annotations

import errno
import os
import random
import stat
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from snf_image_host.configuration.setting_types import ConfigDevice
from snf_image_host.vm.floppy import FLOPPY_SIZE, config_floppy
from snf_image_shared.errors import RequestError
from snf_image_shared.job import FLOPPY_LABEL, JOB_FILE
from snf_image_shared.process import ProcessError

pytestmark = pytest.mark.root
BORDER = 1_390_592  # bytes of one file: more does not go onto a floppy
BUSY_PLACES = ("/tmp", "/dev/shm", "/var/tmp", "/run")


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def made(
    tmp_path: Path, files: Mapping[str, bytes], wanted: ConfigDevice = ConfigDevice.AUTO
) -> tuple[Path, ConfigDevice]:
    """A copy of the device that debugfs can open."""
    with config_floppy(files, wanted) as floppy:
        copy = tmp_path / "device"
        copy.write_bytes(os.pread(floppy.fd, os.fstat(floppy.fd).st_size, 0))
        return copy, floppy.device


def debugfs(device: Path, request: str) -> bytes:
    done = subprocess.run(["debugfs", "-R", request, str(device)], capture_output=True, check=True)
    return done.stdout


@pytest.mark.row(102)
@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        1023,
        1024,
        1025,
        12 * 1024 + 1,
        268 * 1024 + 1,
        10**6,
        BORDER - 1,
        BORDER,
        BORDER + 1,
        2 << 20,
        30 << 20,
        60 << 20,
    ],
)
@pytest.mark.parametrize("wanted", [ConfigDevice.AUTO, ConfigDevice.DISK])
def test_every_size_comes_back_from_a_clean_file_system(tmp_path: Path, size: int, wanted: ConfigDevice) -> None:
    device, kind = made(tmp_path, {JOB_FILE: content(size)}, wanted)
    check = subprocess.run(["e2fsck", "-fn", str(device)], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout
    assert debugfs(device, f"cat /{JOB_FILE}") == content(size)
    floppy = wanted is ConfigDevice.AUTO and size <= BORDER
    assert kind is (ConfigDevice.FLOPPY if floppy else ConfigDevice.DISK)
    assert (device.stat().st_size == FLOPPY_SIZE) == floppy
    assert device.stat().st_size % 512 == 0


def test_what_fits_on_a_floppy_goes_on_one_that_is_asked_for(tmp_path: Path) -> None:
    assert made(tmp_path, {JOB_FILE: content(BORDER)}, ConfigDevice.FLOPPY)[1] is ConfigDevice.FLOPPY


def test_what_does_not_fit_on_the_floppy_that_is_asked_for_is_refused_with_the_cure() -> None:
    with (
        pytest.raises(RequestError, match=r"more than a floppy holds; .*HELPER_CONFIG_DEVICE=auto"),
        config_floppy({JOB_FILE: content(BORDER + 1)}, ConfigDevice.FLOPPY),
    ):
        pass


def test_what_fits_nowhere_is_refused() -> None:
    with (
        pytest.raises(RequestError, match="shorten img_personality"),
        config_floppy({JOB_FILE: bytes(64 << 20)}, ConfigDevice.AUTO),
    ):
        pass


def test_many_files_come_back_each_with_its_own_content(tmp_path: Path) -> None:
    files = {f"file-{number}.xml": content(number * 100) for number in range(200)} | {JOB_FILE: b"{}"}
    device, _ = made(tmp_path, files)
    for name in ("file-0.xml", "file-7.xml", "file-199.xml", JOB_FILE):
        assert debugfs(device, f"cat /{name}") == files[name]
    assert subprocess.run(["e2fsck", "-fn", str(device)], capture_output=True, check=False).returncode == 0


def test_it_is_ext2_with_its_label_and_files_that_only_root_can_read(tmp_path: Path) -> None:
    device, _ = made(tmp_path, {JOB_FILE: b"{}"})
    assert device.read_bytes()[1024 + 0x38 : 1024 + 0x3A] == struct.pack("<H", 0xEF53)
    assert device.read_bytes()[1024 + 0x78 : 1024 + 0x88].rstrip(b"\0") == FLOPPY_LABEL.encode()
    shown = debugfs(device, f"stat /{JOB_FILE}").decode()
    assert "Type: regular    Mode:  0600" in shown
    assert shown.replace(" ", "").count("User:0Group:0") == 1


def test_the_descriptor_is_read_only_memory_without_a_name() -> None:
    with config_floppy({JOB_FILE: b"{}"}, ConfigDevice.AUTO) as floppy:
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.pwrite(floppy.fd, b"x", 0)
        assert not os.get_inheritable(floppy.fd)
        assert stat.S_ISREG(os.fstat(floppy.fd).st_mode)
        assert os.readlink(f"/proc/self/fd/{floppy.fd}").endswith("(deleted)")


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.row(89)
@pytest.mark.parametrize("name", [JOB_FILE, "no/such/directory"])
def test_nothing_is_left_of_it_whether_it_could_be_made_or_not(name: str) -> None:
    canary = f"c4n4ry-{os.getpid()}".encode()
    before, mounts = descriptors(), Path("/proc/self/mounts").read_text()
    try:
        with config_floppy({name: canary}, ConfigDevice.AUTO):
            places = [path for place in BUSY_PLACES for path in Path(place).glob("*") if path.is_file()]
            assert not [path for path in places if path.stat().st_size < 1 << 22 and canary in path.read_bytes()]
            assert canary not in Path("/proc/self/cmdline").read_bytes()
    except ProcessError:
        assert name != JOB_FILE
    assert descriptors() == before
    assert Path("/proc/self/mounts").read_text() == mounts


def test_it_is_gone_when_the_block_is_left_by_an_error() -> None:
    before = descriptors()
    with pytest.raises(ZeroDivisionError), config_floppy({JOB_FILE: b"{}"}, ConfigDevice.AUTO):
        raise ZeroDivisionError
    assert descriptors() == before


def test_ganetis_umask_changes_nothing(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        device, _ = made(tmp_path, {JOB_FILE: b"{}"})
    finally:
        os.umask(before)
    assert debugfs(device, f"cat /{JOB_FILE}") == b"{}"
