# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding the system on a disk, from its properties or from what is really there."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from snf_image_helper.detection import detect
from snf_image_helper.disks.disk import Disk
from snf_image_helper.system import WHOLE_DISK, OsFamily, System, UnknownGuestError
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import (
    MIB,
    Listener,
    attached,
    filled,
    image,
    job,
    plant_root,
    private_mounts,
    sh,
    table_of,
)
from unit.helper.guest_tools import GuestTools

pytestmark = pytest.mark.root

EXT4 = ("mkfs.ext4", "-q")
TWO = {1: EXT4, 2: EXT4}
TWO_PARTITIONS = "label: gpt\nsize=20480\nsize=20480\n"
DPS_ROOT = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"


@pytest.fixture(autouse=True)
def _private_mounts() -> Iterator[None]:
    with private_mounts():
        yield


@contextmanager
def planted(
    path: Path, script: str, made: Mapping[int, tuple[str, ...]], roots: Mapping[int, str], mib: int = 64
) -> Iterator[Disk]:
    """An image with a Linux root on each of the partitions `roots`, given with their file system types."""
    with image(path, script, made, mib=mib) as disk:
        disk.reload()
        for number, kind in roots.items():
            with filled(disk.partition_device(number), kind) as place:
                plant_root(place)
        yield disk


def find(disk: Disk, **properties: str) -> tuple[System, Listener]:
    listener = Listener()
    return detect(disk, job(**properties), listener.reporter), listener


def test_what_the_properties_say_is_taken_without_a_look_when_nothing_is_to_be_mounted(tmp_path: Path) -> None:
    with image(tmp_path / "d", "label: gpt\nsize=4096\nsize=4096\n", {}) as disk:
        system, listener = find(disk, OSFAMILY="linux", ROOT_PARTITION="2", EXCLUDE_MOUNTED_TASKS="yes")
    assert (system, listener.events) == (System(OsFamily.LINUX, 2), [])


def test_a_root_that_the_properties_name_and_nobody_can_mount_is_an_unknown_guest(tmp_path: Path) -> None:
    with (
        image(tmp_path / "d", "label: gpt\nsize=4096\nsize=4096\n", {}) as disk,
        pytest.raises(UnknownGuestError, match="p2: nothing known"),
    ):
        find(disk, OSFAMILY="linux", ROOT_PARTITION="2")


def test_a_root_that_the_properties_name_needs_no_more_than_a_directory_for_its_files(tmp_path: Path) -> None:
    with planted(tmp_path / "d", TWO_PARTITIONS, TWO, {2: "ext4"}) as disk:
        with filled(disk.partition_device(2), "ext4") as place:
            shutil.rmtree(place / "etc")
            (place / "etc").mkdir()
        with pytest.raises(UnknownGuestError):
            find(disk)
        assert find(disk, OSFAMILY="linux", ROOT_PARTITION="2")[0] == System(OsFamily.LINUX, 2)


@pytest.mark.row(112)
@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_a_linux_root_is_found_with_two_warnings(tmp_path: Path, label: str) -> None:
    with planted(tmp_path / "d", f"label: {label}\nsize=20480\nsize=20480\n", TWO, {2: "ext4"}) as disk:
        system, listener = find(disk)
    assert system == System(OsFamily.LINUX, 2)
    assert listener.warnings == [
        "Property OSFAMILY is not given: found linux",
        "Property ROOT_PARTITION is not given: found 2",
    ]


def test_a_logical_root_is_found(tmp_path: Path) -> None:
    script = "label: dos\nstart=2048,size=2048\nstart=8192,size=40960,type=5\nstart=10240,size=20480\n"
    with planted(tmp_path / "d", script, {5: EXT4}, {5: "ext4"}) as disk:
        assert find(disk)[0].root_partition == 5


def test_a_declared_root_wins_over_an_earlier_one(tmp_path: Path) -> None:
    script = f"label: gpt\nsize=20480\nsize=20480,type={DPS_ROOT}\n"
    with planted(tmp_path / "d", script, TWO, {1: "ext4", 2: "ext4"}) as disk:
        assert find(disk)[0].root_partition == 2


