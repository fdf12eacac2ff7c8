# SPDX-License-Identifier: GPL-2.0-or-later
"""Renaming guests on real disks: found, mounted, renamed, let go of; what cannot be done is a warning."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.disks.disk import Disk
from snf_image_helper.rename import rename, rename_on
from snf_image_shared.errors import GuestError
from snf_image_shared.job import JOB_VERSION, Action, Job
from snf_image_shared.report import NOT_RENAMED
from unit.helper.disk_images import Listener, attached, filled, image, plant_root, private_mounts, sh, table_of

pytestmark = [pytest.mark.root, pytest.mark.row(9)]

OLD, NEW = "web1.example.com", "web2.example.org"
JOB = Job(JOB_VERSION, NEW, NEW, "", ("disk-0",), Action.RENAME, OLD)
ONE = "label: gpt\nstart=2048\n"
TWO = "label: gpt\nsize=40960\nsize=40960\n"
EXT4 = ("mkfs.ext4", "-q")
_SHUTDOWN, _LOG_FLUSHED = 0x8004587D, 1  # linux: EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are one number


@pytest.fixture(autouse=True)
def _private_mounts() -> Iterator[None]:
    with private_mounts():
        yield


def plant_guest(place: Path, fstab: str = "") -> None:
    """A Linux root that is called web1."""
    plant_root(place, fstab)
    (place / "etc/hostname").write_text("web1\n")
    (place / "etc/hosts").write_text(f"127.0.1.1 {OLD} web1\n")


def run(disk: Disk, old: str = OLD, /, **properties: str) -> Listener:
    """Rename the guest on the disk; what was said."""
    listener = Listener()
    rename_on(disk, replace(JOB, old_hostname=old, properties=properties), listener.reporter)
    return listener


def hostname(disk: Disk, partition: int, kind: str) -> str:
    with filled(disk.partition_device(partition), kind, "ro") as place:
        return (place / "etc/hostname").read_text()


def digest(disk: Disk) -> str:
    with Path(disk.device).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def guest_on(path: Path, kind: str, make: tuple[str, ...], mib: int) -> Iterator[Disk]:
    with image(path, ONE, {1: make}, mib=mib) as disk:
        disk.reload()
        with filled(disk.partition_device(1), kind) as place:
            plant_guest(place)
        yield disk


@pytest.mark.parametrize(
    ("kind", "make", "mib"),
    [
        ("ext4", EXT4, 32),
        ("ext3", ("mkfs.ext3", "-q"), 32),
        ("xfs", ("mkfs.xfs", "-q"), 320),
        ("btrfs", ("mkfs.btrfs", "-q"), 128),
    ],
)
def test_a_guest_is_found_and_renamed_on_every_file_system(
    tmp_path: Path, kind: str, make: tuple[str, ...], mib: int
) -> None:
    with guest_on(tmp_path / "disk", kind, make, mib) as disk:
        said = run(disk)
        assert said.tasks == [
            f"task-{end} {task}" for task in ("MountImage", "AssignHostname", "UmountImage") for end in ("start", "end")
        ]
        assert [text for text in said.warnings if not text.startswith("Property ")] == []
        with filled(disk.partition_device(1), kind, "ro") as place:
            assert (place / "etc/hostname").read_text() == "web2\n"
            assert (place / "etc/hosts").read_text() == f"127.0.1.1 {NEW} web2\n"
            assert sorted(entry.name for entry in (place / "etc").iterdir()) == [
                *("fstab", "hostname", "hosts", "os-release"),
            ]
        assert run(disk, OSFAMILY="linux", ROOT_PARTITION="1").warnings == []


@pytest.mark.parametrize(("kind", "make", "mib"), [("ext4", EXT4, 32), ("xfs", ("mkfs.xfs", "-q"), 320)])
def test_the_journal_of_a_guest_that_was_not_shut_down_is_replayed_first(
    tmp_path: Path, kind: str, make: tuple[str, ...], mib: int
) -> None:
    with guest_on(tmp_path / "disk", kind, make, mib) as disk:
        with filled(disk.partition_device(1), kind) as place:
            for name in ("written-late", "hostname"):
                (place / "etc" / f"{name}.new").write_text(f"{OLD}\n")
                with (place / "etc" / f"{name}.new").open("rb") as file:
                    os.fsync(file)
                (place / "etc" / f"{name}.new").rename(place / "etc" / name)
            root = os.open(place, os.O_RDONLY)
            fcntl.ioctl(root, _SHUTDOWN, struct.pack("I", _LOG_FLUSHED))
            os.close(root)
        said = run(disk)
        assert [text for text in said.warnings if not text.startswith("Property ")] == []
        with filled(disk.partition_device(1), kind, "ro") as place:
            assert (place / "etc/hostname").read_text() == f"{NEW}\n"
            assert (place / "etc/written-late").read_text() == f"{OLD}\n"


def test_nothing_but_what_a_name_needs_is_mounted_and_what_is_missing_does_no_harm(tmp_path: Path) -> None:
    fstab = (
        "UUID=00000000-dead-4bad-8000-000000000000 /home ext4 defaults 0 2\n"
        "/dev/sdb1 /srv xfs defaults 0 2\n/dev/vg/var /var ext4 defaults 0 2\nLABEL=usr /usr ext4 ro 0 2\n"
    )
    with image(tmp_path / "disk", TWO, {1: EXT4, 2: (*EXT4, "-L", "usr")}) as disk:
        disk.reload()
        with filled(disk.partition_device(1), "ext4") as place:
            plant_guest(place, fstab)
            for name in ("home", "srv", "var", "usr"):
                (place / name).mkdir()
            (place / "etc/os-release").unlink()
            (place / "etc/os-release").symlink_to("../usr/lib/os-release")
            (place / "etc/HOSTNAME").write_text("web1\n")
        with filled(disk.partition_device(2), "ext4") as place:
            (place / "lib").mkdir()
            (place / "lib/os-release").write_text("ID=slackware\n")
        said = run(disk, OSFAMILY="linux", ROOT_PARTITION="1")
        warning = said.warnings[-1]
        assert warning.startswith("/etc/fstab: /var (/dev/vg/var): ")
        with filled(disk.partition_device(1), "ext4", "ro") as place:
            assert (place / "etc/HOSTNAME").read_text() == "web2\n"


def test_a_guest_of_another_name_is_let_go_of_in_order_and_the_last_word_says_what_to_do(tmp_path: Path) -> None:
    with guest_on(tmp_path / "disk", "ext4", EXT4, 32) as disk:
        said = run(disk, "mail.example.com")
        assert said.tasks[-2:] == ["task-start UmountImage", "task-end UmountImage"]
        last = said.warnings[-1]
        assert last.startswith(f"{NOT_RENAMED}: it is called web1, which is not the instance's old name mail.")
        assert f"hostnamectl set-hostname {NEW}" in last
        assert hostname(disk, 1, "ext4") == "web1\n"


def assert_left_alone(disk: Disk, *words: str, **properties: str) -> None:
    """A warning with the words, every task ended, and not a byte of the disk changed."""
    before = digest(disk)
    said = run(disk, **properties)
    assert said.warnings[-1].startswith(f"{NOT_RENAMED}: ")
    for word in words:
        assert word in said.warnings[-1]
    started = [task for task in said.tasks if task.startswith("task-start")]
    assert len(said.tasks) == 2 * len(started)
    assert digest(disk) == before


def test_an_empty_disk_is_left_alone(tmp_path: Path) -> None:
    with (tmp_path / "disk").open("wb") as file:
        file.truncate(16 << 20)
    with attached(tmp_path / "disk") as disk:
        assert_left_alone(disk, "no partition table", "nothing was recognised")


def test_a_disk_without_partitions_is_left_alone(tmp_path: Path) -> None:
    with (tmp_path / "disk").open("wb") as file:
        file.truncate(16 << 20)
    sh(*EXT4, "-F", str(tmp_path / "disk"))
    with attached(tmp_path / "disk") as disk:
        assert_left_alone(disk, "bare ext4")


def test_a_disk_of_lvm_is_left_alone(tmp_path: Path) -> None:
    table_of(tmp_path / "disk", ONE, 16)
    label = bytearray(b"LABELONE" + struct.pack("<QII", 1, 0, 32) + b"LVM2 001" + b"x" * 32)
    label += bytes(512 - len(label))
    checksum = 0xF597A6CF
    for byte in label[20:]:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum >> 1 ^ (0xEDB88320 if checksum & 1 else 0)
    label[16:20] = struct.pack("<I", checksum)
    with (tmp_path / "disk").open("r+b") as file:
        file.seek((1 << 20) + 512)
        file.write(label)
    with attached(tmp_path / "disk") as disk:
        assert_left_alone(disk, "LVM")


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"OSFAMILY": "windows", "ROOT_PARTITION": "1"}, ("windows",)),
        ({"OSFAMILY": "linux", "ROOT_PARTITION": "7"}, ("ROOT_PARTITION",)),
        ({"OSFAMILY": "linux", "ROOT_PARTITION": "2"}, ("no operating system", "p2: nothing known")),
        ({"OSFAMILY": "beos"}, ("OSFAMILY",)),
    ],
)
def test_what_the_properties_say_is_believed(tmp_path: Path, properties: dict[str, str], words: tuple[str]) -> None:
    with image(tmp_path / "disk", TWO, {1: EXT4}) as disk:
        disk.reload()
        with filled(disk.partition_device(1), "ext4") as place:
            plant_guest(place)
        assert_left_alone(disk, *words, **properties)


def test_a_damaged_file_system_is_left_alone(tmp_path: Path) -> None:
    with guest_on(tmp_path / "disk", "ext4", EXT4, 32) as disk:
        device = disk.partition_device(1)
        sh("debugfs", "-w", "-R", "clri <2>", device)
        said = run(disk, OSFAMILY="linux", ROOT_PARTITION="1")
        assert said.tasks == ["task-start MountImage", "task-end MountImage"]
        warning = said.warnings[-1]
        assert warning.startswith(f"{NOT_RENAMED}: MountImage: ")
        assert "check it with fsck" in warning


@pytest.mark.parametrize("version", ["2", "3", "4"])
def test_a_file_system_in_which_errors_have_been_found_is_left_alone(tmp_path: Path, version: str) -> None:
    with guest_on(tmp_path / "disk", f"ext{version}", (f"mkfs.ext{version}", "-q"), 32) as disk:
        sh("debugfs", "-w", "-R", "ssv state 3", disk.partition_device(1))
        assert "has errors; start the guest, which checks it" in run(disk).warnings[-1]
        assert hostname(disk, 1, f"ext{version}") == "web1\n"
        subprocess.run(["e2fsck", "-p", "-f", disk.partition_device(1)], check=False)
        assert "errors" not in run(disk).warnings[-1]
        assert hostname(disk, 1, f"ext{version}") == "web2\n"


def test_a_system_that_sleeps_on_the_disk_is_left_alone(tmp_path: Path) -> None:
    with image(tmp_path / "disk", TWO, {1: EXT4, 2: ("mkswap",)}) as disk:
        disk.reload()
        with filled(disk.partition_device(1), "ext4") as place:
            plant_guest(place)
        assert run(disk).warnings[-1].startswith("Property ")
        with Path(disk.partition_device(2)).open("r+b") as file:
            file.seek(os.sysconf("SC_PAGE_SIZE") - 10)
            file.write(b"S1SUSPEND\0")
        assert_left_alone(disk, "suspended to partition 2", "start it and shut it down")


def test_a_disk_that_is_missing_is_no_fault_of_the_guest() -> None:
    listener = Listener()
    with pytest.raises(GuestError, match="no disk with serial number"):
        rename(replace(JOB, disks=()), listener.reporter)
