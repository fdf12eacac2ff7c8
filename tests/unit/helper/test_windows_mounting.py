# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounting C: of a Windows guest: only what is safe to write to, and nothing of it is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from images.partitions import SECTOR
from images.windows_disks import DISKS, make_windows_disk
from snf_image_helper.customize import customize_disk
from snf_image_helper.disks.disk import Disk
from snf_image_helper.guest import Guest
from snf_image_helper.mounting import mounted
from snf_image_helper.system import OsFamily, System
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import MIB, Listener, attached, job, private_mounts, sh
from unit.helper.ntfs_volumes import bitlocker, leave_journal_open, set_flags, written_to

pytestmark = pytest.mark.root

NAME = "phony-windows-mbr-one"
(C,) = DISKS[NAME].pieces
OFFSET = C.start * SECTOR
WINDOWS = System(OsFamily.WINDOWS, 1)


@pytest.fixture(autouse=True)
def _private_mounts() -> Iterator[None]:
    with private_mounts():
        yield


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with the least that makes a Windows."""
    directory = tmp_path_factory.mktemp("windows")
    (directory / "c/Windows/System32/config").mkdir(parents=True)
    (directory / "c/Windows/System32/License.rtf").write_text("licence")
    make_windows_disk(directory / "disk", NAME, directory / "c")
    return directory / "disk"


@pytest.fixture
def disk(pristine: Path, tmp_path: Path) -> Path:
    sh("cp", "--sparse=always", str(pristine), str(tmp_path / "disk"))
    return tmp_path / "disk"


@contextmanager
def attached_disk(path: Path) -> Iterator[Disk]:
    with attached(path) as disk:
        disk.reload()
        yield disk


@contextmanager
def windows(path: Path, listener: Listener | None = None, *, read_only: bool = False) -> Iterator[Guest]:
    report = (listener or Listener()).reporter
    with attached_disk(path) as disk, mounted(disk, WINDOWS, report, read_only=read_only) as guest:
        yield guest


def c_of(path: Path, scratch: Path) -> Path:
    """A copy of what is C:, for programs that know of no offset."""
    copy = scratch / "c-after"
    sh("dd", f"if={path}", f"of={copy}", "bs=1M", f"skip={OFFSET}", f"count={C.mib}", "iflag=skip_bytes", "conv=sparse")
    return copy


def refusal(path: Path) -> str:
    """Why the disk is not mounted; not a byte of it has changed."""
    before = sh("sha256sum", str(path))
    with pytest.raises(GuestError) as caught, windows(path):
        pass
    assert sh("sha256sum", str(path)) == before
    return str(caught.value)


def test_what_is_written_is_on_the_disk_once_it_is_unmounted(disk: Path, tmp_path: Path) -> None:
    listener = Listener()
    with windows(disk, listener) as guest:
        assert guest.mounts == {"/": guest.disk.partition_device(1)}
        guest.write_bytes("/Windows/large", bytes(range(256)) * 65536)
    assert listener.warnings == []
    copy = c_of(disk, tmp_path)
    sh("ntfsfix", "--no-action", str(copy))
    assert "Volume Flags: 0x0000" in sh("ntfsinfo", "-m", str(copy))
    with written_to(copy, tmp_path / "place") as place:
        assert (place / "Windows/large").read_bytes() == bytes(range(256)) * 65536


def test_the_guest_is_mounted_without_set_uid_programs_devices_and_times_of_access(disk: Path) -> None:
    with windows(disk) as guest:
        options = next(line for line in Path("/proc/self/mounts").read_text().splitlines() if guest.root in line)
        assert {"rw", "nosuid", "nodev", "noexec", "noatime"} <= {*options.split(" ")[3].split(",")}
        assert options.split(" ")[2] == "fuseblk"


def test_a_name_means_the_same_in_every_case(disk: Path) -> None:
    with windows(disk) as guest:
        assert guest.read_text("/WINDOWS/system32/LICENSE.RTF") == "licence"
        guest.write_text("/windows/SYSTEM32/license.rtf", "mine")
        assert guest.read_text("/Windows/System32/License.rtf") == "mine"
        assert guest.list_directory("/windows/system32") == ("config", "license.rtf")


def test_names_that_windows_forbids_are_not_made(disk: Path) -> None:
    with windows(disk) as guest:
        for name in ("con", "a:b", "what?", "dot.", "blank ", "back\\slash"):
            with pytest.raises(GuestError, match="Windows forbids"):
                guest.write_text(f"/{name}", "x")


@pytest.mark.row(143)
def test_a_dirty_volume_is_refused(disk: Path) -> None:
    set_flags(disk, OFFSET, 1)
    assert "partition" not in (told := refusal(disk))
    assert "is dirty: its Windows wants to check it first; start it, run chkdsk /f" in told


def test_a_hibernated_volume_is_refused(disk: Path, tmp_path: Path) -> None:
    with attached_disk(disk) as found, written_to(found.partition_device(1), tmp_path / "place") as place:
        (place / "hiberfil.sys").write_bytes(b"hibr" + bytes(8192))
    assert "is hibernated, or was shut down with fast startup" in refusal(disk)


def test_a_hibernation_file_of_a_windows_that_was_shut_down_fully_is_none_of_our_business(
    disk: Path, tmp_path: Path
) -> None:
    with attached_disk(disk) as found, written_to(found.partition_device(1), tmp_path / "place") as place:
        (place / "hiberfil.sys").write_bytes(bytes(8192))
    with windows(disk) as guest:
        assert guest.exists("/Windows")


@pytest.mark.row(143)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda disk: set_flags(disk, OFFSET, 1), "is dirty: its Windows wants to check it first"),
        (lambda disk: bitlocker(disk, OFFSET), "is encrypted with BitLocker"),
    ],
    ids=["dirty", "bitlocker"],
)
def test_a_deployment_of_such_a_volume_ends_before_the_partition_grows(
    disk: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(disk)
    os.truncate(disk, disk.stat().st_size + 40 * MIB)
    before = sh("sha256sum", str(disk))
    with attached_disk(disk) as found, pytest.raises(GuestError, match=message):
        customize_disk(found, job(OSFAMILY="windows", ROOT_PARTITION="1"), Listener().reporter)
    assert sh("sha256sum", str(disk)) == before


@pytest.mark.row(143)
def test_an_open_journal_is_thrown_away_with_a_warning(disk: Path) -> None:
    leave_journal_open(disk, OFFSET)
    listener = Listener()
    with windows(disk, listener) as guest:
        guest.write_text("/new", "x")
    (warning,) = listener.warnings
    assert "was not unmounted cleanly: its journal ($LogFile) is thrown away" in warning
    with windows(disk) as guest:
        assert guest.read_text("/new") == "x"


def test_a_look_at_a_volume_in_any_state_does_not_touch_it(disk: Path) -> None:
    leave_journal_open(disk, OFFSET)
    set_flags(disk, OFFSET, 1)
    before = sh("sha256sum", str(disk))
    with windows(disk, read_only=True) as guest:
        assert guest.read_text("/windows/system32/license.rtf") == "licence"
    assert sh("sha256sum", str(disk)) == before


def test_a_volume_with_bitlocker_is_refused(disk: Path) -> None:
    bitlocker(disk, OFFSET)
    assert "partition 1 is encrypted with BitLocker (or Device Encryption); run manage-bde -off C:" in refusal(disk)


def test_a_damaged_volume_is_refused(disk: Path) -> None:
    with disk.open("r+b") as file:
        file.seek(OFFSET + 4 * 4096 + 5 * 1024)  # mkntfs puts the MFT at cluster 4; this is the root directory
        file.write(bytes(1024))
    assert "is damaged: " in (told := refusal(disk))
    assert told.endswith("; start it, run chkdsk /f, shut it down fully, and publish it anew")


def test_a_volume_without_windows_is_refused(disk: Path, tmp_path: Path) -> None:
    with attached_disk(disk) as found, written_to(found.partition_device(1), tmp_path / "place") as place:
        (place / "Windows").rename(place / "Old")
    assert "partition 1 has no directory /Windows/System32/config, so it is not C:" in refusal(disk)