def test_a_root_of_another_gpt_type_is_found(tmp_path: Path) -> None:
    script = "label: gpt\nsize=20480,type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\n"
    with planted(tmp_path / "d", script, {1: EXT4}, {1: "ext4"}) as disk:
        assert find(disk)[0] == System(OsFamily.LINUX, 1)


@pytest.mark.row(115)
def test_a_partition_name_with_blanks_brings_no_warning(tmp_path: Path) -> None:
    with planted(tmp_path / "d", 'label: gpt\nsize=20480,name="a b  c"\n', {1: EXT4}, {1: "ext4"}) as disk:
        assert len(find(disk)[1].warnings) == 2


def test_a_root_without_fstab_is_known_by_its_os_release(tmp_path: Path) -> None:
    with planted(tmp_path / "d", "label: gpt\nsize=20480\n", {1: EXT4}, {1: "ext4"}) as disk:
        with filled(disk.partition_device(1), "ext4") as place:
            (place / "etc/fstab").unlink()
            (place / "etc/os-release").unlink()
            (place / "usr/lib").mkdir(parents=True)
            (place / "usr/lib/os-release").write_text("ID=x\n")
            (place / "etc/os-release").symlink_to("../usr/lib/os-release")
        assert find(disk)[0].root_partition == 1


def test_a_link_to_the_helpers_own_files_makes_no_root(tmp_path: Path) -> None:
    with image(tmp_path / "d", "label: gpt\nsize=20480\n", {1: EXT4}) as disk:
        disk.reload()
        with filled(disk.partition_device(1), "ext4") as place:
            (place / "etc").symlink_to("/etc")
            (place / "usr").symlink_to("../../../../../../usr")
        with pytest.raises(GuestError, match="no operating system"):
            find(disk)


def test_a_look_changes_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "d"
    with planted(path, TWO_PARTITIONS, TWO, {2: "ext4"}):
        pass
    before = path.read_bytes()
    with attached(path) as disk:
        find(disk)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("size", "command", "kind", "mib"),
    [
        (262144, ("mkfs.btrfs", "-q"), "btrfs", 160),
        (700000, ("mkfs.xfs", "-q"), "xfs", 400),
        (20480, ("mkfs.ext3", "-q"), "ext3", 64),
        (20480, ("mkfs.ext2", "-q"), "ext2", 64),
    ],
)
def test_every_linux_file_system_is_looked_into(
    tmp_path: Path, size: int, command: tuple[str, ...], kind: str, mib: int
) -> None:
    with planted(tmp_path / "d", f"label: gpt\nsize={size}\n", {1: command}, {1: kind}, mib) as disk:
        assert find(disk)[0] == System(OsFamily.LINUX, 1)


def test_a_btrfs_root_in_a_subvolume_is_found(tmp_path: Path) -> None:
    with image(tmp_path / "d", "label: gpt\nsize=262144\n", {1: ("mkfs.btrfs", "-q")}, mib=160) as disk:
        disk.reload()
        with filled(disk.partition_device(1), "btrfs") as place:
            sh("btrfs", "subvolume", "create", str(place / "@rootfs"))
            plant_root(place / "@rootfs")
        assert find(disk)[0] == System(OsFamily.LINUX, 1)


def test_a_file_system_that_cannot_be_mounted_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    with planted(tmp_path / "d", TWO_PARTITIONS, TWO, {2: "ext4"}) as disk:
        sh("dd", "if=/dev/zero", f"of={disk.partition_device(1)}", "bs=1024", "seek=2", "count=60", "conv=notrunc")
        system, listener = find(disk)
    assert system.root_partition == 2
    assert "Looking for the root file system" in listener.warnings[0]


@pytest.mark.parametrize(
    ("script", "family"),
    [
        ("label: dos\nsize=4096,type=a5\n", OsFamily.FREEBSD),
        ("label: dos\nsize=4096,type=a6\n", OsFamily.OPENBSD),
        ("label: dos\nsize=4096,type=a9\n", OsFamily.NETBSD),
        ("label: gpt\nsize=4096,type=516E7CB6-6ECF-11D6-8FF8-00022D09712B\n", OsFamily.FREEBSD),
    ],
)
def test_bsd_is_known_by_its_partition(tmp_path: Path, script: str, family: OsFamily) -> None:
    with image(tmp_path / "d", script, {}) as disk:
        assert find(disk)[0] == System(family, 1)


