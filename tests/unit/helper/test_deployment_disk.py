# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that the helper divides and formats, as sfdisk, sgdisk, parted, blkid and the file systems' tools see them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.boot_loaders.starting import start_of
from snf_image_helper.deployment.deploy import deploy
from snf_image_helper.deployment.file_systems import Made, make_file_systems
from snf_image_helper.deployment.partitioning import divide
from snf_image_helper.deployment.tree import Tree
from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import grow_ext
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import OsFamily, System
from snf_image_helper.tasks import filesystem_resize_mounted, filesystem_resize_unmounted
from snf_image_helper.tasks.fix_partition_table import TASK as FIX
from snf_image_shared.deployment import BootMode, Deployment, Form, Layout, TableType
from snf_image_shared.errors import DiskError
from snf_image_shared.layouts import Role
from unit.helper.disk_images import MIB, Listener, attached, filled, job, private_mounts, sh
from unit.helper.guest_trees import guest_in

pytestmark = pytest.mark.root

BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
XBOOTLDR = "BC13C2FF-59E6-4262-A352-B275FD6F7172"
GPT_SWAP = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
ROOT_X86_64 = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"


@contextmanager
def empty(path: Path, mib: int, sector_size: int = 512) -> Iterator[Disk]:
    path.touch()
    os.truncate(path, mib * MIB)
    with attached(path, sector_size=sector_size) as disk:
        yield disk


def table_of(disk: Disk) -> dict[str, object]:
    found: dict[str, object] = json.loads(sh("sfdisk", "--json", disk.device))["partitiontable"]
    return found


def rows(disk: Disk) -> dict[int, tuple[float, float, str, bool]]:
    """Number -> start and size in MiB, type, and whether firmware is to start there."""
    found: dict[int, tuple[float, float, str, bool]] = {}
    partitions = table_of(disk)["partitions"]
    assert isinstance(partitions, list)
    for item in partitions:
        number = int(re.findall(r"\d+$", item["node"])[0])
        place = (item[name] * disk.sector_size / MIB for name in ("start", "size"))
        is_active = item.get("bootable") is True or "LegacyBIOSBootable" in item.get("attrs", "")
        found[number] = (*place, item["type"], is_active)
    return found


def signatures(device: str) -> list[str]:
    """Everything that libblkid knows at any place of a device."""
    return [item["type"] for item in json.loads(sh("wipefs", "--json", device))["signatures"]]


def kinds(made: tuple[Made, ...]) -> dict[str, tuple[str, str]]:
    """Role -> type and label, as blkid sees them."""
    return {
        each.role.value: (
            sh("blkid", "-p", "-o", "value", "-s", "TYPE", each.device).strip(),
            sh("blkid", "-p", "-o", "value", "-s", "LABEL", each.device).strip() if each.role != Role.SWAP else "",
        )
        for each in made
    }


@pytest.mark.image_row(26, 27, 28, 29, 30)
@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (Layout(boot=100, swap=60), {1: (1, 100, "83", True), 2: (101, 60, "82", False), 3: (161, 239, "83", False)}),
        (Layout(boot=100), {1: (1, 100, "83", True), 2: (101, 299, "83", False)}),
        (Layout(swap=60), {1: (1, 60, "82", False), 2: (61, 339, "83", True)}),
        (Layout(), {1: (1, 399, "83", True)}),
    ],
)
def test_the_four_layouts_are_numbered_aligned_and_typed_as_instance_image_had_them(
    tmp_path: Path, layout: Layout, expected: dict[int, tuple[int, int, str, bool]]
) -> None:
    with empty(tmp_path / "d", 400) as disk:
        divide(disk, layout)
        assert rows(disk) == expected
        lines = sh("parted", "-sm", disk.device, "unit", "s", "print").splitlines()[2:]
        assert [line.split(":")[1] for line in lines] == [f"{place[0] * 2048}s" for place in expected.values()]


@pytest.mark.image_row(34)
@pytest.mark.parametrize("sector_size", [512, 4096])
def test_a_gpt_for_each_firmware_is_sound(tmp_path: Path, sector_size: int) -> None:
    with empty(tmp_path / "d", 800, sector_size) as disk:
        divide(disk, Layout(TableType.GPT, boot=100, swap=60))
        assert rows(disk) == {
            1: (2, 100, XBOOTLDR, True),
            2: (102, 60, GPT_SWAP, False),
            3: (162, 637, ROOT_X86_64, False),
            4: (1, 1, BIOS_BOOT, False),
        }
        assert "No problems found" in sh("sgdisk", "--verify", disk.device)
        made = make_file_systems(disk, layout := Layout(TableType.GPT, BootMode.UEFI), divide(disk, layout))
        assert rows(disk) == {1: (261, 538, ROOT_X86_64, False), 2: (1, 260, ESP, False)}
        assert "No problems found" in sh("sgdisk", "--verify", disk.device)
        assert kinds(made) == {"root": ("ext4", "/"), "esp": ("vfat", "ESP")}


