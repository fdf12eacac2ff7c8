# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's systemd would mount without a line of fstab is mounted here as well; journals are replayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snf_image_helper.disks.disk import Disk
from snf_image_helper.mounting import mounted
from snf_image_helper.system import OsFamily, System
from unit.helper.disk_images import Listener, filled, image, plant_root, private_mounts, sh

pytestmark = pytest.mark.root

ROOT = System(OsFamily.LINUX, 1)
EXT4 = ("mkfs.ext4", "-q")
XBOOTLDR, HOME, ESP = (
    "BC13C2FF-59E6-4262-A352-B275FD6F7172",
    "933AC7E1-2EB4-4F13-B844-0E14E2AEF915",
    "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
)
SCRIPT = f"label: gpt\nsize=20480\nsize=20480,type={XBOOTLDR}\nsize=20480,type={HOME}\nsize=20480,type={ESP}\n"
GENERATOR = "usr/lib/systemd/system-generators/systemd-gpt-auto-generator"


@pytest.fixture(autouse=True)
def _private_mounts() -> Iterator[None]:
    with private_mounts():
        yield


@contextmanager
def guest(path: Path, *directories: str, fstab: str = "", generator: bool = True) -> Iterator[Disk]:
    """A root with these directories, and three partitions that systemd knows by their types, all of them ext4."""
    with image(path, SCRIPT, dict.fromkeys((1, 2, 3, 4), EXT4)) as disk:
        disk.reload()
        with filled(disk.node(1), "ext4") as place:
            plant_root(place, fstab)
            for directory in directories:
                (place / directory).mkdir(parents=True)
            if generator:
                (place / GENERATOR).parent.mkdir(parents=True)
                (place / GENERATOR).touch()
        yield disk


def mounts(disk: Disk) -> dict[str, str]:
    with mounted(disk, ROOT, Listener().reporter) as found:
        return {place: device.removeprefix(f"{disk.device}p") for place, device in found.mounts.items()}


def test_partitions_are_mounted_by_their_types(tmp_path: Path) -> None:
    with guest(tmp_path / "d", "boot", "home", "efi") as disk:
        assert mounts(disk) == {"/": "1", "/boot": "2", "/home": "3", "/efi": "4"}


def test_the_esp_is_at_boot_where_nothing_else_is(tmp_path: Path) -> None:
    with guest(tmp_path / "d", "boot", fstab="LABEL=x /home ext4 noauto 0 0\n") as disk:
        sh("sfdisk", "--no-reread", "--no-tell-kernel", "--part-type", disk.device, "2", "L")
        disk.reload()
        assert mounts(disk) == {"/": "1", "/boot": "4"}


def test_what_fstab_speaks_of_or_what_is_not_empty_or_not_there_is_left(tmp_path: Path) -> None:
    with guest(tmp_path / "d", "boot/grub", "home", fstab="LABEL=x /home ext4 noauto 0 0\n") as disk:
        assert mounts(disk) == {"/": "1"}


def test_a_guest_without_the_generator_gets_none(tmp_path: Path) -> None:
    with guest(tmp_path / "d", "boot", "home", "efi", generator=False) as disk:
        assert mounts(disk) == {"/": "1"}


def test_a_link_in_the_place_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    with guest(tmp_path / "d", "elsewhere") as disk:
        with filled(disk.node(1), "ext4") as place:
            (place / "home").symlink_to("elsewhere")
        assert mounts(disk) == {"/": "1"}


@pytest.mark.row(126)
@pytest.mark.parametrize(
    ("kind", "maker", "mib"),
    [("ext4", EXT4, 64), ("xfs", ("mkfs.xfs", "-q"), 330), ("btrfs", ("mkfs.btrfs", "-q"), 200)],
)
def test_a_journal_is_replayed_by_the_mount_and_that_is_said(
    tmp_path: Path, kind: str, maker: tuple[str, ...], mib: int
) -> None:
    with image(tmp_path / "d", f"label: gpt\nsize={(mib - 4) * 2048}\n", {1: maker}, mib=mib) as disk:
        disk.reload()
        device = Path(disk.node(1))
        with filled(str(device), kind) as place:
            plant_root(place)
            sh("sync", "-f", str(place))
            with (place / "etc/late").open("w") as file:
                file.write("written, then the power went\n")
                file.flush()
                sh("sync", str(place / "etc/late"))
            crashed = device.read_bytes()
        device.write_bytes(crashed)
        listener = Listener()
        with mounted(disk, ROOT, listener.reporter) as found:
            assert found.read_text("/etc/late") == "written, then the power went\n"
        assert [text for text in listener.warnings if "journal has been replayed" in text]


def test_errors_that_a_kernel_has_seen_are_repaired_before_the_mount(tmp_path: Path) -> None:
    with image(tmp_path / "d", "label: gpt\nsize=20480\n", {1: EXT4}) as disk:
        disk.reload()
        with filled(disk.node(1), "ext4") as place:
            plant_root(place)
        sh("debugfs", "-w", "-R", "ssv state 2", disk.node(1))
        listener = Listener()
        with mounted(disk, ROOT, listener.reporter):
            pass
        assert sh("e2fsck", "-fn", disk.node(1))
        assert [text for text in listener.warnings if "e2fsck repaired" in text]