def test_an_ntfs_without_windows_is_no_windows(tmp_path: Path) -> None:
    with image(tmp_path / "d", "label: dos\nsize=20480,type=7\n", {1: ("mkfs.ntfs", "-Q", "-F")}) as disk:
        with pytest.raises(UnknownGuestError, match="p1: ntfs"):
            find(disk)
        assert find(disk, OSFAMILY="windows-legacy", ROOT_PARTITION="1")[0] == System(OsFamily.WINDOWS_LEGACY, 1)


def test_only_the_missing_property_is_looked_for(tmp_path: Path) -> None:
    with planted(tmp_path / "d", TWO_PARTITIONS, TWO, {1: "ext4", 2: "ext4"}) as disk:
        system, listener = find(disk, ROOT_PARTITION="2")
        assert (system, len(listener.warnings)) == (System(OsFamily.LINUX, 2), 1)
        system, listener = find(disk, OSFAMILY="LINUX")
        assert (system, len(listener.warnings)) == (System(OsFamily.LINUX, 1), 1)


def test_a_family_nobody_knows_is_refused_with_the_choices(tmp_path: Path) -> None:
    with (
        image(tmp_path / "d", "label: gpt\nsize=4096\n", {}) as disk,
        pytest.raises(GuestError, match="OSFAMILY: 'beos' is not one of linux, windows, windows-legacy, freebsd"),
    ):
        find(disk, OSFAMILY="beos", ROOT_PARTITION="1")


@pytest.mark.row(138)
@pytest.mark.parametrize("number", ["3", "0", "one", "1 ", "-1", "2", "\u0661"])
def test_a_root_that_is_no_partition_is_refused_with_the_choices(tmp_path: Path, number: str) -> None:
    script = "label: dos\nstart=2048,size=4096\nstart=8192,size=40960,type=5\nstart=10240,size=4096\n"
    with image(tmp_path / "d", script, {}) as disk, pytest.raises(GuestError, match=r"ROOT_PARTITION.*\(1, 5\)"):
        find(disk, OSFAMILY="linux", ROOT_PARTITION=number)


