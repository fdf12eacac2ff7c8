# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever goes wrong: the documented exit, a last line that says why, a disk that does not boot, nothing left over."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images.layouts import layout
from leaks import nothing_left, open_to_others, sightings
from provider import Instance, Outcome, Provider
from sparse_disks import copy_disk, digest

pytestmark = pytest.mark.vm

MIB = 1 << 20
CANARY = (
    f"Canary-{secrets.token_hex(6)}-password"  # made here: a copy of this file in a temporary place must not hold it
)
LATE = "Image customization failed. Did not finish on time."
LIMITED = {"HELPER_BOOT_TIMEOUT": "600", "HELPER_SOFT_TIMEOUT": "20", "HELPER_HARD_TIMEOUT": "3"}


@pytest.fixture(autouse=True)
def settings(provider: Provider, cache: Path) -> Iterator[None]:
    """Deadlines short enough for a test; the file is put back afterwards."""
    provider.configure(HELPER_DIR=str(cache / "helper"))
    yield
    provider.configure(HELPER_DIR=str(cache / "helper"))


@pytest.fixture
def instance(provider: Provider, cache: Path, tmp_path: Path) -> Instance:
    """An instance on a disk twice the size of its image, with garbage where an old system may have been."""
    image = layout("ext4-mbr-primary", cache)
    copy_disk(image, provider.images / "small.diskdump")
    disk = tmp_path / "disk"
    size = 2 * image.stat().st_size
    with disk.open("wb") as file:
        file.truncate(size)
        file.write(b"old system" * 100_000)
        file.seek(size - MIB)
        file.write(b"old backup" * 100_000)
    parameters = {"img_id": "small.diskdump", "img_format": "diskdump", "img_passwd": CANARY}
    return Instance("failing.example.com", (disk,), parameters=parameters)


def with_task(instance: Instance, script: str) -> Instance:
    """The instance with a custom task: the tenant's own program, root inside the helper VM."""
    task = base64.b64encode(f"#!/bin/sh\n{script}\n".encode()).decode()
    parameters = dict(instance.parameters) | {"img_properties": {"CUSTOM_TASK": task}}
    return Instance(instance.name, instance.disks, instance.nics, parameters)


def assert_failed(outcome: Outcome, code: int, *reasons: str) -> None:
    """The exit code, and a last line with all the reasons in it, which the monitor was told once."""
    assert outcome.code == code, outcome.log
    assert outcome.last_line.startswith("[ERROR] ")
    for reason in reasons:
        assert reason in outcome.last_line, outcome.log
    errors = [message for message in outcome.messages if message["type"] == "image-error"]
    assert len(errors) == 1
    assert CANARY not in outcome.log


def assert_does_not_boot(disk: Path) -> None:
    """Neither a boot sector nor a partition table, primary or backup, is on the disk."""
    with disk.open("rb") as file:
        assert not any(file.read(MIB))
        file.seek(-MIB, 2)
        assert not any(file.read(MIB))


@pytest.mark.image_row(97)
@pytest.mark.row(87)
def test_a_hung_helper_is_stopped(provider: Provider, instance: Instance, cache: Path, tmp_path: Path) -> None:
    provider.configure(HELPER_DIR=str(cache / "helper"), **LIMITED)
    with nothing_left(tmp_path):
        outcome = provider.run(with_task(instance, "while :; do :; done"))
    assert_failed(outcome, 6, LATE, "HELPER_SOFT_TIMEOUT")
    assert_does_not_boot(instance.disks[0])


@pytest.mark.row(87)
def test_a_helper_that_never_boots_is_stopped(
    provider: Provider, instance: Instance, cache: Path, tmp_path: Path
) -> None:
    provider.configure(HELPER_DIR=str(cache / "helper"), HELPER_BOOT_TIMEOUT="1")
    with nothing_left(tmp_path):
        outcome = provider.run(instance)
    assert_failed(outcome, 6, LATE, "HELPER_BOOT_TIMEOUT")
    assert_does_not_boot(instance.disks[0])


@pytest.mark.image_row(97)
@pytest.mark.row(87)
def test_a_panicking_helper_ends_at_once(provider: Provider, instance: Instance, tmp_path: Path) -> None:
    with nothing_left(tmp_path):
        outcome = provider.run(with_task(instance, "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger"))
    assert_failed(outcome, 6, "Image customization failed.")
    assert "HELPER: " in outcome.log
    assert_does_not_boot(instance.disks[0])


