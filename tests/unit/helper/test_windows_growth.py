# SPDX-License-Identifier: GPL-2.0-or-later
"""C: of a Windows fills a larger disk: its partition here, its file system at the first boot or offline."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from images.inspection import check_table, partition_table
from images.partitions import SECTOR
from images.windows_disks import DISKS, Role, make_ntfs, make_windows_disk
from phony_windows import PHONY_WINDOWS
from snf_image_helper.detection import find
from snf_image_helper.disks.disk import Disk
from snf_image_helper.mounting import mounted
from snf_image_helper.system import OsFamily, System
from snf_image_helper.tasks import fix_partition_table
from snf_image_helper.tasks.windows import filesystem_resize_after_umount, filesystem_resize_mounted
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import MIB, Listener, attached, job, private_mounts, sh
from unit.helper.ntfs_volumes import set_flags, written_to

pytestmark = pytest.mark.root

GROWTH = 40 * MIB
OFFLINE = {"OFFLINE_NTFSRESIZE": "yes"}
NO_CHECK = {**OFFLINE, "OFFLINE_NTFSRESIZE_NOCHECK": "yes"}


@pytest.fixture(autouse=True)
def _private_mounts() -> Iterator[None]:
    with private_mounts():
        yield


@contextmanager
def deployed(scratch: Path, layout: str, family: OsFamily = OsFamily.WINDOWS) -> Iterator[tuple[Disk, Path]]:
    """The layout on a larger disk, with no more of Windows on it than a task of this file looks for."""
    (scratch / "c").mkdir()
    (scratch / "c/file").write_text("x")
    path = scratch / "disk"
    made = make_windows_disk(path, layout, scratch / "c")
    os.truncate(path, made.size + GROWTH)
    with attached(path) as disk:
        disk.reload()
        disk.system = System(family, made.number(Role.WINDOWS))
        yield disk, path


def grow(disk: Disk, **properties: str) -> list[str]:
    """Both tasks on the disk; what they warn of."""
    listener = Listener()
    for task in (fix_partition_table.TASK, filesystem_resize_after_umount.TASK):
        task.run(disk, job(**properties), listener.reporter)
    return listener.warnings


def volume(disk: Disk) -> tuple[int, int]:
    """Bytes in the clusters of C:, and its flags."""
    assert disk.system is not None
    told = sh("ntfsinfo", "-f", "-m", disk.partition_device(disk.system.root_partition))
    size, clusters = (int(re.search(rf"{name}: (\d+)", told)[1]) for name in ("Cluster Size", "Size in Clusters"))  # type: ignore[index]
    return size * clusters, int(re.search(r"Volume Flags: (0x\w+)", told)[1], 16)  # type: ignore[index]


GROWING = ["phony-windows-mbr-one", "phony-windows-mbr", "phony-windows-gpt", "phony-windows-gpt-recovery-first"]


@pytest.mark.row(119, 120, 131)
@pytest.mark.parametrize("layout", GROWING)
def test_a_last_c_fills_the_disk_and_all_before_it_stays(tmp_path: Path, layout: str) -> None:
    with deployed(tmp_path, layout) as (disk, path):
        before = partition_table(path)
        (warning,) = grow(disk, **OFFLINE)
        assert "Windows checks it (chkdsk) at its first boot" in warning
        after = partition_table(path)
        check_table(path)
        number = DISKS[layout].number(Role.WINDOWS)
        assert [item for item in after.partitions if item.number != number] == list(before.partitions[:-1])
        c = after.partition(number)
        old = before.partition(number)
        assert (c.start, c.type, c.uuid, c.name, c.bootable) == (old.start, old.type, old.uuid, old.name, old.bootable)
        assert c.end == path.stat().st_size // SECTOR - 2049
        size, flags = volume(disk)
        assert c.length - 4096 - SECTOR < size < c.length
        assert flags == 1
        with written_to(disk.partition_device(number), tmp_path / "place") as place:
            assert (place / "file").read_text() == "x"


@pytest.mark.row(131)
def test_nocheck_leaves_a_volume_that_windows_does_not_check_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    with deployed(tmp_path, "phony-windows-gpt") as (disk, path):
        (warning,) = grow(disk, **NO_CHECK)
        assert "Windows does not check it: OFFLINE_NTFSRESIZE_NOCHECK is set" in warning
        assert volume(disk)[1] == 0
        sh("ntfsfix", "--no-action", disk.partition_device(3))
        content = sh("sha256sum", str(path))
        assert grow(disk, **NO_CHECK) == []
        assert sh("sha256sum", str(path)) == content


@pytest.mark.row(131)
def test_a_dirty_volume_is_not_grown(tmp_path: Path) -> None:
    with deployed(tmp_path, "phony-windows-mbr-one") as (disk, path):
        size = volume(disk)[0]
        set_flags(path, 63 * SECTOR, 1)
        with pytest.raises(GuestError, match="is dirty and cannot be grown; start it, run chkdsk"):
            grow(disk, **NO_CHECK)
        assert volume(disk) == (size, 1)


def test_windows_before_vista_grows_offline_without_being_asked(tmp_path: Path) -> None:
    with deployed(tmp_path, "phony-windows-mbr-one", OsFamily.WINDOWS_LEGACY) as (disk, _):
        before = volume(disk)[0]
        grow(disk)
        assert volume(disk)[0] == before + GROWTH


def test_windows_grows_online_unless_it_is_asked_otherwise(tmp_path: Path) -> None:
    with deployed(tmp_path, "phony-windows-mbr") as (disk, _):
        before = volume(disk)
        assert grow(disk) == []
        assert volume(disk) == before


@pytest.mark.row(122)
@pytest.mark.parametrize("layout", ["phony-windows-mbr-recovery-last", "phony-windows-gpt-recovery-last"])
def test_a_recovery_partition_behind_c_is_reported_and_stays(tmp_path: Path, layout: str) -> None:
    with deployed(tmp_path, layout) as (disk, path):
        before = partition_table(path).partitions
        warnings = grow(disk, **OFFLINE)
        number = len(before)
        assert f"partition {number} (Windows recovery) is the last one on the disk" in warnings[0]
        assert (
            f"recovery partition {number} lies behind it; it stays as it is. In the image run reagentc" in warnings[1]
        )
        assert len(warnings) == 2
        assert partition_table(path).partitions == before
        check_table(path)
        with written_to(disk.partition_device(number), tmp_path / "place") as place:
            assert (place / "Recovery/WindowsRE/Winre.wim").read_text() == "phony recovery environment\n"


def test_c_of_a_dynamic_disk_is_found_and_stays_for_windows_database_lies_behind_it(tmp_path: Path) -> None:
    (tmp_path / "c/Windows/System32/config").mkdir(parents=True)
    path = tmp_path / "disk"
    made = make_windows_disk(path, "phony-windows-mbr-one", tmp_path / "c")
    os.truncate(path, made.size + GROWTH)
    sh("sfdisk", "--quiet", "--part-type", str(path), "1", "42")
    content = sh("sha256sum", str(path))
    with attached(path) as disk:
        disk.reload()
        for wishes in ({"OSFAMILY": "windows"}, {"OSFAMILY": "windows-legacy", "ROOT_PARTITION": "1"}):
            assert find(disk, job(**wishes), Listener().reporter).root_partition == 1
            (warning,) = grow(disk, **OFFLINE)
            assert "partition 1 (Windows dynamic disk) is the last one on the disk and is never grown" in warning
    assert sh("sha256sum", str(path)) == content


@pytest.mark.row(130)
def test_setup_is_told_to_extend_the_volume_of_the_letter_that_windows_has(tmp_path: Path) -> None:
    phony = PHONY_WINDOWS["phony-windows-server-2022"].make(tmp_path / "c")
    made = make_windows_disk(tmp_path / "disk", "phony-windows-gpt", phony)
    os.truncate(tmp_path / "disk", made.size + GROWTH)
    listener = Listener()
    with attached(tmp_path / "disk") as disk:
        disk.reload()
        disk.system = System(OsFamily.WINDOWS, 3)
        for _ in range(2):
            with mounted(disk, disk.system, listener.reporter) as guest:
                for properties in ({}, OFFLINE):
                    filesystem_resize_mounted.TASK.run(guest, job(**properties), listener.reporter)
                content = guest.read_bytes("/Windows/SnfScripts/ExtendFilesystem")
                assert content == b"select volume C\r\nextend filesystem noerr\r\nexit\r\n"
    assert listener.warnings == []


def test_a_dump_learns_where_its_volume_begins_now(tmp_path: Path) -> None:
    """As the loader of an ntfsdump does that came from behind the first track of another disk."""
    phony = tmp_path / "c"
    (phony / "Windows/System32/config").mkdir(parents=True)
    with (tmp_path / "disk").open("wb") as file:
        file.truncate(18 * MIB)
    sh("sfdisk", "--quiet", str(tmp_path / "disk"), stdin="label: dos\nstart=2048, size=32768, type=7, bootable\n")
    make_ntfs(tmp_path / "dump", 16, phony, start=63)
    sh("dd", f"if={tmp_path / 'dump'}", f"of={tmp_path / 'disk'}", "bs=1M", "seek=1", "conv=notrunc")
    listener = Listener()
    with attached(tmp_path / "disk") as disk:
        disk.reload()
        disk.system = System(OsFamily.WINDOWS, 1)
        for _ in range(2):
            with mounted(disk, disk.system, listener.reporter):
                pass
    (warning,) = listener.warnings
    assert "said that it begins at sector 63; it begins at 2048 now" in warning
    content = (tmp_path / "disk").read_bytes()
    for place in (1 * MIB, 17 * MIB - SECTOR):
        assert content[place + 3 : place + 11] == b"NTFS    "
        assert struct.unpack_from("<I", content, place + 28) == (2048,)
    # Nothing but that: the boot sectors of the dump are as they were.
    dump = (tmp_path / "dump").read_bytes()
    assert content[MIB : MIB + 28] + dump[28:32] + content[MIB + 32 : MIB + 512] == dump[:512]
