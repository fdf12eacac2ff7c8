# SPDX-License-Identifier: GPL-2.0-or-later
"""What many tests compare disks with: a difference of one byte is seen, and where the holes are is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sparse_disks import copy_disk, digest

MIB = 1 << 20


def disk(path: Path, *, holes: bool = True, size: int = 3 * MIB, **changed: int) -> Path:
    """A disk with something in its middle; `changed` is `at` an offset."""
    content = bytearray(size)
    content[MIB + 70_000 : MIB + 70_010] = b"0123456789"
    for offset in changed.values():
        content[offset] ^= 1
    path.write_bytes(content)
    if holes:
        sparse = copy_disk(path, path.with_name("sparse"))
        sparse.replace(path)
    return path


def test_a_copy_has_the_bytes_and_the_mode_of_a_disk_and_its_holes(tmp_path: Path) -> None:
    original = disk(tmp_path / "disk", holes=False)
    original.chmod(0o640)
    copy = copy_disk(original, tmp_path / "copy")
    assert copy.read_bytes() == original.read_bytes()
    assert copy.stat().st_mode == original.stat().st_mode
    assert copy.stat().st_blocks < original.stat().st_blocks


def test_disks_of_the_same_bytes_have_one_digest_wherever_their_holes_are(tmp_path: Path) -> None:
    assert digest(disk(tmp_path / "a", holes=True)) == digest(disk(tmp_path / "b", holes=False))


@pytest.mark.parametrize("at", [0, MIB + 70_005, 2 * MIB, 3 * MIB - 1])
def test_one_other_byte_makes_another_digest(tmp_path: Path, at: int) -> None:
    assert digest(disk(tmp_path / "a")) != digest(disk(tmp_path / "b", at=at))


def test_the_same_bytes_at_another_place_or_before_another_end_make_another_digest(tmp_path: Path) -> None:
    one, other, longer = disk(tmp_path / "a"), tmp_path / "b", disk(tmp_path / "c", size=4 * MIB)
    other.write_bytes(one.read_bytes()[1 << 16 :] + bytes(1 << 16))
    assert len({digest(one), digest(other), digest(longer)}) == 3
    os.truncate(longer, 3 * MIB)
    assert digest(longer) == digest(one)