def test_uefi_starts_from_an_msdos_table_too(tmp_path: Path) -> None:
    with empty(tmp_path / "d", 400) as disk:
        divide(disk, Layout(boot_mode=BootMode.UEFI, esp=100, swap=60))
        assert rows(disk) == {1: (101, 60, "82", False), 2: (161, 239, "83", False), 3: (1, 100, "ef", False)}


@pytest.mark.parametrize(("mib", "sector_size"), [(64, 512), (260, 512), (261, 512), (260, 4096), (300, 4096)])
def test_an_esp_of_any_size_is_fat32_by_its_clusters(tmp_path: Path, mib: int, sector_size: int) -> None:
    with empty(tmp_path / "d", 400, sector_size) as disk:
        layout = Layout(TableType.GPT, BootMode.UEFI, esp=mib)
        (esp,) = (each for each in make_file_systems(disk, layout, divide(disk, layout)) if each.role is Role.ESP)
        clusters = re.search(r"/(\d+) clusters", sh("fsck.vfat", "-n", esp.device))
        assert clusters
        assert int(clusters[1]) >= 65525


@pytest.mark.image_row(35)
def test_beyond_two_tib_the_root_has_all_there_is(tmp_path: Path) -> None:
    with empty(tmp_path / "d", 3 << 20) as disk:
        divide(disk, Layout(TableType.GPT, boot=100))
        assert rows(disk)[2] == (102, (3 << 20) - 103, ROOT_X86_64, False)
        assert "No problems found" in sh("sgdisk", "--verify", disk.device)


@pytest.mark.image_row(36)
@pytest.mark.parametrize("filesystem", ["ext2", "ext3", "ext4", "xfs", "btrfs"])
def test_each_file_system_is_made_with_the_labels_of_instance_image(tmp_path: Path, filesystem: str) -> None:
    with empty(tmp_path / "d", 600) as disk:
        layout = Layout(filesystem=filesystem, boot=100, swap=60)
        made = make_file_systems(disk, layout, divide(disk, layout))
        boot = "ext4" if filesystem in {"xfs", "btrfs"} else filesystem
        assert kinds(made) == {"boot": (boot, "/boot"), "swap": ("swap", ""), "root": (filesystem, "/")}
        uuids = {each.role.value: each.uuid for each in made}
        assert uuids == {
            each.role.value: sh("blkid", "-p", "-o", "value", "-s", "UUID", each.device).strip() for each in made
        }


@pytest.mark.image_row(36)
def test_conservative_ext4_has_nothing_that_old_kernels_and_loaders_refuse(tmp_path: Path) -> None:
    with empty(tmp_path / "d", 700) as disk:
        (made,) = make_file_systems(disk, layout := Layout(), divide(disk, layout))
        found = re.search(r"^Filesystem features:\s+(.*)$", sh("dumpe2fs", "-h", made.device), re.MULTILINE)
        assert found
        # What the kernel of RHEL 6 mounts and GRUB 2.02 reads: fs/ext4/ext4.h of 2.6.32, grub-core/fs/ext2.c.
        known = {
            "has_journal",
            "ext_attr",
            "resize_inode",
            "dir_index",
            "filetype",
            "extent",
            "flex_bg",
            "sparse_super",
        }
        known |= {"large_file", "huge_file", "uninit_bg", "dir_nlink", "extra_isize"}
        assert set(found[1].split()) <= known
        assert {"extent", "has_journal", "uninit_bg"} <= set(found[1].split())
        (made,) = make_file_systems(disk, layout := Layout(conservative=False), divide(disk, layout))
        assert "metadata_csum" in sh("dumpe2fs", "-h", made.device)


@pytest.mark.image_row(36)
def test_conservative_xfs_is_what_the_kernel_of_rhel_7_mounts(tmp_path: Path) -> None:
    with empty(tmp_path / "d", 400) as disk:
        (made,) = make_file_systems(disk, layout := Layout(filesystem="xfs"), divide(disk, layout))
        facts = sh("xfs_info", made.device)
        newer = ("sparse", "rmapbt", "reflink", "bigtime", "inobtcount", "nrext64")
        assert {name: re.findall(rf"\b{name}=(\d)", facts) for name in newer} == {name: ["0"] for name in newer}
        assert "crc=1" in facts
        (made,) = make_file_systems(disk, layout := Layout(filesystem="xfs", conservative=False), divide(disk, layout))
        assert "bigtime=1" in sh("xfs_info", made.device)


