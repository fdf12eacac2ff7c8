# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from block_devices import loop_device
from snf_image_host.copying.buffers import CHUNK, huge_pages
from snf_image_host.copying.courtesy import Courtesy
from snf_image_host.copying.edges import EdgesLast, edges_last
from snf_image_host.copying.pipeline import PlainImage, Terms, copy
from snf_image_host.disks.targets import EDGE, open_target
from snf_image_host.images.integrity import Integrity
from snf_image_host.images.sources import open_source
from snf_image_host.progress import Progress
from snf_image_shared.errors import ImageError

MIB = 1 << 20
GARBAGE = b"\xa5"

Change = tuple[int, int, bool]


@pytest.fixture
def directory() -> Iterator[Path]:
    """On a file system with O_DIRECT, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


@contextmanager
def edges_of(disk: Path, start: int = 0) -> Iterator[EdgesLast]:
    with open_target(disk) as target:
        target.wipe_ends()
        with edges_last(target, start) as edges:
            yield edges


def data(length: int) -> memoryview:
    view = huge_pages(length)
    view[:] = os.urandom(length)
    return view


@given(
    size=st.integers(1, 5 * MIB),
    start=st.sampled_from((0, EDGE)),
    changes=st.lists(st.tuples(st.integers(0, 1300), st.integers(1, 700), st.booleans()), max_size=12),
)
def test_in_whatever_order_a_disk_is_filled_its_ends_come_last(size: int, start: int, changes: list[Change]) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        disk = Path(name, "disk")
        disk.write_bytes(GARBAGE * size)
        content = bytearray(disk.read_bytes())
        content[:EDGE] = bytes(min(EDGE, size))
        content[-EDGE:] = bytes(min(EDGE, size))
        with edges_of(disk, start) as edges:
            for block, blocks, is_data in changes:
                offset, length = block * 4096, min(blocks * 4096, edges.room - block * 4096)
                if length <= 0:
                    continue
                piece = data(length) if is_data else memoryview(bytes(length))
                content[start + offset : start + offset + length] = piece
                if is_data:
                    edges.write_sparsely(piece, offset)
                else:
                    edges.zero(offset, length)
            before = disk.read_bytes()
            assert before[:EDGE] + before[-EDGE:] == bytes(2 * min(EDGE, size))
            edges.release()
        assert disk.read_bytes() == content


@pytest.mark.parametrize("start", [0, EDGE])
def test_not_one_byte_goes_beyond_the_disk(directory: Path, start: int) -> None:
    disk = directory / "disk"
    disk.write_bytes(GARBAGE * (4 * MIB))
    with edges_of(disk, start) as edges:
        for offset in (edges.room - 4095, edges.room, 1 << 60):
            with pytest.raises(ImageError, match=r"larger than the disk .*: give a larger disk or a smaller image"):
                edges.write_sparsely(data(4096), offset)
            with pytest.raises(ImageError, match="larger than the disk"):
                edges.zero(offset, 4096)
    assert disk.stat().st_size == 4 * MIB


def test_another_process_sees_the_ends_it_is_given(directory: Path) -> None:
    disk = directory / "disk"
    disk.write_bytes(GARBAGE * (4 * MIB))
    piece = data(CHUNK)
    with edges_of(disk) as edges:
        pid = os.fork()
        if pid == 0:
            try:
                edges.write_sparsely(piece, 0)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        edges.release()
    assert disk.read_bytes() == piece


def deploy(directory: Path, disk: Path, terms: Terms) -> None:
    with (
        Progress.start("inst", "", log=io.StringIO()) as progress,
        open_source("image", directory) as source,
        open_target(disk) as target,
    ):
        copy(PlainImage(source, Integrity(None), "diskdump"), target, progress, terms)


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_disk_that_is_to_be_cleared_holds_nothing_but_the_image(directory: Path, sector: int) -> None:
    (directory / "image").write_bytes(os.urandom(2 * MIB + 7))
    disk = directory / "disk"
    disk.write_bytes(GARBAGE * (8 * MIB))
    with loop_device(disk, f"--sector-size={sector}") as device:
        deploy(directory, device, Terms(clears_rest=True))
    image = (directory / "image").read_bytes()
    assert disk.read_bytes() == image + bytes(8 * MIB - len(image))


def test_what_the_last_owner_left_beyond_the_image_stays_unless_it_is_to_be_cleared(directory: Path) -> None:
    """Only what decides whether a disk boots is always cleared: both ends."""
    (directory / "image").write_bytes(os.urandom(2 * MIB))
    disk = directory / "disk"
    disk.write_bytes(GARBAGE * (8 * MIB))
    deploy(directory, disk, Terms())
    assert disk.read_bytes()[2 * MIB :] == GARBAGE * (5 * MIB) + bytes(MIB)


def test_a_bandwidth_is_kept_by_all_writers_together(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is the test's own: nothing is measured, only what the writers are told to wait."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("snf_image_host.copying.courtesy.time.monotonic", lambda: now)
    monkeypatch.setattr("snf_image_host.copying.courtesy.time.sleep", sleep)
    disk = directory / "disk"
    disk.write_bytes(GARBAGE * (12 * MIB))
    with open_target(disk) as target, edges_last(target, courtesy=Courtesy(bandwidth=2 * MIB)) as edges:
        for offset in range(MIB, 11 * MIB, MIB):
            edges.write_sparsely(data(MIB), offset)
        edges.zero(MIB, 10 * MIB)  # costs the disks next to nothing
    assert 4.0 <= now <= 5.0


def test_an_idle_copy_leaves_the_thread_as_it_was() -> None:
    def shown() -> str:
        return os.popen(f"ionice -p {os.getpid()}").read()

    before = shown()
    with Courtesy(is_idle=True).kept():
        assert "idle" in shown()
    assert shown() == before
