# SPDX-License-Identifier: GPL-2.0-or-later
"""Partition arithmetic of the test images, held against sfdisk."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.distribution import DISTRIBUTIONS
from images.guests import DISKS
from images.inspection import check_table, partition_table
from images.layouts import LAYOUTS
from images.partitions import SECTORS_PER_MIB, Table, TableType, create_disk, last_size

TABLES = (
    {name: layout.table for name, layout in LAYOUTS.items()}
    | {name: distribution.table for name, distribution in DISTRIBUTIONS.items()}
    | {f"guest-{name}": disk.layout.table for name, disk in DISKS.items()}
)


@pytest.mark.parametrize("name", TABLES)
def test_sfdisk_makes_each_table_as_it_is_described(name: str, tmp_path: Path) -> None:
    table = TABLES[name]
    disk = tmp_path / "disk"
    create_disk(disk, table)
    check_table(disk)
    found = partition_table(disk)
    assert found.label == table.type
    assert {(part.number, part.start, part.size, part.type.upper()) for part in found.partitions} == {
        (part.number, part.start, part.size, part.type.upper()) for part in table.partitions
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_two_file_systems_of_a_layout_share_a_place(name: str) -> None:
    layout = LAYOUTS[name]
    used = sorted((layout.table.partition(volume.partition) for volume in layout.volumes), key=lambda part: part.start)
    assert all(left.start + left.size <= right.start for left, right in pairwise(used))
    assert len({volume.partition for volume in layout.volumes}) == len(layout.volumes)


@given(st.sampled_from((TableType.GPT, TableType.MBR)), st.integers(3, 4096))
def test_the_last_partition_ends_on_a_whole_mib_inside_the_disk(table_type: TableType, mib: int) -> None:
    end = SECTORS_PER_MIB + last_size(table_type, mib, SECTORS_PER_MIB)
    assert end % SECTORS_PER_MIB == 0
    assert 0 <= mib * SECTORS_PER_MIB - end <= SECTORS_PER_MIB
    assert table_type is TableType.MBR or mib * SECTORS_PER_MIB - end >= 33


def test_an_unknown_partition_is_an_error() -> None:
    with pytest.raises(StopIteration):
        Table(TableType.GPT, "", 1, ()).partition(1)