@pytest.mark.image_row(36)
def test_conservative_btrfs_is_what_the_kernel_of_debian_8_mounts(tmp_path: Path) -> None:
    with empty(tmp_path / "d", 400) as disk:
        (made,) = make_file_systems(disk, layout := Layout(filesystem="btrfs"), divide(disk, layout))
        facts = sh("btrfs", "inspect-internal", "dump-super", made.device)
        assert re.search(r"compat_ro_flags\s+0x0\n", facts)
        assert "NO_HOLES" not in facts
        (made,) = make_file_systems(
            disk, layout := Layout(filesystem="btrfs", conservative=False), divide(disk, layout)
        )
        assert "NO_HOLES" in sh("btrfs", "inspect-internal", "dump-super", made.device)


@pytest.mark.image_row(37)
def test_identities_are_new_each_time_and_a_second_run_leaves_a_sound_disk(tmp_path: Path) -> None:
    seen = set()
    layout = Layout(boot_mode=BootMode.UEFI, table=TableType.GPT, boot=100, swap=60, esp=100)
    with empty(tmp_path / "d", 400) as disk:
        for _ in range(2):
            made = make_file_systems(disk, layout, divide(disk, layout))
            table = table_of(disk)
            assert isinstance(table["partitions"], list)
            seen |= {each.uuid for each in made} | {table["id"]} | {item["uuid"] for item in table["partitions"]}
        assert len(seen) == 2 * (4 + 1 + 4)
        msdos = set()
        for _ in range(2):
            divide(disk, Layout())
            msdos.add(table_of(disk)["id"])
        assert len(msdos) == 2


def test_an_ext4_that_was_just_made_and_its_partition_cannot_grow(tmp_path: Path) -> None:
    for table in TableType:
        with empty(tmp_path / table.value, 400) as disk:
            (made,) = make_file_systems(disk, layout := Layout(table), divide(disk, layout))
            before = rows(disk), sh("dumpe2fs", "-h", made.device)
            disk.system = System(OsFamily.LINUX, 1)
            FIX.run(disk, job(), Listener().reporter)
            assert rows(disk) == before[0]
            grow_ext(made.device, durable=False)
            blocks = [
                re.search(r"Block count:\s+(\d+)", text) for text in (before[1], sh("dumpe2fs", "-h", made.device))
            ]
            assert blocks[0] and blocks[1] and blocks[0][1] == blocks[1][1]


@pytest.mark.parametrize("table", TableType)
def test_a_kernel_without_initial_ram_disk_is_told_the_partition_as_blkid_names_it(
    tmp_path: Path, table: TableType
) -> None:
    with empty(tmp_path / "d", 400) as disk:
        made = make_file_systems(disk, layout := Layout(table, boot=100), divide(disk, layout))
        with guest_in(tmp_path / "root", {"/boot/vmlinuz-6.1": ""}) as guest:
            guest.disk = disk
            guest.mounts |= {"/": made[1].device, "/boot": made[0].device}
            start = start_of(guest, BootMode.BIOS)
        named = sh("blkid", "-p", "-o", "value", "-s", "PART_ENTRY_UUID", made[1].device).strip()
        assert start.root_argument == f"root=PARTUUID={named}"


@pytest.mark.image_row(38)
@pytest.mark.parametrize(("filesystem", "root"), [("btrfs", 2), ("ext3", 3)])
def test_what_is_filled_from_elsewhere_is_a_guest_with_all_mounted_apart(
    tmp_path: Path, filesystem: str, root: int
) -> None:
    layout = Layout(filesystem=filesystem, boot=100 if root == 3 else 0, swap=60)

    def fill(_deployment: Deployment, tree: Tree, _report: Reporter) -> None:
        Path(tree.root, "etc").mkdir()
        Path(tree.root, "etc/fstab").write_text("/dev/vdb1 /data ext4 defaults 0 2\n")
        Path(tree.boot or tree.root, "kernel").touch()

    with private_mounts(), empty(tmp_path / "d", 400) as disk:
        listener = Listener()
        assert deploy(disk, Deployment(Form.DUMP, layout), listener.reporter, fill) == root
        assert listener.tasks == [
            f"{edge} {task}"
            for task in ("PartitionDisk", "MakeFileSystems", "UnpackImage")
            for edge in ("task-start", "task-end")
        ]
        assert listener.warnings == []
        disk.reload()
        with filled(disk.node(root), filesystem, "ro") as place:
            lines = (place / "etc/fstab").read_text().splitlines()
            assert [line.split()[1:3] for line in lines[1:]] == [
                ["/", filesystem],
                ["/proc", "proc"],
                *([["/boot", filesystem]] if root == 3 else []),
                ["swap", "swap"],
                ["/data", "ext4"],
            ]
            assert lines[-1] == "/dev/vdb1 /data ext4 defaults,nofail 0 2"
            assert (place / "kernel").exists() is (root == 2)


