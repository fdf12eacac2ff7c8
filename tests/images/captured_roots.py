# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks whose roots lie where snf-image-capture has to find them: on xfs, in subvolumes of btrfs, on LVM."""

from __future__ import annotations

from images.file_systems import Kind
from images.layouts import Layout, Volume
from images.partitions import SECTORS_PER_MIB, Partition, Table, TableType, Type, last_size

_GPT_ID, _MBR_ID = "6D1C0B52-7B5A-4E3A-9E55-3C2B6A9D1309", "0x5eed0009"


def _alone(mib: int) -> Table:
    size = last_size(TableType.GPT, mib, SECTORS_PER_MIB)
    only = Partition(1, SECTORS_PER_MIB, size, Type.LINUX, uuid="0B5E55ED-0000-4000-8000-000000000901", name="root")
    return Table(TableType.GPT, _GPT_ID, mib, (only,))


ROOTS = {
    "xfs": Layout(_alone(400), (Volume(1, Kind.XFS, "/"),)),
    "btrfs": Layout(_alone(300), (Volume(1, Kind.BTRFS, "/", subvolumes={"/": "@", "/var": "@var"}),)),
    "lvm": Layout(
        Table(
            TableType.MBR,
            _MBR_ID,
            300,
            (
                Partition(1, SECTORS_PER_MIB, 40 * SECTORS_PER_MIB, Type.MBR_LINUX),
                Partition(2, 41 * SECTORS_PER_MIB, 259 * SECTORS_PER_MIB, Type.MBR_LVM),
            ),
        ),
        (
            Volume(2, Kind.EXT4, "/", source="/dev/mapper/a--group-root", logical="a-group/root"),
            Volume(1, Kind.EXT4, "/boot"),
        ),
        ("/dev/mapper/a--group-swap\tnone\tswap\tsw\t0\t0",),
        {"a-group/swap": 32, "a-group/root": 200},
    ),
}
