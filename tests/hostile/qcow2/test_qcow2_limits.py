# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2 images that ask for much memory or work: it is refused, or done in bounded memory in the decoder's limits."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qcow2_images import COPIED, DATA, L1, L2, MEMORY, Crafted, Outcome, Reader, compressed_entry, deflated

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PEAK = 100 * MIB
ZSTD = Crafted(fields={"features": 1 << 3}, compression=1)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory on a file system with O_DIRECT and large files, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


def read(directory: Path, image: Crafted, size: int = 4 * MIB) -> Outcome:
    """What becomes of the image on an empty disk of that size, with a peak of memory that is acceptable."""
    disk = directory / "disk"
    with disk.open("wb") as file:
        file.truncate(size)
    with Reader() as reader:
        outcome = reader.read(image.write(directory / "image"), disk)
    assert outcome.peak < PEAK < MEMORY
    return outcome


def test_the_largest_l1_table_needs_no_memory_of_its_size(directory: Path) -> None:
    """Its first entry leads to two clusters of data, its last to one, the last of the disk."""
    entries = 4 << 20
    size = entries * 32 * KIB
    other_table, behind = DATA + 3, DATA + 4
    image = Crafted(
        bits=9,
        fields={"size": size, "l1_entries": entries, "l1_offset": behind * 512},
        l2={2: 0, 3: 0},
        clusters={
            other_table: bytes(63 * 8) + struct.pack(">Q", (DATA + 2) * 512 | COPIED),
            behind: struct.pack(">Q", L2 * 512 | COPIED),
            behind + entries // 64 - 1: bytes(63 * 8) + struct.pack(">Q", other_table * 512 | COPIED),
        },
        size=behind * 512 + entries * 8,
    )
    assert read(directory, image, size).size == size
    with (directory / "disk").open("rb") as disk:
        assert disk.read(2048) == b"A" * 512 + b"B" * 512 + bytes(1024)
        disk.seek(-1024, os.SEEK_END)
        assert disk.read() == bytes(512) + b"C" * 512


def test_the_largest_file_and_a_cluster_more(directory: Path) -> None:
    largest = Crafted(bits=9, size=512 << 27, l2={4: (1 << 27) - 1 << 9 | COPIED, 5: compressed_entry(9, 1 << 30, 0)})
    assert "(check compressed-data)" in read(directory, largest).error
    one_more = read(directory, replace(largest, size=(512 << 27) + 1))
    assert "has 134217729 clusters, which is too many: publish " in one_more.error


def test_a_disk_larger_than_its_room_is_refused_before_the_first_write(directory: Path) -> None:
    somewhere = {0: 0, 100: DATA << 16 | COPIED}
    outcome = read(directory, Crafted(bits=16, fields={"size": 512 * MIB}, l2=somewhere), 16 * MIB)
    assert "the image is larger than the disk" in outcome.error
    assert (directory / "disk").stat().st_blocks == 0


def test_many_clusters_from_one_compressed_one_are_refused(directory: Path) -> None:
    bits = 16
    start = DATA << bits
    table = struct.pack(">Q", compressed_entry(bits, start, 0)) * 8192
    image = Crafted(
        bits=bits,
        fields={"size": 2 * 8192 << bits, "l1_entries": 2},
        l1={1: DATA + 1 << bits},
        clusters={L2: table, DATA + 1: table, DATA: deflated(bytes(64 * KIB))},
    )
    outcome = read(directory, image, 2 * 8192 << bits)
    assert "has more compressed data than the file is long: " in outcome.error
    assert (directory / "disk").stat().st_blocks == 0


