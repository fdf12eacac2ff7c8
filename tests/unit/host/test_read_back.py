# SPDX-License-Identifier: GPL-2.0-or-later
"""What is expected of the content is looked for on the disk, and a disk that returns something else never boots."""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from block_devices import loop_device
from nbd_server import nbd_server
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.edges import EdgesLast
from snf_image_host.copying.pipeline import PlainImage, Terms, copy
from snf_image_host.copying.tally import TALLY_SIZE, Tally, sum_of
from snf_image_host.disks.instance_disks import InstanceDisk
from snf_image_host.disks.storage import open_for_writing
from snf_image_host.disks.targets import EDGE, LocalTarget, Target, open_target
from snf_image_host.images.checksum import Checksum
from snf_image_host.images.integrity import Integrity
from snf_image_host.images.sources import open_source
from snf_image_host.progress import Progress
from snf_image_shared.errors import DiskError, ImageError

MIB = 1 << 20
GARBAGE = b"\xa5"
READ_BACK = Terms(reads_back=True)


@pytest.fixture
def directory() -> Iterator[Path]:
    """On a file system with O_DIRECT, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


def make(directory: Path, *lengths: int, room: int = 0) -> bytes:
    """The file `image` of data and zeros in turn, which it returns, and a disk of garbage with `room` bytes more."""
    image = b"".join(bytes(length) if number % 2 else os.urandom(length) for number, length in enumerate(lengths))
    (directory / "image").write_bytes(image)
    (directory / "disk").write_bytes(GARBAGE * (len(image) + room))
    return image


def content(image: bytes, algorithm: str = "sha256") -> Checksum:
    return Checksum(algorithm, hashlib.new(algorithm, image).hexdigest(), of_content=True)


def deploy(directory: Path, target: Target, *expected: Checksum, terms: Terms = READ_BACK) -> str:
    """What the log says."""
    log = io.StringIO()
    with Progress.start("inst", None, log=log) as progress, open_source("image", directory) as source:
        copy(PlainImage(source, Integrity(*expected), "diskdump"), target, progress, terms)
    return log.getvalue()


def ends(disk: Path) -> bytes:
    with disk.open("rb") as file:
        first = file.read(EDGE)
        file.seek(-EDGE, os.SEEK_END)
        return first + file.read()


@pytest.mark.parametrize("room", [0, 77, EDGE + 5])
@pytest.mark.parametrize("lengths", [(3 * MIB, 9 * MIB, 5 * MIB + 77), (100,), (EDGE + 1,), (9 * MIB,)])
def test_the_content_is_exactly_the_images_bytes_whatever_the_sizes(
    directory: Path, lengths: Sequence[int], room: int
) -> None:
    image = make(directory, *lengths, room=room)
    with open_target(directory / "disk") as target:
        said = deploy(directory, target, content(image), content(image, "sha512"))
    assert said.count("Reading the disk back...") == 1
    assert (directory / "disk").read_bytes()[: len(image)] == image


def test_a_dump_is_counted_without_what_comes_before_it(directory: Path) -> None:
    image = make(directory, 3 * MIB, 2 * MIB, MIB, room=2 * MIB)
    with (
        Progress.start("inst", None, log=io.StringIO()) as progress,
        open_source("image", directory) as source,
        open_target(directory / "disk") as target,
    ):
        copy(PlainImage(source, Integrity(content(image)), "extdump"), target, progress, READ_BACK)
    assert (directory / "disk").read_bytes()[EDGE : EDGE + len(image)] == image


def test_a_content_that_is_another_leaves_a_disk_that_does_not_boot(directory: Path) -> None:
    image = make(directory, 6 * MIB)
    wrong = content(b"other")
    with (
        open_target(directory / "disk") as target,
        pytest.raises(ImageError) as caught,
    ):
        deploy(directory, target, wrong, terms=Terms())
    right = hashlib.sha256(image).hexdigest()
    assert str(caught.value) == (
        f"the content of image 'image' has the sha256 {right}, and img_checksum expects {wrong.digest}: it is damaged "
        "or another image; publish it again, or correct img_checksum"
    )
    assert ends(directory / "disk") == bytes(2 * EDGE)
    assert threading.enumerate() == [threading.main_thread()]


def test_without_being_asked_nobody_reads_the_disk(directory: Path) -> None:
    make(directory, 4 * MIB)
    with open_target(directory / "disk") as target:
        assert "Reading" not in deploy(directory, target, terms=Terms())


class Forgetful(LocalTarget):
    """A disk that returns one other bit than it was given at a place, from the first write of it on."""

    def __init__(self, path: Path, fd: int, place: int) -> None:
        super().__init__(path, fd)
        self.place = place

    def write(self, view: memoryview, offset: int) -> None:
        super().write(view, offset)
        if offset <= self.place < offset + len(view):
            with open(self.name, "r+b") as file:
                os.pwrite(file.fileno(), bytes([view[self.place - offset] ^ 0x10]), self.place)
                os.fsync(file.fileno())


SIZE = 12 * MIB


@pytest.mark.parametrize("place", [0, EDGE - 1, EDGE, 6 * MIB + 12345, SIZE - EDGE - 1, SIZE - EDGE, SIZE - 1])
def test_one_bit_that_the_disk_returns_otherwise_is_found_wherever_it_is(directory: Path, place: int) -> None:
    make(directory, SIZE)
    with (
        open_target(directory / "disk") as target,
        pytest.raises(DiskError, match=rf"^{directory}/disk: does not give back .*: replace the storage below it$"),
    ):
        deploy(directory, Forgetful(directory / "disk", target.fd, place))
    assert ends(directory / "disk") == bytes(2 * EDGE)


class Intruded(PlainImage):
    """An image whose disk somebody else writes to when it has been filled."""

    def fill(self, disk: EdgesLast, progress: Progress) -> int:
        size = super().fill(disk, progress)
        intruder = threading.Thread(target=self.intrude, args=(Path(disk.target.name),))
        intruder.start()
        intruder.join()
        return size

    def intrude(self, disk: Path) -> None:
        with disk.open("r+b") as file:
            os.pwrite(file.fileno(), b"\x01", 5 * MIB)  # in the middle of a hole


@pytest.mark.parametrize("expected", [True, False])
def test_what_somebody_else_writes_meanwhile_is_found_where_the_image_has_zeros(
    directory: Path, expected: bool
) -> None:
    image = make(directory, 3 * MIB, 6 * MIB, 2 * MIB)
    integrity = Integrity(content(image)) if expected else Integrity()
    with (
        Progress.start("inst", None, log=io.StringIO()) as progress,
        open_source("image", directory) as source,
        open_target(directory / "disk") as target,
        pytest.raises(ImageError if expected else DiskError),
    ):
        copy(Intruded(source, integrity, "diskdump"), target, progress, Terms(reads_back=not expected))
    assert ends(directory / "disk") == bytes(2 * EDGE)


def test_reading_back_leaves_nothing_in_the_page_cache(directory: Path) -> None:
    image = make(directory, 32 * MIB)
    with open_target(directory / "disk") as target:
        assert target.is_direct
        deploy(directory, target, content(image))
    command = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(directory / "disk")]
    resident = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert resident < 2 * MIB


@pytest.mark.root
@pytest.mark.parametrize("sector", [512, 4096])
def test_a_block_device_is_read_back(directory: Path, sector: int) -> None:
    image = make(directory, 3 * MIB, 4 * MIB, 2 * MIB + 512 * 3)
    os.truncate(directory / "disk", 10 * MIB)
    with loop_device(directory / "disk", f"--sector-size={sector}") as device, open_target(device) as target:
        deploy(directory, target, content(image))


@pytest.mark.root
def test_a_disk_behind_a_daemon_is_read_back(directory: Path) -> None:
    image = make(directory, 3 * MIB, 4 * MIB, 2 * MIB + 77, room=3 * MIB)
    settings = Settings(helper_dir=directory, image_dir=directory, run_dir=directory / "run")
    with (
        nbd_server(directory / "disk") as uri,
        open_for_writing(InstanceDisk(None, uri=uri, variable="DISK_0_URI"), settings) as target,
    ):
        deploy(directory, target, content(image))
        with pytest.raises(ImageError, match="the content of image"):
            deploy(directory, target, content(b"other"))


def tally_of(size: int, pieces: Sequence[tuple[int, bytes]]) -> int:
    tally = Tally(memoryview(bytearray(TALLY_SIZE)), size)
    tally.want()
    threads = [threading.Thread(target=tally.add, args=(memoryview(piece), offset)) for offset, piece in pieces]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally.sum


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 900), st.binary(max_size=300)), max_size=6),
    st.integers(0, 1 << 50),
    st.randoms(use_true_random=False),
)
def test_a_tally_is_that_of_the_disk_however_its_pieces_were_cut(
    gaps: list[tuple[int, bytes]], room: int, chance: random.Random
) -> None:
    disk = bytearray()
    pieces = []
    for gap, piece in gaps:
        disk += bytes(gap)
        cut = chance.randint(0, len(piece))
        pieces += [(len(disk), piece[:cut]), (len(disk) + cut, piece[cut:])]
        disk += piece
    chance.shuffle(pieces)
    size = len(disk) + room
    assert tally_of(size, pieces) == sum_of(memoryview(disk), 0, size)


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=500), st.data())
def test_another_bit_is_another_tally(disk: bytes, data: st.DataObject) -> None:
    other = bytearray(disk)
    other[data.draw(st.integers(0, len(disk) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert sum_of(memoryview(other), 0, 1 << 40) != sum_of(memoryview(disk), 0, 1 << 40)


def test_bytes_that_changed_places_are_another_tally() -> None:
    one, other = os.urandom(4096), os.urandom(4096)
    size = 1 << 42
    assert tally_of(size, [(0, one), (1 << 41, other)]) != tally_of(size, [(0, other), (1 << 41, one)])