@pytest.mark.row(86)
@pytest.mark.parametrize(
    "script",
    [
        pytest.param("for n in 0 1; do echo SUCCESS > /dev/ttyS$n; done; exit 1", id="success before the error"),
        pytest.param("echo SUCCESS > /dev/ttyS1; exit 0", id="success twice"),
        pytest.param("echo SUCCESS > /dev/ttyS1; sleep 1; busybox poweroff -f", id="success and power-off in mid-task"),
        pytest.param("printf 'not json\\n' > /dev/ttyS2; exit 0", id="rubbish on the report port"),
    ],
)
def test_a_forged_result_is_no_success(provider: Provider, instance: Instance, tmp_path: Path, script: str) -> None:
    with nothing_left(tmp_path):
        outcome = provider.run(with_task(instance, script))
    assert_failed(outcome, 6, "Image customization failed.")
    assert_does_not_boot(instance.disks[0])


@pytest.mark.row(85, 88)
def test_megabytes_of_console_neither_fill_the_log_nor_stop_the_deployment(
    provider: Provider, instance: Instance, tmp_path: Path
) -> None:
    # Written to /dev/kmsg it would be rate-limited; the raw port takes all, terminal escapes and long lines included,
    # but slowly. Ten megabytes and more go through a socket in unit/host/test_serial_ports.py.
    noise = r"head -c 3000000 /dev/zero | tr '\0' '\033' > /dev/ttyS0; printf '\033[2Jclean\n' > /dev/ttyS0"
    with nothing_left(tmp_path):
        outcome = provider.run(with_task(instance, noise))
    assert outcome.code == 0, outcome.log[-3000:]
    assert len(outcome.log) < 2 * MIB  # the limit of the console, and what else is said
    assert "\033" not in outcome.log
    assert "the rest is not logged" in outcome.log


COPYING = "Starting image copy"
CUSTOMIZING = r"VM START"
IN_A_TASK = "task-start"


@pytest.mark.image_row(97)
@pytest.mark.row(24, 90)
@pytest.mark.parametrize("stage", [COPYING, CUSTOMIZING, IN_A_TASK])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_killed_create_leaves_nothing_that_boots_and_nothing_else(
    provider: Provider, instance: Instance, tmp_path: Path, number: signal.Signals, code: int, stage: str
) -> None:
    with nothing_left(tmp_path):
        process = provider.start(with_task(instance, "sleep 600"))
        log = _read_until(process, stage)
        process.send_signal(number)
        rest, _ = process.communicate(timeout=600)
        assert process.returncode == code, log + rest
    assert_does_not_boot(instance.disks[0])
    assert CANARY not in log + rest
    if number == signal.SIGTERM:
        assert "ended by SIGTERM" in rest.splitlines()[-1]


def test_a_second_run_after_a_kill_succeeds(provider: Provider, instance: Instance, tmp_path: Path) -> None:
    process = provider.start(instance)
    _read_until(process, CUSTOMIZING)
    process.kill()
    process.communicate(timeout=600)
    outcome = provider.run(instance)
    assert outcome.code == 0, outcome.log


@pytest.mark.row(190)
def test_a_helper_image_replaced_meanwhile_is_used_to_the_end(
    provider: Provider, instance: Instance, cache: Path, tmp_path: Path
) -> None:
    helper = tmp_path / "helper"
    shutil.copytree(cache / "helper", helper)
    provider.configure(HELPER_DIR=str(helper))
    process = provider.start(instance)
    log = _read_until(process, COPYING)
    shutil.rmtree(helper)
    rest, _ = process.communicate(timeout=600)
    assert process.returncode == 0, log + rest


@pytest.mark.row(101)
def test_two_runs_on_one_disk_at_once_do_not_meet(provider: Provider, instance: Instance, tmp_path: Path) -> None:
    with nothing_left(tmp_path):
        # Longer than the second one waits for the lock of a run that is just ending.
        first = provider.start(with_task(instance, "sleep 30"))
        _read_until(first, CUSTOMIZING)
        second = provider.run(instance)
        rest, _ = first.communicate(timeout=600)
    assert_failed(second, 5, str(instance.disks[0]))
    assert first.returncode == 0, rest


def test_a_full_disk_below_a_sparse_file_is_an_error(provider: Provider, instance: Instance, tmp_path: Path) -> None:
    """A disk whose file system is full while it is written: a sparse file on a tmpfs of 8 MiB."""
    mountpoint = tmp_path / "small"
    mountpoint.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(mountpoint)], check=True)
    try:
        disk = mountpoint / "disk"
        with disk.open("wb") as file:
            file.truncate(instance.disks[0].stat().st_size)
        outcome = provider.run(Instance(instance.name, (disk,), parameters=instance.parameters))
        assert_failed(outcome, 5, str(disk), "No space left on device", "make space")
        assert_does_not_boot(disk)
    finally:
        subprocess.run(["umount", str(mountpoint)], check=True)


