# SPDX-License-Identifier: GPL-2.0-or-later
"""The file system on the last partition fills it: ext before mounting, xfs and btrfs while mounted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import grow_ext, probe
from snf_image_helper.mounting import mounted
from snf_image_helper.system import OsFamily, System
from snf_image_helper.tasks import filesystem_resize_mounted, filesystem_resize_unmounted, fix_partition_table
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import MIB, Listener, filled, image, job, plant_root, private_mounts, sh

pytestmark = pytest.mark.root

ROOT = System(OsFamily.LINUX, 1)


@pytest.fixture(autouse=True)
def _private_mounts() -> Iterator[None]:
    with private_mounts():
        yield


def grow_all(disk: Disk, **properties: str) -> Listener:
    """All three tasks, as customize() runs them."""
    listener = Listener()
    wishes = job(**properties)
    disk.system = ROOT
    fix_partition_table.TASK.run(disk, wishes, listener.reporter)
    filesystem_resize_unmounted.TASK.run(disk, wishes, listener.reporter)
    with mounted(disk, ROOT, listener.reporter) as guest:
        filesystem_resize_mounted.TASK.run(guest, wishes, listener.reporter)
    return listener


def plant(disk: Disk, kind: str, fstab: str = "") -> None:
    disk.reload()
    with filled(disk.partition_device(1), kind) as place:
        plant_root(place, fstab)


def partition_mib(disk: Disk, number: int) -> int:
    found = disk.require_table().partition(number)
    assert found is not None
    return found.size * disk.sector_size // MIB


def ext_mib(device: str) -> int:
    count, size = re.findall(r"^Block (?:count|size):\s+(\d+)", sh("dumpe2fs", "-h", device), re.MULTILINE)
    return int(count) * int(size) // MIB


@pytest.mark.row(125)
@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_ext_grows_keeps_its_uuid_and_stays_clean(tmp_path: Path, kind: str) -> None:
    with image(tmp_path / "d", "label: dos\nsize=40960\n", {1: (f"mkfs.{kind}", "-q")}, grow_to=300) as disk:
        plant(disk, kind)
        device = disk.partition_device(1)
        before = probe([device])[device].uuid
        listener = grow_all(disk)
        assert ext_mib(device) == 298
        assert probe([device])[device].uuid == before
        assert sh("e2fsck", "-fn", device)
        assert listener.warnings == []


@pytest.mark.row(129)
def test_xfs_grows_while_mounted(tmp_path: Path) -> None:
    script = "label: gpt\nsize=700000\n"
    with image(tmp_path / "d", script, {1: ("mkfs.xfs", "-q")}, mib=400, grow_to=600) as disk:
        plant(disk, "xfs")
        grow_all(disk)
        device = disk.partition_device(1)
        sh("xfs_repair", "-n", device)
        with filled(device, "xfs") as place:
            assert os.statvfs(place).f_blocks * os.statvfs(place).f_frsize > 500 * MIB


@pytest.mark.row(129)
def test_btrfs_grows_while_mounted_in_a_subvolume(tmp_path: Path) -> None:
    with image(tmp_path / "d", "label: gpt\nsize=262144\n", {1: ("mkfs.btrfs", "-q")}, mib=160, grow_to=300) as disk:
        disk.reload()
        with filled(disk.partition_device(1), "btrfs") as place:
            sh("btrfs", "subvolume", "create", str(place / "@"))
            plant_root(place / "@", "/dev/sda1 / btrfs subvol=@\n")
        grow_all(disk)
        device = disk.partition_device(1)
        sh("btrfs", "check", device)
        with filled(device, "btrfs") as place:
            assert os.statvfs(place).f_blocks * os.statvfs(place).f_frsize == 298 * MIB


@pytest.mark.parametrize("fstab", ["LABEL=data /srv/data btrfs defaults\n", ""])
def test_a_last_partition_that_is_not_the_roots_keeps_its_size_and_so_does_its_file_system(
    tmp_path: Path, fstab: str
) -> None:
    made = {1: ("mkfs.ext4", "-q"), 2: ("mkfs.btrfs", "-q", "-L", "data")}
    with image(tmp_path / "d", "label: gpt\nsize=20480\nsize=262144\n", made, mib=160, grow_to=300) as disk:
        plant(disk, "ext4", fstab)
        with filled(disk.partition_device(1), "ext4") as place:
            (place / "srv/data").mkdir(parents=True)
        listener = grow_all(disk)
        with filled(disk.partition_device(2), "btrfs") as place:
            assert os.statvfs(place).f_blocks * os.statvfs(place).f_frsize == 128 * MIB
        assert partition_mib(disk, 2) == 128
    assert any("is not the root's, and holds btrfs" in text for text in listener.warnings)


@pytest.mark.parametrize(("swap", "mib"), [("2:100", 198), ("5:100", 197)])
def test_swap_behind_the_root_does_not_hide_it(tmp_path: Path, swap: str, mib: int) -> None:
    with image(tmp_path / "d", "label: dos\nsize=40960\n", {1: ("mkfs.ext4", "-q")}, grow_to=300) as disk:
        plant(disk, "ext4")
        grow_all(disk, SWAP=swap)
        assert ext_mib(disk.partition_device(1)) == partition_mib(disk, 1) == mib


@pytest.mark.parametrize(
    ("kind", "command"), [("vfat", ("mkfs.vfat",)), ("swap", ("mkswap",)), ("no known file system", ("true",))]
)
def test_what_cannot_grow_is_a_warning(tmp_path: Path, kind: str, command: tuple[str, ...]) -> None:
    with image(tmp_path / "d", "label: dos\nsize=40960\n", {1: command}, grow_to=100) as disk:
        disk.reload()
        disk.system = ROOT
        listener = Listener()
        filesystem_resize_unmounted.TASK.run(disk, job(), listener.reporter)
    assert listener.warnings == [f"partition 1 holds {kind}, which is not resized"]


def test_a_last_partition_that_stays_as_it_is_is_a_warning(tmp_path: Path) -> None:
    with image(tmp_path / "d", "label: gpt\nsize=40960,type=U\n", {}, grow_to=100) as disk:
        listener = Listener()
        filesystem_resize_unmounted.TASK.run(disk, job(), listener.reporter)
    assert "not one that grows" in listener.warnings[0]


@pytest.fixture
def ext4(tmp_path: Path) -> str:
    """An ext4 in a file that is larger than it: the tools take files as well."""
    path = str(tmp_path / "ext4")
    sh("mkfs.ext4", "-q", path, "16M")
    os.truncate(path, 64 * MIB)
    return path


@pytest.mark.row(128)
def test_eatmydata_is_left_out_when_flushes_are_asked_for(ext4: str, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Path(ext4).parent / "bin"
    programs.mkdir()
    (programs / "eatmydata").write_text(f'#!/bin/sh\ntouch {programs}/called\nexec "$@"\n')
    (programs / "eatmydata").chmod(0o755)
    search_path = f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin"
    monkeypatch.setattr("snf_image_shared.process.SEARCH_PATH", search_path)
    monkeypatch.setenv("PATH", search_path)
    assert grow_ext(ext4, durable=True) == ()
    assert not (programs / "called").exists()
    assert grow_ext(ext4, durable=False) == ()
    assert (programs / "called").exists()
    assert ext_mib(ext4) == 64


@pytest.mark.row(126)
def test_a_journal_is_replayed_with_a_warning(tmp_path: Path) -> None:
    with image(tmp_path / "d", "label: dos\nsize=40960\n", {1: ("mkfs.ext4", "-q")}, grow_to=100) as disk:
        disk.reload()
        device = disk.partition_device(1)
        with filled(device, "ext4") as place:
            (place / "file").write_text("written, then the power went\n")
            sh("sync", "-f", str(place))
            crashed = Path(device).read_bytes()
        Path(device).write_bytes(crashed)
        assert "needs_recovery" in sh("dumpe2fs", "-h", device)
        (warning,) = grow_ext(device, durable=False)
        assert "journal has been replayed" in warning
        assert sh("e2fsck", "-fn", device)


@pytest.mark.row(127)
def test_what_e2fsck_repairs_by_itself_is_a_warning(ext4: str) -> None:
    sh("debugfs", "-w", "-R", "sif / links_count 9", ext4)
    (warning,) = grow_ext(ext4, durable=False)
    assert "repaired" in warning
    assert sh("e2fsck", "-fn", ext4)


@pytest.mark.row(127)
def test_what_e2fsck_leaves_to_people_ends_it_with_its_finding(ext4: str) -> None:
    sh("debugfs", "-w", "-R", "clri /", ext4)
    with pytest.raises(GuestError, match=r"e2fsck failed with status 4.*run e2fsck -f on the image"):
        grow_ext(ext4, durable=False)


def test_both_heed_the_property_that_turns_resizing_off() -> None:
    assert filesystem_resize_unmounted.TASK.resizes
    assert filesystem_resize_mounted.TASK.resizes