@pytest.mark.row(115, 124)
def test_an_empty_disk_has_a_clear_message(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(bytes(1 << 20))
    with attached(tmp_path / "d") as disk, pytest.raises(UnknownGuestError, match="no partition table; nothing was"):
        find(disk)


def bare(path: Path, *maker: str, mib: int = 64) -> None:
    """A disk without a table that a file system has for itself."""
    path.write_bytes(b"")
    os.truncate(path, mib * MIB)
    sh(*maker, str(path))


@pytest.mark.row(124)
@pytest.mark.parametrize(
    ("maker", "kind", "mib"),
    [(EXT4, "ext4", 64), (("mkfs.ext2", "-q"), "ext2", 64), (("mkfs.xfs", "-q"), "xfs", 320)],
)
@pytest.mark.parametrize("properties", [{}, {"ROOT_PARTITION": "0"}, {"ROOT_PARTITION": "0", "OSFAMILY": "linux"}])
def test_a_root_on_a_disk_without_a_table_is_found(
    tmp_path: Path, maker: tuple[str, ...], kind: str, mib: int, properties: dict[str, str]
) -> None:
    bare(tmp_path / "d", *maker, mib=mib)
    with attached(tmp_path / "d") as disk:
        with filled(disk.device, kind) as place:
            plant_root(place)
        assert find(disk, **properties)[0] == System(OsFamily.LINUX, WHOLE_DISK)


def test_boot_code_before_a_file_system_is_no_partition_table(tmp_path: Path) -> None:
    bare(tmp_path / "d", *EXT4)
    with (tmp_path / "d").open("r+b") as file:
        file.write(b"\xeb\x3cGRUB")
        file.seek(510)
        file.write(b"\x55\xaa")
    with attached(tmp_path / "d") as disk:
        with filled(disk.device, "ext4") as place:
            plant_root(place)
        assert find(disk)[0].root_partition == WHOLE_DISK


@pytest.mark.row(124)
def test_the_boot_sector_of_extlinux_is_no_partition_table(tmp_path: Path, cache: Path) -> None:
    """Its code reaches into where an MBR has its entries: so are Alpine's images for BIOS made."""
    tools = GuestTools.unpack(cache, ("extlinux",), "boot-tools")
    bare(tmp_path / "d", *EXT4)
    with attached(tmp_path / "d") as disk:
        with filled(disk.device, "ext4") as place:
            plant_root(place)
            (place / "boot").mkdir()
            tools.run("extlinux", "--install", str(place / "boot"))
        assert len(json.loads(sh("sfdisk", "--json", disk.device))["partitiontable"]["partitions"]) == 4
        assert find(disk)[0] == System(OsFamily.LINUX, WHOLE_DISK)


# The first bytes by which blkid knows them, and where they stand: libblkid/src/superblocks.
LOCKS = {"LUKS": (0, b"LUKS\xba\xbe\0\1"), "RAID": (4096, b"")}


@pytest.mark.parametrize("name", ["LUKS", "RAID"])
@pytest.mark.parametrize("properties", [{}, {"ROOT_PARTITION": "2"}, {"ROOT_PARTITION": "2", "OSFAMILY": "linux"}])
def test_what_nobody_can_look_into_is_an_unknown_guest_that_is_named_and_left_alone(
    tmp_path: Path, name: str, properties: dict[str, str]
) -> None:
    path = tmp_path / "d"
    offset, mark = LOCKS[name]
    with image(path, TWO_PARTITIONS, {}) as disk:
        disk.reload()
        with Path(disk.partition_device(2)).open("r+b") as file:
            file.seek(offset)
            file.write(mark if name != "RAID" else raid_member())
    before = path.read_bytes()
    with attached(path) as disk, pytest.raises(UnknownGuestError, match=name):
        find(disk, **properties)
    assert path.read_bytes() == before


def raid_member() -> bytes:
    """A superblock of md, format 1.2: struct mdp_superblock_1, with the checksum blkid wants."""
    block = bytearray(256)
    struct.pack_into("<II", block, 0, 0xA92B4EFC, 1)
    block[16:32] = bytes(range(16))
    struct.pack_into("<Q", block, 144, 8)  # super_offset, in sectors
    total = sum(struct.unpack("<64I", block))
    struct.pack_into("<I", block, 216, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
    return bytes(block)


def test_a_table_of_another_kind_is_an_unknown_guest(tmp_path: Path) -> None:
    table_of(tmp_path / "d", "label: sgi\n", 16)
    with attached(tmp_path / "d") as disk, pytest.raises(UnknownGuestError, match="of kind sgi"):
        find(disk)


@pytest.mark.parametrize(("maker", "kind", "mib"), [(EXT4, "ext4", 64), (("mkfs.xfs", "-q"), "xfs", 400)])
def test_a_damaged_root_is_no_unknown_guest_but_an_error_with_the_checkers_finding(
    tmp_path: Path, maker: tuple[str, ...], kind: str, mib: int
) -> None:
    size = (mib - 8) * 2048
    with planted(tmp_path / "d", f"label: gpt\nsize={size}\n", {1: maker}, {1: kind}, mib) as disk:
        # Behind the superblock: group descriptors, or the headers of the first allocation group.
        offset = 2048 if kind == "ext4" else 512
        sh("dd", "if=/dev/urandom", f"of={disk.partition_device(1)}", "bs=512", f"seek={offset // 512}", "count=24")
        with pytest.raises(GuestError, match=r"cannot be mounted as .*(e2fsck|xfs_repair) (says|finds)") as caught:
            find(disk)
    assert not isinstance(caught.value, UnknownGuestError)


def test_when_nothing_is_found_the_message_says_what_was_seen_and_what_to_do(tmp_path: Path) -> None:
    luks = ("sh", "-c", "printf 'LUKS\\272\\276\\0\\1' | dd of=$0 conv=notrunc")
    script = "label: gpt\nsize=20480,type=U\nsize=20480\nsize=20480\n"
    with (
        image(tmp_path / "d", script, {2: luks, 3: EXT4}) as disk,
        pytest.raises(GuestError, match=r"nothing known.*LUKS.*ext4.*OSFAMILY.*EXCLUDE_ALL_TASKS"),
    ):
        find(disk)