def test_what_the_storage_does_not_take_from_the_helper_is_an_error(
    provider: Provider, instance: Instance, tmp_path: Path
) -> None:
    """Its kernel finds out when nobody waits for the result any more. A tmpfs holds the image and little else."""
    mountpoint = tmp_path / "small"
    mountpoint.mkdir()
    image = provider.images / "small.diskdump"
    size = image.stat().st_blocks * 512 + 8 * MIB
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(mountpoint)], check=True)
    try:
        disk = mountpoint / "disk"
        with disk.open("wb") as file:
            file.truncate(instance.disks[0].stat().st_size)
        writing = with_task(instance, 'dd if=/dev/urandom of="$SNF_IMAGE_TARGET/much" bs=1M count=16')
        outcome = provider.run(Instance(instance.name, (disk,), parameters=writing.parameters))
        assert_failed(outcome, 6, "disk0", "No space left on device", "is it full?")
        assert_does_not_boot(disk)
    finally:
        subprocess.run(["umount", str(mountpoint)], check=True)


def test_a_corrupt_file_system_is_an_error_of_the_tool_that_found_it(
    provider: Provider, instance: Instance, tmp_path: Path
) -> None:
    image = provider.images / "small.diskdump"
    with image.open("r+b") as file:
        for group in range(1, 40):  # block and inode bitmaps, inode tables: everything but the superblock
            file.seek(MIB + group * 65536)
            file.write(b"\xff" * 65536)
    parameters = dict(instance.parameters) | {"img_properties": {"OSFAMILY": "linux", "ROOT_PARTITION": 1}}
    with nothing_left(tmp_path):
        outcome = provider.run(Instance(instance.name, instance.disks, parameters=parameters))
    assert_failed(outcome, 6, "Image customization failed.", "FilesystemResizeUnmounted", "e2fsck")
    assert_does_not_boot(instance.disks[0])


@pytest.mark.row(43, 199, 200)
def test_no_secret_is_seen_while_it_runs_or_after(provider: Provider, instance: Instance, tmp_path: Path) -> None:
    usual = os.umask(0)
    try:
        process = provider.start(instance)
    finally:
        os.umask(usual)
    log = _read_until(process, COPYING)
    seen: list[str] = []
    while process.poll() is None:
        seen += sightings(CANARY, tmp_path) + open_to_others(tmp_path)
        time.sleep(0.1)
    log += process.communicate(timeout=600)[0]
    assert process.returncode == 0, log
    assert seen + sightings(CANARY, tmp_path) == []
    assert CANARY not in log
    grep = subprocess.run(["grep", "--quiet", "--text", CANARY, str(instance.disks[0])], check=False)
    assert grep.returncode == 1, "the password itself is on the disk"


Break = Callable[[Provider, Instance, Path], Instance]


def _without_helper(provider: Provider, instance: Instance, tmp_path: Path) -> Instance:
    provider.configure(HELPER_DIR=str(tmp_path / "nothing"))
    return instance


def _of_another_version(provider: Provider, instance: Instance, tmp_path: Path) -> Instance:
    helper = _helper_dir(provider)
    other = tmp_path / "helper"
    shutil.copytree(helper, other)
    manifest = other / "manifest.json"
    manifest.write_text(re.sub(r'"version": "[^"]*"', '"version": "0.23.1"', manifest.read_text()))
    provider.configure(HELPER_DIR=str(other))
    return instance


def _without_qemu(provider: Provider, instance: Instance, tmp_path: Path) -> Instance:
    provider.configure(HELPER_DIR=str(_helper_dir(provider)), KVM="qemu-system-that-is-not-there")
    return instance


def _on_a_small_disk(provider: Provider, instance: Instance, tmp_path: Path) -> Instance:
    with instance.disks[0].open("r+b") as file:
        file.truncate((provider.images / "small.diskdump").stat().st_size - 512)
    return instance


def _on_no_disk(provider: Provider, instance: Instance, tmp_path: Path) -> Instance:
    return Instance(instance.name, (tmp_path / "nowhere",), parameters=instance.parameters)


def _with_more_than_a_floppy_holds(provider: Provider, instance: Instance, tmp_path: Path) -> Instance:
    helper = re.search(r"HELPER_DIR='(.*)'", (provider.root / "etc/snf-image/snf-image.conf").read_text())[1]  # type: ignore[index]
    large = json.dumps([{"path": "/srv/large", "contents": base64.b64encode(bytes(2 * MIB)).decode()}])
    provider.configure(HELPER_DIR=helper, HELPER_CONFIG_DEVICE="floppy", IMG_PERSONALITY=large)
    return instance


