# SPDX-License-Identifier: GPL-2.0-or-later
"""Partition tables that lie: each is refused with what is wrong with it, or read as what it is, and none is written."""

from __future__ import annotations

import random
import struct
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from snf_image_helper.disks.disk import Disk
from snf_image_helper.system import OsFamily, System
from snf_image_helper.tasks.fix_partition_table import TASK
from snf_image_shared.errors import GuestError, SnfImageError
from unit.helper.disk_images import MIB, Listener, attached, job

pytestmark = pytest.mark.root

SECTOR = 512
SECTORS = 64 * MIB // SECTOR
LINUX = uuid.UUID("0FC63DAF-8483-4772-8E79-3D69D8477DE4").bytes_le
PROTECTIVE = b"\0\0\2\0\xee\xff\xff\xff" + struct.pack("<II", 1, SECTORS - 1)


def header(at: int, other: int, entries: bytes, **lies: int) -> bytes:
    """A header of a GPT whose checksums are right, whatever it says: UEFI specification, "GPT Header"."""
    told = {"own": at, "count": 128, "size": 128, "first": 34, "last": SECTORS - 34, **lies}
    start = 2 if at == 1 else SECTORS - 33
    places = (told["own"], other, told["first"], told["last"])
    tail = (start, told["count"], told["size"], zlib.crc32(entries))
    text = struct.pack("<8sIIII4Q16sQIII", b"EFI PART", 0x10000, 92, 0, 0, *places, bytes(range(16)), *tail)
    return text[:16] + struct.pack("<I", zlib.crc32(text)) + text[20:]


def entry(first: int, last: int, number: int = 1) -> bytes:
    return LINUX + bytes([number]) * 16 + struct.pack("<QQQ72s", first, last, 0, b"")


