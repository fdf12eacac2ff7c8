# SPDX-License-Identifier: GPL-2.0-or-later
"""Images and disks of unusual sizes: nothing is lost, nothing grows, and nothing is written that does not fit."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from block_devices import loop_device
from snf_image_host.copying.pipeline import PlainImage, check_fits, copy
from snf_image_host.disks.targets import EDGE, open_target
from snf_image_host.images.integrity import Integrity
from snf_image_host.images.sources import open_source
from snf_image_host.progress import Progress
from snf_image_shared.errors import ImageError

MIB = 1 << 20
TIB = 1 << 40
GARBAGE = b"\xa5"


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


def deploy(directory: Path, disk: Path) -> None:
    with (
        Progress.start("inst", "", log=io.StringIO()) as progress,
        open_source("image", directory) as source,
        open_target(disk) as target,
    ):
        image = PlainImage(source, Integrity(None), "diskdump")
        check_fits(image, target)
        copy(image, target, progress)


def spots(path: Path, places: list[int], length: int = 4096) -> list[bytes]:
    with path.open("rb") as file:
        return [os.pread(file.fileno(), length, place) for place in places]


def test_a_sparse_image_of_three_tebibytes_arrives_in_each_place_and_stays_sparse(directory: Path) -> None:
    """On a file: zeroing a block device reserves its space, which nobody has three tebibytes of."""
    size = 3 * TIB
    places = [0, 5 * MIB, 2 * TIB - 4096, 2 * TIB, size - 4096]
    for name in ("image", "disk"):
        with (directory / name).open("wb") as file:
            file.truncate(size)
            for place in [*places, 7 * MIB] if name == "disk" else places:
                os.pwrite(file.fileno(), GARBAGE * 4096 if name == "disk" else os.urandom(4096), place)
    deploy(directory, directory / "disk")
    assert spots(directory / "disk", places) == spots(directory / "image", places)
    assert spots(directory / "disk", [7 * MIB]) == [bytes(4096)]
    assert (directory / "disk").stat().st_blocks * 512 < 64 * MIB


def test_an_image_that_is_all_holes_leaves_nothing_of_the_last_owner(directory: Path) -> None:
    (directory / "disk").write_bytes(GARBAGE * (8 * MIB))
    with (directory / "image").open("wb") as file:
        file.truncate(8 * MIB)
    deploy(directory, directory / "disk")
    assert (directory / "disk").read_bytes() == bytes(8 * MIB)


def test_an_image_without_a_hole_arrives_whole(directory: Path) -> None:
    (directory / "disk").write_bytes(GARBAGE * (8 * MIB))
    (directory / "image").write_bytes(os.urandom(8 * MIB))
    deploy(directory, directory / "disk")
    assert (directory / "disk").read_bytes() == (directory / "image").read_bytes()


@pytest.mark.row(63)
@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("more", [1, 511])
def test_a_disk_one_sector_too_small_is_refused_as_it_is(directory: Path, sector: int, more: int) -> None:
    """Also if the image has but one byte in that sector."""
    (directory / "disk").write_bytes(GARBAGE * (4 * MIB))
    (directory / "image").write_bytes(bytes(4 * MIB + more))
    with (
        loop_device(directory / "disk", f"--sector-size={sector}") as device,
        pytest.raises(ImageError, match=rf"has {4 * MIB + more} bytes, the disk {device} only {4 * MIB}: give"),
    ):
        deploy(directory, device)
    assert (directory / "disk").read_bytes() == GARBAGE * (4 * MIB)


@pytest.mark.row(62, 68)
@pytest.mark.parametrize("size", [512, 513, MIB - 1, MIB, MIB + 1, 2 * MIB + 1, 4 * MIB - 513, 4 * MIB])
@pytest.mark.parametrize("sector", [0, 512, 4096])
def test_an_image_of_any_size_arrives_exactly_and_the_disk_keeps_its_own(
    directory: Path, size: int, sector: int
) -> None:
    """On a file (sector 0) and on block devices, where the rest of the last sector is zeros."""
    disk = directory / "disk"
    disk.write_bytes(GARBAGE * (4 * MIB))
    (directory / "image").write_bytes(os.urandom(size))
    if sector:
        with loop_device(disk, f"--sector-size={sector}") as device:
            deploy(directory, device)
    else:
        deploy(directory, disk)
    end = -(-size // sector) * sector if sector else size
    expected = bytearray(bytes(EDGE) + GARBAGE * (2 * MIB) + bytes(EDGE))
    expected[:end] = (directory / "image").read_bytes().ljust(end, b"\0")
    assert disk.read_bytes() == expected