def test_as_many_clusters_as_compression_can_give_are_read(directory: Path) -> None:
    """Data of 0xFF compresses to a thousandth: what QEMU makes of it is no amplification."""
    bits = 16
    packed = deflated(b"\xff" * (64 * KIB))
    places = [(DATA << bits) + number * len(packed) for number in range(200)]
    image = Crafted(
        bits=bits,
        fields={"size": 200 << bits},
        l2={
            number: compressed_entry(bits, place, (place % 512 + len(packed) - 1) // 512)
            for number, place in enumerate(places)
        },
        clusters={DATA: packed * 200},
        size=(DATA + 1) << bits,
    )
    assert read(directory, image, 200 << bits).size == 200 << bits
    assert set((directory / "disk").read_bytes()) == {0xFF}


@pytest.mark.parametrize("zeros", [64 * MIB, 4 * KIB])
def test_compressed_data_gives_a_cluster_and_never_more(directory: Path, zeros: int) -> None:
    packed = deflated(b"A" * zeros)[: 8 * KIB]
    entry = compressed_entry(12, DATA * 4 * KIB, min(15, (len(packed) - 1) // 512))
    image = Crafted(l2={0: entry, 1: 0, 2: 0, 3: 0}, clusters={DATA: packed})
    assert read(directory, image).size == 64 * KIB
    assert (directory / "disk").read_bytes()[: 8 * KIB] == b"A" * 4 * KIB + bytes(4 * KIB)


@pytest.mark.parametrize(
    "packed",
    [b"", b"\xff" * 512, deflated(b"A" * 4095), deflated(bytes(range(256)) * 16)[:200]],
    ids=["nothing", "no-deflate", "short", "cut"],
)
def test_compressed_data_that_is_no_whole_cluster_is_refused(directory: Path, packed: bytes) -> None:
    image = Crafted(l2={0: compressed_entry(12, DATA * 4 * KIB, 0)}, clusters={DATA: packed.ljust(512, b"\0")})
    assert "has no whole cluster in the compressed data for byte 0: " in read(directory, image).error


def zstd_frame(window: int, blocks: bytes) -> bytes:
    """A frame (RFC 8878) without a content size that asks for 2^window bytes of memory."""
    return struct.pack("<IBB", 0xFD2FB528, 0, window - 10 << 3) + blocks


def run_length(byte: bytes, length: int, *, last: bool) -> bytes:
    """A block of one byte, repeated."""
    return struct.pack("<I", length << 3 | 1 << 1 | last)[:3] + byte


def test_zstd_that_is_no_whole_cluster_is_refused(directory: Path) -> None:
    for frame in (b"", zstd_frame(20, run_length(b"A", 4 * KIB - 1, last=True)), zstd_frame(20, b"")):
        image = replace(ZSTD, l2={0: compressed_entry(12, DATA * 4 * KIB, 0)}, clusters={DATA: frame})
        assert "(check compressed-data)" in read(directory, image).error


@pytest.mark.parametrize("window", [24, 27, 31])
def test_zstd_that_wants_a_large_window_is_refused(directory: Path, window: int) -> None:
    frame = zstd_frame(window, run_length(b"A", 4 * KIB, last=True))
    image = replace(ZSTD, l2={0: compressed_entry(12, DATA * 4 * KIB, 0)}, clusters={DATA: frame})
    assert "(check compressed-data)" in read(directory, image).error


def test_zstd_gives_a_cluster_and_never_more(directory: Path) -> None:
    frame = zstd_frame(20, run_length(b"A", 128 * KIB, last=False) * 100 + run_length(b"A", 128 * KIB, last=True))
    image = replace(ZSTD, l2={0: compressed_entry(12, DATA * 4 * KIB, 0), 1: 0}, clusters={DATA: frame})
    assert read(directory, image).size == 64 * KIB
    assert (directory / "disk").read_bytes()[: 8 * KIB] == b"A" * 4 * KIB + bytes(4 * KIB)


def test_clusters_of_2_mib_packed_as_badly_as_can_be_fit_into_memory(directory: Path) -> None:
    bits, count = 21, 24
    packed = deflated(bytes(range(256)) * (8 * KIB))
    places = {number: (DATA + 4 + 2 * number << bits) - 511 for number in range(count)}
    image = Crafted(
        bits=bits,
        fields={"size": count << bits},
        l2={number: compressed_entry(bits, place, 8191) for number, place in places.items()},
        size=(DATA + 4 + 2 * count) << bits,
    ).write(directory / "image")
    with image.open("r+b") as file:
        for place in places.values():
            file.seek(place)
            file.write(packed)
    disk = directory / "disk"
    disk.touch()
    with disk.open("wb") as file:
        file.truncate(count << bits)
    with Reader() as reader:
        outcome = reader.read(image, disk)
    assert (outcome.size, outcome.error) == (count << bits, "")
    assert outcome.peak < PEAK
    with disk.open("rb") as file:
        assert all(file.read(256) == bytes(range(256)) for _ in range(count << bits - 8))


def test_an_l1_table_in_another_place_is_read_there(directory: Path) -> None:
    image = Crafted(fields={"l1_offset": (DATA + 3) << 12}, clusters={DATA + 3: struct.pack(">Q", L2 << 12), L1: b""})
    assert read(directory, replace(image, l2={3: 0})).size == 64 * KIB
