# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams of xz whose blocks are decompressed side by side: the bytes that `xz -dc` gives, or refused."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_deployment import MIB, boots, deploy, make_disk, on_disk
from snf_image_host.decoding.compression import unpacked
from snf_image_host.decoding.stored import Stored
from snf_image_shared.errors import ImageError

HEADER = 12  # bytes of a stream before its first block, and behind its index
FILTERS = b"\x21\x01\x16"  # LZMA2 with a dictionary of 8 MiB
HUGE = b"\xff" * 8 + b"\x3f"  # 2^62 and more, in the nine bytes that a number may have
EMPTY_CHUNK = b"\0"  # the end of LZMA2 data


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory on a file system with O_DIRECT, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


def content(size: int, seed: int) -> bytes:
    """Runs of what does not compress, of what does, and of zeros."""
    dice = Random(seed)
    runs = bytearray()
    while len(runs) < size:
        length = dice.randrange(1, 60_000)
        runs += dice.choice((bytes(length), dice.randbytes(length), b"0123456789abcdef" * (length // 16)))
    return bytes(runs[:size])


def xz(raw: bytes, *options: str) -> bytes:
    return subprocess.run(["xz", "-c", "-T2", *options], input=raw, stdout=subprocess.PIPE, check=True).stdout


def decompressed(stored: bytes) -> bytes:
    """All of it. Raises ImageError."""
    file = os.memfd_create("stored")
    try:
        os.pwrite(file, stored, 0)
        source = unpacked(Stored(file), "xz")
        made = bytearray()
        piece = bytearray(3 << 16)
        while count := source.readinto(memoryview(piece)):
            made += piece[:count]
        return bytes(made)
    finally:
        os.close(file)


def is_refused(stored: bytes) -> bool:
    try:
        decompressed(stored)
    except ImageError:
        return True
    return False


streams = st.lists(
    st.tuples(
        st.integers(0, 300_000),  # bytes
        st.integers(0, 4),  # seed
        st.sampled_from(["--block-size=4096", "--block-size=70000", "--block-list=1,5000,60000,0", "-T1"]),
        st.sampled_from(["-0", "-1", "-6", "--x86 --lzma2=preset=0", "--delta=dist=4 --lzma2=dict=4KiB"]),
        st.sampled_from(["none", "crc32", "crc64", "sha256"]),
        st.sampled_from([0, 4, 8, 5000]),  # bytes of padding behind it
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=30, deadline=None)
@given(streams)
def test_what_xz_makes_is_read_as_xz_reads_it(parts: list[tuple[int, int, str, str, str, int]]) -> None:
    stored = b""
    for size, seed, blocks, filters, check, padding in parts:
        stored += xz(content(size, seed), blocks, *filters.split(), f"--check={check}") + bytes(padding)
    expected = subprocess.run(["xz", "-dc"], input=stored, stdout=subprocess.PIPE, check=True).stdout
    assert decompressed(stored) == expected


def test_blocks_larger_than_what_may_wait_are_read() -> None:
    raw = Random(1).randbytes(10 * MIB) + bytes(38 * MIB)
    assert decompressed(xz(raw, "-0", "--block-size=20MiB")) == raw


def test_no_cut_and_no_changed_byte_is_taken_for_the_image() -> None:
    raw = content(4000, 1)
    stored = xz(raw, "-0", "--block-size=1500")
    assert decompressed(stored) == raw
    for length in range(1, len(stored)):
        assert is_refused(stored[:length])
    for place in range(len(stored)):
        damaged = bytearray(stored)
        damaged[place] ^= 0x11
        assert is_refused(bytes(damaged)), place


def test_an_index_of_other_blocks_is_refused() -> None:
    whole, other = (xz(content(9000, 1), "-0", f"--block-size={size}") for size in (4000, 5000))
    assert len(whole) != len(other)
    for stored, foreign in ((whole, other), (other, whole)):
        body, index = stored[: index_of(stored)], foreign[index_of(foreign) :]
        assert is_refused(body + index)
    body = whole[: index_of(whole)]
    assert is_refused(body[:HEADER] + body[HEADER:] * 2 + whole[index_of(whole) :])


def test_an_index_whose_records_stand_in_another_order_is_refused() -> None:
    stored = xz(Random(1).randbytes(7000), "-0", "--block-size=4000")
    start = index_of(stored)
    count, first, second = stored[start + 1], stored[start + 2 : start + 6], stored[start + 6 : start + 10]
    assert (count, len(stored) - HEADER - start) == (2, 16)
    index = stored[start : start + 2] + second + first + bytes(2)
    assert is_refused(stored[:start] + index + crc32(index).to_bytes(4, "little") + stored[-HEADER:])


def test_no_thread_is_left_of_an_image_that_is_refused_or_left() -> None:
    before = threading.active_count()
    stored = xz(content(200_000, 1), "-0", "--block-size=20000")
    for length in range(100, len(stored), len(stored) // 9):
        assert is_refused(stored[:length])
        assert is_refused(stored[:length] + b"x" + stored[length:])
    deadline = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before  # one of the test before may have been about to end


def index_of(stored: bytes) -> int:
    size = 4 * (int.from_bytes(stored[-8:-4], "little") + 1)
    return len(stored) - HEADER - size


def block_header(compressed: bytes, size: bytes) -> bytes:
    """One that tells these two sizes, already encoded."""
    header = b"\0\xc0" + compressed + size + FILTERS
    header = header.ljust(-(-len(header) // 4) * 4, b"\0")
    header = bytes([len(header) // 4]) + header[1:]
    return header + crc32(header).to_bytes(4, "little")


@pytest.mark.parametrize("compressed", [HUGE, b"\x01", b"\0", b"\x80\x80\0"], ids=["huge", "1", "0", "not-shortest"])
@pytest.mark.parametrize("size", [HUGE, b"\x01", b"\x80\0"], ids=["huge", "1", "not-shortest"])
def test_sizes_that_are_not_true_are_refused_at_once(compressed: bytes, size: bytes) -> None:
    start = xz(b"", "--check=none")[:HEADER]
    for before in (b"", xz(b"x" * 9, "--check=none")[HEADER:-HEADER]):
        assert is_refused(start + before + block_header(compressed, size) + EMPTY_CHUNK + bytes(100_000))


def test_a_disk_is_exact_and_a_bomb_goes_no_further_than_it(directory: Path) -> None:
    raw = content(9 * MIB, 2)
    (directory / "image").write_bytes(xz(raw, "-0", "--block-size=1MiB"))
    disk = make_disk(directory, 10 * MIB)
    deploy(directory, disk)
    assert disk.read_bytes() == on_disk(raw, 10 * MIB)
    bomb = xz(bytes(64 * MIB), "-0", "--block-size=4MiB")
    (directory / "image").write_bytes(xz(raw, "-0", "--block-size=1MiB") + bomb * 160)  # 10 GiB
    with pytest.raises(ImageError, match="is larger than the disk when decompressed, with room for 10485760 bytes"):
        deploy(directory, disk)
    assert not boots(disk)


def test_a_dictionary_of_4_gib_is_refused_in_any_block() -> None:
    raw = content(5000, 3)
    stored = xz(raw, "-0", "--block-size=3000", "--check=crc32")
    for place in block_headers(stored):
        end = place + 4 * stored[place]
        filters = stored.index(b"\x21\x01", place, end)
        hostile = bytearray(stored)
        hostile[filters + 2] = 40
        hostile[end : end + 4] = crc32(hostile[place:end]).to_bytes(4, "little")
        with pytest.raises(ImageError, match="needs more than 256 MiB of memory"):
            decompressed(bytes(hostile))


def block_headers(stored: bytes) -> list[int]:
    """Where the two blocks begin whose first has 3000 bytes."""
    first = xz(content(5000, 3)[:3000], "-0", "--check=crc32")
    return [HEADER, index_of(first)]
