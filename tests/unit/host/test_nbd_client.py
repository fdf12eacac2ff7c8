# SPDX-License-Identifier: GPL-2.0-or-later
"""Extents as a server tells them become extents that can be written to a disk. The rest is in test_remote_disks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.nbd_client import aligned
from snf_image_host.sources import ALIGNMENT, Extent

LENGTHS = st.one_of(st.integers(1, 3 * ALIGNMENT), st.integers(1, 24).map(lambda sectors: 512 * sectors))


def told(lengths: list[tuple[int, bool]]) -> list[Extent]:
    extents, position = [], 0
    for length, is_data in lengths:
        extents.append(Extent(position, length, is_data))
        position += length
    return extents


def data(extents: list[Extent]) -> set[int]:
    return {at for extent in extents if extent.is_data for at in range(extent.offset, extent.offset + extent.length)}


@given(st.lists(st.tuples(LENGTHS, st.booleans()), max_size=8).map(told))
def test_extents_cover_the_same_with_borders_that_a_disk_can_be_written_at(given: list[Extent]) -> None:
    found = list(aligned(given))
    size = sum(extent.length for extent in given)
    assert [extent.offset for extent in found] == [sum(e.length for e in found[:n]) for n in range(len(found))]
    assert sum(extent.length for extent in found) == size
    assert all(extent.length > 0 and extent.offset % ALIGNMENT == 0 for extent in found)
    assert data(given) <= data(found)


@given(st.lists(st.tuples(st.integers(1, 4).map(lambda n: n * ALIGNMENT), st.booleans()), max_size=8).map(told))
def test_of_borders_that_can_be_written_at_nothing_is_changed(given: list[Extent]) -> None:
    assert data(list(aligned(given))) == data(given)