def gpt(
    path: Path,
    *partitions: bytes,
    backup: tuple[bytes, ...] | None = None,
    lies: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """A disk with both tables; `backup` are other partitions in the second one, `lies` stand in both headers."""
    with path.open("wb") as file:
        file.truncate(SECTORS * SECTOR)
        file.seek(446)
        file.write(PROTECTIVE + bytes(48) + b"\x55\xaa")
        for at, other, found in ((1, SECTORS - 1, partitions), (SECTORS - 1, 1, backup or partitions)):
            entries = b"".join(found).ljust(128 * 128, b"\0")
            file.seek(at * SECTOR)
            file.write(header(at, other, entries, **lies))
            file.seek(2 * SECTOR if at == 1 else (SECTORS - 33) * SECTOR)
            file.write(entries)


def refused(path: Path) -> str:
    """Why the table is refused; the disk has stayed as it was to the byte."""
    before = path.read_bytes()
    with attached(path) as disk, pytest.raises(SnfImageError) as caught:
        disk.reload()
        disk.system = System(OsFamily.LINUX, 1)
        TASK.run(disk, job(), Listener().reporter)
    assert path.read_bytes() == before
    return str(caught.value)


def numbers(disk: Disk) -> list[int]:
    return [place.number for place in disk.places()]


def test_the_table_without_a_lie_is_read(tmp_path: Path) -> None:
    gpt(tmp_path / "d", entry(2048, 4095, 1), entry(4096, 8191, 2))
    with attached(tmp_path / "d") as disk:
        disk.reload()
        assert numbers(disk) == [1, 2]


@pytest.mark.parametrize(
    "lies",
    [
        {"count": 0xFFFFFFFF},
        {"count": 0xFFFFFFFF, "size": 0x80000000},
        {"size": 0},
        {"size": 0x80000000},
        {"own": 77},
        {"first": SECTORS, "last": 1},
        {"last": 1 << 62},
    ],
    ids=str,
)
def test_a_header_that_promises_too_much_is_refused(tmp_path: Path, lies: dict[str, int]) -> None:
    gpt(tmp_path / "d", entry(2048, 4095), lies=lies)
    assert "no valid GPT" in refused(tmp_path / "d")


@pytest.mark.parametrize(
    ("partitions", "said"),
    [
        ((entry(2048, 8191), entry(4096, 9000, 2)), "overlap"),
        ((entry(2048, 8191), entry(2048, 8191, 2)), "overlap"),
        ((entry(8191, 2048),), "does not lie on the disk"),
        ((entry(2048, SECTORS * 4),), "does not lie on the disk"),
        ((entry(2048, (1 << 64) - 1),), "does not lie on the disk"),
        ((entry(0, 4095),), "does not lie on the disk"),
        ((entry(1, 4095),), "does not lie on the disk"),
        ((entry(1 << 63, (1 << 63) + 5),), "does not lie on the disk"),
    ],
)
def test_partitions_that_cannot_be_are_refused(tmp_path: Path, partitions: tuple[bytes, ...], said: str) -> None:
    gpt(tmp_path / "d", *partitions)
    assert said in refused(tmp_path / "d")


def test_of_two_tables_that_differ_the_first_counts_and_the_second_becomes_its_copy(tmp_path: Path) -> None:
    """All kernels and tools read the first one while it is valid."""
    path = tmp_path / "d"
    gpt(path, entry(2048, 4095, 1), backup=(entry(2048, 8191, 7), entry(16384, 20000, 8)))
    with attached(path) as disk:
        disk.reload()
        assert numbers(disk) == [1]
        disk.system = System(OsFamily.LINUX, 1)
        TASK.run(disk, job(), Listener().reporter)
    content = path.read_bytes()
    assert content[2 * SECTOR : 34 * SECTOR] == content[(SECTORS - 33) * SECTOR : (SECTORS - 1) * SECTOR]


def chain(path: Path, links: list[int], first: int = 2048) -> None:
    """An extended partition whose records stand in these sectors of it; the last one leads to the first."""
    with path.open("wb") as file:
        file.truncate(SECTORS * SECTOR)

        def record(sector: int, *entries: tuple[int, int, int]) -> None:
            file.seek(sector * SECTOR + 446)
            told = b"".join(struct.pack("<4sB3sII", b"", kind, b"", start, size) for kind, start, size in entries)
            file.write(told.ljust(64, b"\0") + b"\x55\xaa")

        record(0, (5, first, SECTORS - first))
        for here, following in zip(links, [*links[1:], links[0]], strict=True):
            record(first + here, (0x83, 1, 1), (5, following, 2))


@pytest.mark.parametrize("links", [[0], [0, 4], [0, 4, 8, 12]], ids=str)
def test_a_chain_of_logical_partitions_that_leads_back_is_refused(tmp_path: Path, links: list[int]) -> None:
    chain(tmp_path / "d", links)
    assert any(word in refused(tmp_path / "d") for word in ("chain", "overlap", "does not lie"))


def test_ten_thousand_logical_partitions_are_refused(tmp_path: Path) -> None:
    chain(tmp_path / "d", list(range(0, 40_000, 4)))
    assert "chain" in refused(tmp_path / "d")


def test_two_partitions_of_one_uuid_are_told_apart_by_their_numbers(tmp_path: Path) -> None:
    gpt(tmp_path / "d", entry(2048, 4095, 1), entry(4096, 8191, 1))
    with attached(tmp_path / "d") as disk:
        disk.reload()
        assert numbers(disk) == [1, 2]


@pytest.mark.parametrize("seed", range(6))
def test_random_bytes_in_a_table_end_with_an_error_or_a_sound_table(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "d"
    gpt(path, entry(2048, 4095, 1), entry(4096, 8191, 2))
    with path.open("r+b") as file:
        for _ in range(8):
            file.seek(chance.choice((446, SECTOR, 2 * SECTOR)) + chance.randrange(256))
            file.write(bytes([chance.randrange(256)]))
    with attached(path) as disk:
        try:
            disk.reload()
        except GuestError:
            return
        for place in disk.places():
            assert place.partition is None or 0 < place.partition.start <= place.partition.end < SECTORS
