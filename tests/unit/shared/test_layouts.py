# SPDX-License-Identifier: GPL-2.0-or-later
"""The arithmetic of a new disk: instance-image's four layouts, what GPT and UEFI add, and what does not fit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_shared.deployment import BootMode, Layout, TableType
from snf_image_shared.errors import DiskError
from snf_image_shared.layouts import MIB, Role, file_system_of, partitions

GIB = 1024  # MiB


def made(layout: Layout, mib: int) -> dict[int, tuple[str, int, int]]:
    """Number -> role, start and size."""
    return {each.number: (str(each.role), each.start, each.size) for each in partitions(layout, mib * MIB)}


@pytest.mark.image_row(26)
def test_without_a_kernel_of_the_hypervisor_boot_comes_first_and_swap_before_the_root() -> None:
    assert made(Layout(boot=100, swap=128), 2048) == {
        1: ("boot", 1, 100),
        2: ("swap", 101, 128),
        3: ("root", 229, 1819),
    }
    assert made(Layout(boot=100), 2048) == {1: ("boot", 1, 100), 2: ("root", 101, 1947)}


@pytest.mark.image_row(27)
def test_with_one_there_is_swap_and_the_root_or_the_root_alone() -> None:
    assert made(Layout(swap=128), 2048) == {1: ("swap", 1, 128), 2: ("root", 129, 1919)}
    assert made(Layout(), 2048) == {1: ("root", 1, 2047)}


@pytest.mark.image_row(26)
def test_what_gpt_and_uefi_need_stands_before_the_others_and_is_numbered_behind_them() -> None:
    gpt = Layout(TableType.GPT, boot=100, swap=128)
    assert made(gpt, 2048) == {
        4: ("bios-boot", 1, 1),
        1: ("boot", 2, 100),
        2: ("swap", 102, 128),
        3: ("root", 230, 1817),
    }
    assert made(replace(gpt, boot_mode=BootMode.UEFI, esp=300), 2048) == {
        4: ("esp", 1, 300),
        1: ("boot", 301, 100),
        2: ("swap", 401, 128),
        3: ("root", 529, 1518),
    }
    assert made(Layout(boot_mode=BootMode.UEFI), 2048) == {2: ("esp", 1, 260), 1: ("root", 261, 1787)}


def test_a_disk_that_ends_within_a_mib_loses_its_end_alone() -> None:
    assert partitions(Layout(), 2048 * MIB + 300 * 1024) == partitions(Layout(), 2048 * MIB)


@pytest.mark.image_row(35)
def test_an_msdos_table_is_refused_where_it_does_not_reach() -> None:
    assert made(Layout(), 2048 * GIB)[1] == ("root", 1, 2048 * GIB - 1)
    with pytest.raises(DiskError, match="PARTITION_TABLE=msdos reaches 2097152: give gpt, or leave it out"):
        partitions(Layout(), (2048 * GIB + 1) * MIB)
    assert made(Layout(TableType.GPT), 3072 * GIB)[1] == ("root", 2, 3072 * GIB - 3)


@pytest.mark.image_row(32)
def test_swap_larger_than_the_disk_is_said_in_instance_images_words() -> None:
    with pytest.raises(
        DiskError, match=r"^SWAP_SIZE larger than system disk size: 4096 MiB of swap, 2048 MiB of disk$"
    ):
        partitions(Layout(swap=4096), 2048 * MIB)


@pytest.mark.image_row(33)
def test_boot_and_swap_that_leave_no_root_are_refused() -> None:
    with pytest.raises(
        DiskError, match=r"has 2048 MiB, which leaves 0 for the root beside boot 100, swap 2047 \(MiB\)"
    ):
        partitions(Layout(boot=100, swap=2047), 2048 * MIB)


@pytest.mark.parametrize(("filesystem", "least"), [("ext2", 64), ("ext4", 64), ("btrfs", 128), ("xfs", 300)])
def test_a_root_below_what_its_mkfs_takes_is_refused(filesystem: str, least: int) -> None:
    assert made(Layout(filesystem=filesystem), least + 1)[1] == ("root", 1, least)
    with pytest.raises(DiskError, match=f"{filesystem} needs {least}"):
        partitions(Layout(filesystem=filesystem), least * MIB)


def test_a_root_beyond_what_its_file_system_can_count_is_refused() -> None:
    huge = 20 * 1024 * GIB * MIB
    with pytest.raises(DiskError, match="ext3 takes 16777215: FILESYSTEM=ext4 has room"):
        partitions(Layout(TableType.GPT, filesystem="ext3"), huge)
    assert partitions(Layout(TableType.GPT), huge)


def test_a_boot_that_holds_no_kernel_is_refused() -> None:
    with pytest.raises(DiskError, match="BOOT_SIZE is 15 MiB and 16 are the least"):
        partitions(Layout(boot=15), 2048 * MIB)


@pytest.mark.parametrize("filesystem", ["ext2", "ext3", "ext4", "xfs", "btrfs"])
def test_a_separate_boot_is_of_the_roots_type_if_every_loader_reads_that(filesystem: str) -> None:
    layout = Layout(filesystem=filesystem)
    assert file_system_of(Role.ROOT, layout) == filesystem
    assert file_system_of(Role.BOOT, layout) == {"xfs": "ext4", "btrfs": "ext4"}.get(filesystem, filesystem)


@pytest.mark.image_row(28, 29)
@given(
    st.sampled_from(TableType),
    st.sampled_from(BootMode),
    st.sampled_from(["ext3", "ext4", "xfs", "btrfs"]),
    st.tuples(*[st.integers(0, 5000)] * 2, st.integers(64, 1000)),
    st.integers(1, 1 << 42),
)
def test_partitions_lie_side_by_side_inside_the_disk_and_are_as_large_as_asked(
    table: TableType, boot_mode: BootMode, filesystem: str, sizes: tuple[int, int, int], size: int
) -> None:
    layout = Layout(table, boot_mode, filesystem, boot=sizes[0], swap=sizes[1], esp=sizes[2])
    try:
        found = partitions(layout, size)
    except DiskError:
        return
    assert [each.number for each in found] == list(range(1, len(found) + 1))
    in_place = sorted(found, key=lambda each: each.start)
    assert in_place[0].start == 1
    assert all(one.start + one.size == other.start for one, other in pairwise(in_place))
    assert in_place[-1].role is Role.ROOT
    end = in_place[-1].start + in_place[-1].size
    assert size - 2 * MIB < (end + (table is TableType.GPT)) * MIB <= size
    asked = {Role.BOOT: sizes[0], Role.SWAP: sizes[1], Role.ESP: sizes[2] * (boot_mode is BootMode.UEFI)}
    assert {each.role: each.size for each in found if each.role in asked} == {
        role: wanted for role, wanted in asked.items() if wanted
    }