def _of_a_missing_image(provider: Provider, instance: Instance, tmp_path: Path) -> Instance:
    parameters = dict(instance.parameters) | {"img_id": "nothing.diskdump"}
    return Instance(instance.name, instance.disks, parameters=parameters)


def _with_an_unknown_format(provider: Provider, instance: Instance, tmp_path: Path) -> Instance:
    return Instance(instance.name, instance.disks, parameters=dict(instance.parameters) | {"img_format": "koko"})


@pytest.mark.row(25, 32, 106)
@pytest.mark.parametrize(
    ("breaking", "code", "words"),
    [
        pytest.param(_without_helper, 3, ("helper image", "snf-image-update-helper"), id="helper image missing"),
        pytest.param(_of_another_version, 3, ("0.23.1", "snf-image-update-helper"), id="helper of another version"),
        pytest.param(_without_qemu, 3, ("qemu-system-that-is-not-there", "apt install"), id="QEMU missing"),
        pytest.param(
            _on_a_small_disk, 4, ("small.diskdump", "give a disk of at least 512 MiB"), id="image larger than the disk"
        ),
        pytest.param(_on_no_disk, 5, ("nowhere",), id="disk missing"),
        pytest.param(_of_a_missing_image, 4, ("nothing.diskdump",), id="image missing"),
        pytest.param(
            _with_more_than_a_floppy_holds,
            2,
            ("img_personality", "HELPER_CONFIG_DEVICE"),
            id="more than a floppy holds",
        ),
        pytest.param(_with_an_unknown_format, 2, ("img_format", "koko", "diskdump"), id="unknown format"),
    ],
)
def test_what_can_be_known_beforehand_is_refused_before_anything_is_written(
    provider: Provider, instance: Instance, tmp_path: Path, breaking: Break, code: int, words: tuple[str, ...]
) -> None:
    broken = breaking(provider, instance, tmp_path)
    before = digest(instance.disks[0])
    with nothing_left(tmp_path):
        outcome = provider.run(broken)
    assert_failed(outcome, code, *words)
    assert digest(instance.disks[0]) == before


def _helper_dir(provider: Provider) -> Path:
    settings = (provider.root / "etc/snf-image/snf-image.conf").read_text()
    return Path(settings.partition("HELPER_DIR='")[2].partition("'")[0])


def _read_until(process: subprocess.Popen[str], mark: str) -> str:
    """Everything up to the line with the mark."""
    assert process.stdout is not None
    log = ""
    for line in process.stdout:
        log += line
        if mark in line:
            return log
    raise AssertionError(f"{mark!r} never came:\n{log}")


@pytest.fixture
def open_kvm() -> Iterator[None]:
    """A /dev/kvm that everybody may open, as on a node where KVM is set up, whether it works or not."""
    device = Path("/dev/kvm")
    existed = device.exists()
    if not existed:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(10, 232))
    mode = device.stat().st_mode
    device.chmod(0o666)
    yield
    if existed:
        device.chmod(stat.S_IMODE(mode))
    else:
        device.unlink()


@pytest.mark.usefixtures("open_kvm")
def test_a_vm_that_ends_without_a_word_is_tried_with_the_other_accelerator_and_kvm_is_not_blamed(
    provider: Provider, instance: Instance, cache: Path
) -> None:
    memory = provider.root / "run/snf-image"
    shutil.rmtree(memory, ignore_errors=True)
    provider.configure(HELPER_DIR=str(cache / "helper"), KVM="true")
    outcome = provider.run(instance)
    assert_failed(outcome, 6, "Image customization failed.", "ended before its helper said a word")
    assert "trying tcg" in outcome.log
    assert not memory.exists()
    assert_does_not_boot(instance.disks[0])


@pytest.mark.row(93)
@pytest.mark.usefixtures("open_kvm")
def test_a_kvm_that_does_not_work_is_given_up_once_and_for_all(provider: Provider, instance: Instance) -> None:
    memory = provider.root / "run/snf-image"
    shutil.rmtree(memory, ignore_errors=True)
    first, second = provider.run(instance), provider.run(instance)
    assert (first.code, second.code) == (0, 0), first.log + second.log
    fell_back = "trying tcg" in first.log
    assert first.log.count("VM START") == 1 + fell_back
    assert second.log.count("VM START") == 1
    assert memory.exists() == fell_back
    shutil.rmtree(memory, ignore_errors=True)
