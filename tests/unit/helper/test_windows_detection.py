# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding Windows among the volumes of its disks, by its own directory and by its registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from images.windows_disks import DISKS, Role, make_windows_disk
from phony_windows import PHONY_WINDOWS
from snf_image_helper.detection import find
from snf_image_helper.disks.disk import Disk
from snf_image_helper.inspection import inspect_disk
from snf_image_helper.system import OsFamily, System, UnknownGuestError
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import Listener, attached, job, private_mounts
from unit.helper.ntfs_volumes import bitlocker, set_flags, written_to

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _private_mounts() -> Iterator[None]:
    with private_mounts():
        yield


@contextmanager
def disk_with(phony: str, layout: str, scratch: Path) -> Iterator[tuple[Disk, Path]]:
    """The disk, and the file that it is."""
    path = scratch / "disk"
    make_windows_disk(path, layout, PHONY_WINDOWS[phony].make(scratch / "c"))
    with attached(path) as disk:
        disk.reload()
        yield disk, path


def found(disk: Disk, **properties: str) -> System:
    return find(disk, job(**properties), Listener().reporter)


@pytest.mark.guest(family="Windows", version="XP", stack="startup script", boot="not started", proven="tree")
@pytest.mark.row(113)
@pytest.mark.parametrize(
    ("phony", "layout", "family"),
    [
        ("phony-windows-xp", "phony-windows-mbr-one", OsFamily.WINDOWS_LEGACY),
        ("phony-windows-server-2008r2", "phony-windows-mbr-recovery-last", OsFamily.WINDOWS),
        ("phony-windows-server-2025", "phony-windows-gpt-recovery-first", OsFamily.WINDOWS),
    ],
)
def test_windows_is_found_on_the_one_volume_that_has_it(
    tmp_path: Path, phony: str, layout: str, family: OsFamily
) -> None:
    number = DISKS[layout].number(Role.WINDOWS)
    with disk_with(phony, layout, tmp_path) as (disk, path):
        before = path.read_bytes()
        assert found(disk) == System(family, number)
        assert found(disk, OSFAMILY="windows") == System(OsFamily.WINDOWS, number)
        assert found(disk, OSFAMILY="windows-legacy", ROOT_PARTITION="1") == System(OsFamily.WINDOWS_LEGACY, 1)
        with pytest.raises(UnknownGuestError):
            found(disk, OSFAMILY="linux")
        assert path.read_bytes() == before


def test_windows_is_found_whatever_state_its_volume_is_in(tmp_path: Path) -> None:
    with disk_with("phony-windows-11", "phony-windows-gpt", tmp_path) as (disk, path):
        set_flags(path, DISKS["phony-windows-gpt"].pieces[2].start * 512, 1)
        assert found(disk) == System(OsFamily.WINDOWS, 3)


def test_a_windows_whose_registry_cannot_be_read_is_told_from_no_windows(tmp_path: Path) -> None:
    with disk_with("phony-windows-10", "phony-windows-gpt", tmp_path) as (disk, _):
        with written_to(disk.partition_device(3), tmp_path / "place") as place:
            (place / "windows/system32/config/software").write_bytes(bytes(9000))
        with pytest.raises(GuestError, match=r"a file system cannot be read: .*SOFTWARE.*is no registry hive"):
            found(disk)
        assert found(disk, OSFAMILY="windows") == System(OsFamily.WINDOWS, 3)


def test_a_windows_behind_bitlocker_is_named_with_the_cure(tmp_path: Path) -> None:
    with disk_with("phony-windows-10", "phony-windows-gpt", tmp_path) as (disk, path):
        bitlocker(path, DISKS["phony-windows-gpt"].pieces[2].start * 512)
        for properties in ({}, {"OSFAMILY": "windows"}, {"OSFAMILY": "windows", "ROOT_PARTITION": "3"}):
            with pytest.raises(
                UnknownGuestError, match=r"partition 3 is encrypted with BitLocker .*manage-bde -off C:"
            ):
                found(disk, **properties)


def test_an_inspection_tells_product_release_edition_and_state_and_writes_nothing(tmp_path: Path) -> None:
    with disk_with("phony-windows-server-2025", "phony-windows-mbr", tmp_path) as (disk, path):
        before = path.read_bytes()
        told = inspect_disk(disk, job())
        assert told.problems == ()
        system = told.system
        assert system is not None
        assert (system.family, system.root_partition, system.architecture) == ("windows", 2, "x86_64")
        assert (system.name, system.edition) == ("Windows Server 2025 Standard", "ServerStandard")
        assert system.release.startswith("10.0.26100")
        assert system.setup_state == "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"
        assert told.table is not None
        assert [item.content.type for item in told.table.partitions] == ["ntfs", "ntfs"]
        assert (told.table.partitions[1].content.size or 0) > 60 << 20
        assert told.plan is not None
        assert "InstallUnattend" in {item.name for item in told.plan.tasks}
        assert path.read_bytes() == before


def test_an_inspection_tells_that_a_windows_gets_no_seed_of_others(tmp_path: Path) -> None:
    seeding = {"CLOUD_INIT": "yes", "CLOUD_INIT_SEED": "partition"}
    with disk_with("phony-windows-server-2025", "phony-windows-mbr-one", tmp_path) as (disk, _):
        plan = inspect_disk(disk, job(**seeding)).plan
        told = inspect_disk(disk, job(**seeding, OSFAMILY="windows")).plan
    assert plan is not None
    assert told is not None
    assert "set the property OSFAMILY to windows" in plan.refusal
    assert told.refusal == ""


def test_an_inspection_tells_what_keeps_a_windows_from_being_deployed(tmp_path: Path) -> None:
    phony = replace(PHONY_WINDOWS["phony-windows-server-2022"], image_state="IMAGE_STATE_COMPLETE")
    tree = phony.make(tmp_path / "c")
    (tree / "hiberfil.sys").write_bytes(b"hibr" + bytes(8192))
    layout = make_windows_disk(tmp_path / "disk", "phony-windows-mbr-one", tree)
    set_flags(tmp_path / "disk", layout.pieces[0].start * 512, 1)
    with attached(tmp_path / "disk") as disk:
        problems = inspect_disk(disk, job()).problems
    assert len(problems) == 3
    for words in ("of C: is dirty", "is hibernated", "it is set up and in use (IMAGE_STATE_COMPLETE)"):
        assert [text for text in problems if words in text], words
