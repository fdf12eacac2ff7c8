# SPDX-License-Identifier: GPL-2.0-or-later
"""img_checksum: over exactly the bytes that are written, and a disk that does not boot when it does not hold."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snf_image_host.copying.pipeline import PlainImage, copy
from snf_image_host.disks.targets import EDGE, open_target
from snf_image_host.images.checksum import Checksum, parse_checksums
from snf_image_host.images.integrity import InOrder, Integrity
from snf_image_host.images.sources import open_source
from snf_image_host.progress import Progress
from snf_image_shared.errors import ImageError, RequestError

MIB = 1 << 20
# Data and holes, longer and shorter than a transfer, and an odd end within the disk's last MiB.
LAYOUT = [(True, 3 * MIB), (False, 9 * MIB), (True, 5 * MIB + 4096), (False, 70 * MIB), (True, 2 * MIB + 77)]
SIZE = sum(length for _, length in LAYOUT)


@pytest.fixture
def directory() -> Iterator[Path]:
    """On a file system with O_DIRECT, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


def make_image(directory: Path, layout: list[tuple[bool, int]]) -> Path:
    """The sparse file `image` of (is data, length) runs."""
    image = directory / "image"
    with image.open("wb") as file:
        end = 0
        for is_data, length in layout:
            if is_data:
                os.pwrite(file.fileno(), os.urandom(length), end)
            end += length
        file.truncate(end)
    return image


def make_disk(directory: Path, size: int) -> Path:
    disk = directory / "disk"
    disk.write_bytes(b"\xa5" * size)
    return disk


def deploy(directory: Path, checksum: Checksum, log: io.StringIO | None = None) -> None:
    with (
        Progress.start("inst", "", log=log or io.StringIO()) as progress,
        open_source("image", directory) as source,
        open_target(directory / "disk") as target,
    ):
        copy(PlainImage(source, Integrity(checksum), "diskdump"), target, progress)


def checksum_of(image: Path, algorithm: str = "sha256") -> Checksum:
    return Checksum(algorithm, hashlib.new(algorithm, image.read_bytes()).hexdigest())


def ends(disk: Path) -> bytes:
    with disk.open("rb") as file:
        first = file.read(EDGE)
        file.seek(-EDGE, os.SEEK_END)
        return first + file.read()


DIGEST = "0123456789abcdef" * 4
LONG = DIGEST * 2


def test_it_says_an_algorithm_a_digest_and_of_what_in_any_case() -> None:
    assert parse_checksums(f"SHA256:{DIGEST.upper()}") == (Checksum("sha256", DIGEST),)
    assert parse_checksums(f" content-sha512:{LONG}\n") == (Checksum("sha512", LONG, of_content=True),)


@pytest.mark.parametrize("between", [" ", ",", ", ", "\n", " ,\t"])
def test_there_may_be_several(between: str) -> None:
    both = (Checksum("sha256", DIGEST), Checksum("sha256", DIGEST, of_content=True))
    assert parse_checksums(f"sha256:{DIGEST}{between}content-sha256:{DIGEST}{between}sha256:{DIGEST}") == both


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ",", "sha256", f"{DIGEST}", f"sha1:{DIGEST[:40]}", f"md5:{DIGEST[:32]}", f"content:{DIGEST}"),
        *(f"content-md5:{DIGEST[:32]}", f"content-content-sha256:{DIGEST}", f"sha256:content-{DIGEST}"),
        *(f"sha256:{DIGEST[1:]}", f"sha256:{DIGEST}0", f"sha512:{DIGEST}", f"sha256:{'g' * 64}", f"sha256 :{DIGEST}"),
        *(f"sha256:{DIGEST} x", f"sha256:{DIGEST};sha256:{DIGEST}", f"sha-256:{DIGEST}"),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(RequestError, match=r"; take what sha(256|512)sum prints$"):
        parse_checksums(text)


@given(st.text(max_size=200))
def test_whatever_is_written_it_is_a_checksum_or_refused(text: str) -> None:
    try:
        found = parse_checksums(text)
    except RequestError:
        return
    assert found


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_an_image_with_its_own_checksum_is_deployed(directory: Path, algorithm: str) -> None:
    image = make_image(directory, LAYOUT)
    disk = make_disk(directory, SIZE)
    deploy(directory, checksum_of(image, algorithm))
    assert disk.read_bytes() == image.read_bytes()


@pytest.mark.parametrize(
    "where", [0, EDGE - 1, EDGE, 5 * MIB, 40 * MIB, SIZE - EDGE - 1, SIZE - EDGE, SIZE - 1], ids=lambda at: f"byte {at}"
)
def test_one_other_byte_anywhere_leaves_a_disk_that_does_not_boot(directory: Path, where: int) -> None:
    image = make_image(directory, LAYOUT)
    disk = make_disk(directory, SIZE)
    right = checksum_of(image)
    with image.open("r+b") as file:
        file.seek(where)
        byte = file.read(1)[0]
        file.seek(where)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(ImageError) as caught:
        deploy(directory, right)
    found = hashlib.sha256(image.read_bytes()).hexdigest()
    assert f"image 'image' has the sha256 {found}, and img_checksum expects {right.digest}: " in str(caught.value)
    assert ends(disk) == bytes(2 * EDGE)
    assert threading.enumerate() == [threading.main_thread()]


