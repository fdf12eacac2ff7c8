# SPDX-License-Identifier: GPL-2.0-or-later
"""Ganeti renames an instance: through a real helper VM, read back with others' programs."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from block_devices import loop_device
from images.inspection import Tree, check_table, fsck, list_directory, partition_table, read_file, stat_file
from images.layouts import HOSTNAME, LAYOUTS, MACHINE_ID, layout
from leaks import nothing_left
from provider import Instance, Outcome, Provider
from sparse_disks import copy_disk, digest

pytestmark = [pytest.mark.vm, pytest.mark.row(9)]

LAYOUT = "ext4-mbr-primary"
OLD, NEW = "web1.example.com", "web2.example.org"
NOT_RENAMED = "[WARNING] The guest is not renamed: "
FOUND = "ROOT_PARTITION is not given: found"  # the helper's last word before it mounts the guest


@pytest.fixture(autouse=True)
def settings(provider: Provider, cache: Path, tmp_path: Path) -> Iterator[None]:
    """A monitor that would leave a trace; the file is put back afterwards."""
    provider.configure(HELPER_DIR=str(cache / "helper"), PROGRESS_MONITOR=f"touch {tmp_path}/monitored")
    yield
    provider.configure(HELPER_DIR=str(cache / "helper"))


@pytest.fixture
def disk(cache: Path, tmp_path: Path) -> Path:
    """A disk with a guest on it that is called by its short name."""
    disk = tmp_path / "disk"
    copy_disk(layout(LAYOUT, cache), disk)
    disk.chmod(0o600)
    return disk


def root(disk: Path) -> Tree:
    return Tree(disk, LAYOUTS[LAYOUT].root)


def text(disk: Path, path: str) -> str:
    return read_file(root(disk), path).decode()


def rename(provider: Provider, disk: Path, old: str, new: str) -> Outcome:
    """Rename as Ganeti calls it: with the new name in the place of the old, and no more parameters than are kept."""
    return provider.run(Instance(new, (disk,)), "rename", OLD_INSTANCE_NAME=old)


def test_an_instance_is_renamed_once_and_a_name_given_by_hand_stays(
    provider: Provider, cache: Path, tmp_path: Path
) -> None:
    copy_disk(layout(LAYOUT, cache), provider.images / "rename.diskdump")
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate((provider.images / "rename.diskdump").stat().st_size)
    parameters = {"img_id": "rename.diskdump", "img_format": "diskdump"}
    created = provider.run(Instance(OLD, (disk,), parameters=parameters))
    assert created.code == 0, created.log
    (tmp_path / "monitored").unlink()
    table, names = partition_table(disk), list_directory(root(disk), "/etc")
    identity = text(disk, "/etc/machine-id")
    assert identity.strip() != MACHINE_ID
    for _ in range(2):
        with nothing_left(tmp_path):
            outcome = rename(provider, disk, OLD, NEW)
        assert outcome.code == 0, outcome.log
        assert outcome.last_line == f"[INFO] The guest bears the instance's new name, {NEW}."
        assert outcome.messages == []
        assert not (tmp_path / "monitored").exists()
        assert text(disk, "/etc/hostname") == f"{NEW}\n"
        assert re.findall(r"^127\.0\.1\.1\s+(.*)$", text(disk, "/etc/hosts"), re.MULTILINE) == [f"{NEW} web2"]
        assert OLD not in text(disk, "/etc/hosts")
    assert text(disk, "/etc/machine-id") == identity
    assert list_directory(root(disk), "/etc") == names
    status, before = (stat_file(root(place), "/etc/hostname") for place in (disk, layout(LAYOUT, cache)))
    assert (status.uid, status.gid, status.permissions) == (before.uid, before.gid, before.permissions)
    fsck(disk, LAYOUTS[LAYOUT].root)
    assert partition_table(disk) == table
    # Somebody has changed the name, as seen from Ganeti; and the disk is a block device this time.
    with loop_device(disk) as device:
        left_alone = rename(provider, device, "mail.example.com", "smtp.example.com")
    assert left_alone.code == 0, left_alone.log
    assert left_alone.last_line.startswith(
        f"{NOT_RENAMED}it is called {NEW}, which is not the instance's old name mail."
    )
    assert "hostnamectl set-hostname smtp.example.com" in left_alone.last_line
    assert text(disk, "/etc/hostname") == f"{NEW}\n"


def test_a_rename_that_was_killed_leaves_a_guest_that_the_next_one_renames(
    provider: Provider, disk: Path, tmp_path: Path
) -> None:
    old = f"{HOSTNAME}.example.com"
    with nothing_left(tmp_path):
        process = provider.start(Instance(NEW, (disk,)), "rename", OLD_INSTANCE_NAME=old)
        assert process.stdout is not None
        assert any(FOUND in line for line in process.stdout)
        process.kill()
        process.communicate(timeout=600)
    check_table(disk)
    outcome = rename(provider, disk, old, NEW)
    assert outcome.code == 0, outcome.log
    assert outcome.last_line.startswith("[INFO] ")
    assert text(disk, "/etc/hostname") == "web2\n"
    assert re.search(r"^127\.0\.1\.1\s+web2$", text(disk, "/etc/hosts"), re.MULTILINE)
    assert not [name for name in list_directory(root(disk), "/etc") if "snf-image" in name]
    fsck(disk, LAYOUTS[LAYOUT].root)


def test_a_disk_with_no_guest_on_it_is_a_warning_that_ends_the_log(provider: Provider, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(16 << 20)
    with nothing_left(tmp_path):
        outcome = rename(provider, disk, OLD, NEW)
    assert outcome.code == 0, outcome.log
    assert outcome.last_line.startswith(f"{NOT_RENAMED}no operating system is recognised")
    assert "by hand" in outcome.last_line
    assert disk.read_bytes() == bytes(16 << 20)


@pytest.mark.row(87)
def test_a_helper_that_does_not_answer_is_a_failure_and_nothing_is_wiped(
    provider: Provider, cache: Path, disk: Path, tmp_path: Path
) -> None:
    provider.configure(HELPER_DIR=str(cache / "helper"), HELPER_BOOT_TIMEOUT="1")
    before = digest(disk)
    with nothing_left(tmp_path):
        outcome = rename(provider, disk, OLD, NEW)
    assert outcome.code == 6, outcome.log
    assert outcome.last_line.startswith("[ERROR] ")
    assert "HELPER_BOOT_TIMEOUT" in outcome.last_line
    assert f"may still be called {OLD}" in outcome.last_line
    assert digest(disk) == before


def test_the_disk_of_a_running_instance_is_refused(provider: Provider, disk: Path, tmp_path: Path) -> None:
    before = digest(disk)
    monitor = tmp_path / "monitor"
    # As Ganeti's kvm hypervisor starts an instance, but without letting it run: it must change nothing here.
    argv = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-S", "-m", "64", "-accel", "tcg"]
    argv += ["-drive", f"file={disk},format=raw,if=virtio", "-qmp", f"unix:{monitor},server=on,wait=off"]
    with subprocess.Popen(argv) as instance:
        try:
            _wait_for_greeting(monitor, instance)
            outcome = rename(provider, disk, OLD, NEW)
        finally:
            instance.kill()
    assert outcome.code == 5, outcome.log
    assert outcome.last_line.startswith(f"[ERROR] {disk}: ")
    assert "stop the instance first" in outcome.last_line
    assert "VM START" not in outcome.log
    assert digest(disk) == before


def _wait_for_greeting(monitor: Path, instance: subprocess.Popen[bytes]) -> None:
    """QEMU greets when it has started: the socket itself is there before the disk is locked."""
    while not monitor.exists():
        assert instance.poll() is None
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(monitor))
        assert b"QMP" in connection.recv(4096)