def test_no_task_looks_for_room_on_a_disk_that_was_just_divided() -> None:
    tasks = (FIX, filesystem_resize_unmounted.TASK, filesystem_resize_mounted.TASK)
    ordered = replace(job(), deployment=Deployment(Form.TARBALL, Layout()))
    assert [task.skip(ordered) for task in tasks] == ["the helper has just divided the disk"] * 3
    assert [task.skip(job()) for task in tasks] == [None] * 3


@pytest.mark.image_row(33)
def test_what_does_not_fit_leaves_every_byte_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(b"tenant" * (2 << 20))
    before = (tmp_path / "d").read_bytes()
    with attached(tmp_path / "d") as disk, pytest.raises(DiskError):
        divide(disk, Layout(swap=8))
    assert (tmp_path / "d").read_bytes() == before


def test_nothing_of_a_former_tenant_shows_through(tmp_path: Path) -> None:
    """Marks of RAID, LVM, ZFS, LUKS, btrfs and GPT at the edges of the new disk and of each new partition."""
    layout = Layout(boot=100, swap=60)
    edges = ((0, 400), (1, 101), (101, 161), (161, 400))
    with empty(tmp_path / "d", 400) as disk:
        for start, end in edges:
            _plant(disk.device, start * MIB, end * MIB)
        assert {"linux_raid_member", "LVM2_member", "crypto_LUKS", "zfs_member", "btrfs"} == set(
            signatures(disk.device)
        )
        sh("sgdisk", "-n", "1:2048:+100M", "-t", "1:fd00", disk.device)
        made = make_file_systems(disk, layout, divide(disk, layout))
        assert signatures(disk.device) == ["dos"]
        assert {each.role.value: signatures(each.device) for each in made} == {
            "boot": ["ext4"],
            "swap": ["swap"],
            "root": ["ext4"],
        }
        with Path(disk.device).open("rb") as file:
            for start, end in edges[1:]:
                assert not any(mark in os.pread(file.fileno(), MIB, end * MIB - MIB) for mark in _MARKS)
                assert not any(
                    mark in os.pread(file.fileno(), 8 * MIB, start * MIB) for mark in _MARKS if mark != _SWAP
                )
            assert b"_BHRfS_M" not in os.pread(file.fileno(), 1 << 17, (161 + 64) * MIB)
            assert b"EFI PART" not in os.pread(file.fileno(), MIB, 399 * MIB)


_MD, _LVM, _LUKS, _SECOND_LUKS, _SWAP = (
    b"\xfc\x4e\x2b\xa9",
    b"LABELONE",
    b"LUKS\xba\xbe",
    b"SKUL\xba\xbe",
    b"SWAPSPACE2",
)
_ZFS = (0x00BAB10C).to_bytes(8, "little")
_BTRFS = b"_BHRfS_M"
_MARKS = (_MD, _LVM, _LUKS, _SECOND_LUKS, _ZFS, _BTRFS)


def _plant(device: str, start: int, end: int) -> None:
    """Formats: md.rst of the kernel (0.90, 1.0, 1.2), LVM's label, LUKS2, ZFS's labels, btrfs' superblocks."""
    length = end - start
    md_090 = (length & ~0xFFFF) - 0x10000
    md_10 = ((length // 512 - 16) & ~7) * 512
    one = _MD + (1).to_bytes(4, "little") + bytes(0x90 - 8)
    marks = {
        0: _LUKS + b"\0\2",
        512: _LVM + (1).to_bytes(8, "little") + bytes(4) + (32).to_bytes(4, "little") + b"LVM2 001",
        4096: one + (8).to_bytes(8, "little"),
        4086: _SWAP,
        0x4000: _SECOND_LUKS + b"\0\2",
        0x400000: _SECOND_LUKS + b"\0\2",
        0x10040: _BTRFS,
        64 * MIB + 0x40: _BTRFS,
        md_090: _MD + bytes(4) + (90).to_bytes(4, "little"),
        md_10: one + (md_10 // 512).to_bytes(8, "little"),
        **{
            at + 0x20000 + number * 1024: _ZFS
            for at in (0, 0x40000, length - 0x80000, length - 0x40000)
            for number in range(8)
        },
    }
    with Path(device).open("r+b", buffering=0) as file:
        for at, mark in marks.items():
            if at + len(mark) <= length:
                os.pwrite(file.fileno(), mark, start + at)