@settings(max_examples=30, deadline=None)
@given(
    layout=st.lists(st.tuples(st.booleans(), st.integers(1, 6 * MIB)), min_size=1, max_size=5),
    room=st.one_of(st.just(0), st.integers(0, 3 * MIB)),
)
def test_it_is_the_checksum_of_the_whole_image_on_a_disk_of_any_size(layout: list[tuple[bool, int]], room: int) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        directory = Path(name)
        image = make_image(directory, layout)
        make_disk(directory, image.stat().st_size + room)
        deploy(directory, checksum_of(image))


class Swap(io.StringIO):
    """A terminal; when all is read, one byte of the image's head is another, and its time the old."""

    def __init__(self, image: Path) -> None:
        super().__init__()
        self.image = image
        self.is_done = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if "100%" in text and not self.is_done:
            self.is_done = True
            times = self.image.stat()
            with self.image.open("r+b") as file:
                byte = file.read(1)[0]
                file.seek(0)
                file.write(bytes([byte ^ 1]))
            os.utime(self.image, ns=(times.st_atime_ns, times.st_mtime_ns))
        return len(text)


def test_what_was_checked_is_what_is_written_even_if_the_image_is_exchanged_meanwhile(directory: Path) -> None:
    image = make_image(directory, LAYOUT)
    disk = make_disk(directory, SIZE)
    before = image.read_bytes()
    swap = Swap(image)
    deploy(directory, checksum_of(image), swap)
    assert swap.is_done
    assert disk.read_bytes() == before != image.read_bytes()


def test_a_piece_that_cannot_be_read_ends_the_copy_though_others_wait_for_it(directory: Path) -> None:
    image = make_image(directory, LAYOUT)
    disk = make_disk(directory, SIZE)
    with (
        Progress.start("inst", "", log=io.StringIO()) as progress,
        open_source("image", directory) as source,
        open_target(disk) as target,
    ):
        os.truncate(image, 2 * MIB + 5)  # what follows is taken for a hole
        with pytest.raises(ImageError, match=f"image 'image' ends at byte {2 * MIB + 5},"):
            copy(PlainImage(source, Integrity(Checksum("sha256", "0" * 64)), "diskdump"), target, progress)
    assert threading.enumerate() == [threading.main_thread()]


def test_pieces_count_in_the_order_of_their_offsets_however_they_come() -> None:
    content = os.urandom(300_000)
    integrity = Integrity(Checksum("sha256", hashlib.sha256(content).hexdigest()))
    order = InOrder(integrity)
    pieces = [(at, memoryview(content)[at : at + 10_000]) for at in range(0, len(content), 10_000)]
    threads = [threading.Thread(target=order.add, args=piece) for piece in reversed(pieces)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    integrity.check("image")


def test_who_has_fed_all_of_it_is_the_only_one_to() -> None:
    integrity = Integrity(Checksum("sha256", hashlib.sha256(b"image").hexdigest()))
    integrity.keep_digest()
    integrity.feed(memoryview(b"image"))
    integrity.all_fed()
    assert not integrity.is_wanted
    integrity.feed(memoryview(b"again"))
    InOrder(integrity).add(4096, memoryview(b"again"))
    assert integrity.sha256 == hashlib.sha256(b"image").hexdigest()
    assert not integrity.has_held
    integrity.check("image")
    assert integrity.has_held


def test_what_is_fed_again_from_its_beginning_counts_once() -> None:
    integrity = Integrity(Checksum("sha256", hashlib.sha256(b"image").hexdigest()))
    integrity.feed(memoryview(b"ima"))
    integrity.start_again()
    integrity.feed(memoryview(b"image"))
    integrity.check("image")


def test_what_is_expected_of_the_content_is_not_taken_for_held_without_a_disk() -> None:
    integrity = Integrity(Checksum("sha256", hashlib.sha256(b"image").hexdigest(), of_content=True))
    integrity.feed(memoryview(b"image"))
    integrity.fetched_is_content()  # too late: some was fed before
    with pytest.raises(ImageError, match="the content of image has the sha256 None"):
        integrity.check("image")


def test_nobody_waits_for_a_piece_that_will_not_come() -> None:
    order = InOrder(Integrity(Checksum("sha256", "0" * 64)))
    thread = threading.Thread(target=order.add, args=(10, memoryview(b"later")))
    thread.start()
    order.give_up()
    thread.join()
