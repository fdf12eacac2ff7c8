# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB's two patched addresses, in bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from images.grub import boot_sector, placed_core

SECTORS = st.integers(1, 2**40)


@given(st.binary(min_size=512, max_size=512), st.binary(min_size=72, max_size=72), SECTORS)
def test_the_boot_sector_keeps_the_disks_table_and_names_the_core(code: bytes, table: bytes, sector: int) -> None:
    made = boot_sector(code, table, sector)
    assert len(made) == 512
    assert made[0x1B8:] == table
    assert int.from_bytes(made[0x5C:0x64], "little") == sector
    assert made[:0x5C] + made[0x64:0x1B8] == code[:0x5C] + code[0x64:0x1B8]


@given(st.integers(513, 40_000), SECTORS)
def test_the_core_names_where_its_other_sectors_lie(length: int, sector: int) -> None:
    made = placed_core(bytes(length), sector)
    assert len(made) == length
    assert int.from_bytes(made[0x1F4:0x1FC], "little") == sector + 1
    assert int.from_bytes(made[0x1FC:0x1FE], "little") * 512 < length <= (made[0x1FC] + 256 * made[0x1FD] + 1) * 512
    assert made[0x1FE:0x200] == b"\x20\x08"
