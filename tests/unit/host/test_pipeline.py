# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import ctypes
import io
import mmap
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from block_devices import loop_device
from snf_image_host.copying.pipeline import PlainImage, check_fits, copy
from snf_image_host.disks.targets import EDGE, open_target
from snf_image_host.images.checksum import Checksum
from snf_image_host.images.integrity import Integrity
from snf_image_host.images.sources import open_source
from snf_image_host.progress import Progress
from snf_image_shared.errors import DiskError, ImageError

MIB = 1 << 20
GARBAGE = b"\xa5"
Layout = list[tuple[bool, int]]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory on a file system with O_DIRECT, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


def make_image(directory: Path, layout: Layout) -> bytes:
    """Write the sparse file `image` from (is data, length) runs, data being random, and return its content."""
    content = b""
    with (directory / "image").open("wb") as file:
        for is_data, length in layout:
            run = os.urandom(length) if is_data else bytes(length)
            if is_data:
                os.pwrite(file.fileno(), run, len(content))
            content += run
        file.truncate(len(content))
    return content


def make_disk(directory: Path, size: int) -> Path:
    (directory / "disk").write_bytes(GARBAGE * size)
    return directory / "disk"


def deploy(directory: Path, disk: Path, log: io.StringIO | None = None, checksum: Checksum | None = None) -> None:
    with (
        Progress.start("inst", "", log=log or io.StringIO()) as progress,
        open_source("image", directory) as source,
        open_target(disk) as target,
    ):
        copy(PlainImage(source, Integrity(checksum), "diskdump"), target, progress)


def expected(image: bytes, size: int) -> bytes:
    """The image, then the disk as it was, but for what the image does not fill of the first and last MiB."""
    disk = bytearray(GARBAGE * size)
    disk[:EDGE] = bytes(min(EDGE, size))
    disk[-EDGE:] = bytes(min(EDGE, size))
    disk[: len(image)] = image
    return bytes(disk)


OS_LIKE: Layout = [(True, 3 * MIB), (False, 9 * MIB), (True, 5 * MIB + 4096), (False, 20 * MIB), (True, 2 * MIB)]


@pytest.mark.row(67)
def test_an_image_with_holes_replaces_all_garbage_of_a_file(directory: Path) -> None:
    image = make_image(directory, OS_LIKE)
    disk = make_disk(directory, 44 * MIB)
    deploy(directory, disk)
    assert disk.read_bytes() == expected(image, 44 * MIB)


@pytest.mark.image_row(25)
@pytest.mark.row(61, 67)
@pytest.mark.root
@pytest.mark.parametrize("sector", [512, 4096])
def test_an_image_with_holes_replaces_all_garbage_of_a_block_device(directory: Path, sector: int) -> None:
    image = make_image(directory, OS_LIKE)
    make_disk(directory, 44 * MIB)
    with loop_device(directory / "disk", f"--sector-size={sector}") as device:
        deploy(directory, device)
        assert device.read_bytes() == expected(image, 44 * MIB)


@pytest.mark.image_row(25)
def test_written_zeros_of_an_image_are_as_good_as_holes(directory: Path) -> None:
    (directory / "image").write_bytes(b"x" * MIB + bytes(20 * MIB) + b"y" * MIB)
    disk = make_disk(directory, 22 * MIB)
    deploy(directory, disk)
    assert disk.read_bytes() == (directory / "image").read_bytes()
    assert disk.stat().st_blocks * 512 < 4 * MIB


@pytest.mark.root
def test_an_image_that_ends_within_a_sector_is_padded_on_a_block_device(directory: Path) -> None:
    make_disk(directory, 27 * MIB)
    # In memory, where a read touches no byte of the buffer behind the end of the file.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        image = make_image(Path(memory), [(True, 24 * MIB + 1000)])
        with loop_device(directory / "disk", "--sector-size=4096") as device:
            deploy(Path(memory), device)
            padding = bytes(4096 - 1000)
            assert device.read_bytes() == image + padding + GARBAGE * (2 * MIB - 4096) + bytes(MIB)


@settings(max_examples=40, deadline=None)
@given(
    layout=st.lists(st.tuples(st.booleans(), st.integers(1, 2 * MIB)), min_size=1, max_size=6),
    room=st.one_of(st.integers(0, 5000), st.integers(0, 3 * MIB)),
)
def test_any_image_arrives_exactly_on_a_file_of_any_size(layout: Layout, room: int) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        directory = Path(name)
        image = make_image(directory, layout)
        disk = make_disk(directory, len(image) + room)
        deploy(directory, disk)
        assert disk.read_bytes() == expected(image, len(image) + room)


@pytest.mark.root
def test_holes_finer_than_a_direct_transfer_are_kept_exact(directory: Path) -> None:
    """A file system with 1 KiB blocks has data and holes that begin between two multiples of 4 KiB."""
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", "1024", str(directory / "fs"), "32M"], check=True)
    (directory / "mnt").mkdir()
    subprocess.run(["mount", "-o", "loop", str(directory / "fs"), str(directory / "mnt")], check=True)
    try:
        image = make_image(directory / "mnt", [(False, 2 * MIB + 1024), (True, 1024), (False, 7168), (True, 9000)])
        disk = make_disk(directory, 4 * MIB)
        deploy(directory / "mnt", disk)
        assert disk.read_bytes() == expected(image, 4 * MIB)
    finally:
        subprocess.run(["umount", str(directory / "mnt")], check=True)


@pytest.mark.image_row(23)
def test_an_image_one_byte_larger_than_the_disk_is_refused_before_anything_is_written(directory: Path) -> None:
    make_image(directory, [(True, 3 * MIB + 1)])
    disk = make_disk(directory, 3 * MIB)
    with pytest.raises(ImageError, match=f"{3 * MIB + 1} bytes.*{disk} only {3 * MIB}: give a disk of at least 4 MiB"):
        deploy(directory, disk)
    assert disk.read_bytes() == GARBAGE * (3 * MIB)


def test_an_image_is_not_copied_onto_itself(directory: Path) -> None:
    make_image(directory, [(True, 3 * MIB)])
    with (
        open_source("image", directory) as source,
        open_target(directory / "image") as target,
        pytest.raises(ImageError, match=r"is the disk .* itself"),
    ):
        check_fits(PlainImage(source, Integrity(None), "diskdump"), target)


class Terminal(io.StringIO):
    """A terminal on which something happens when the progress bar is drawn for the `when`th time."""

    def __init__(self, when: int) -> None:
        super().__init__()
        self.when = when

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.when -= "copy [" in text
        if self.when == 0:
            self.when = -1
            self.happen()
        return len(text)

    def happen(self) -> None:
        raise KeyboardInterrupt


def ends(disk: Path) -> bytes:
    with disk.open("rb") as file:
        first = file.read(EDGE)
        file.seek(-EDGE, os.SEEK_END)
        return first + file.read()


WRONG = Checksum("sha256", "0" * 64)


@pytest.mark.parametrize("checksum", [None, WRONG])
def test_an_interrupt_stops_the_copy_and_leaves_no_thread_and_nothing_bootable(
    directory: Path, checksum: Checksum | None
) -> None:
    make_image(directory, [(True, 64 * MIB)])
    disk = make_disk(directory, 64 * MIB)
    with pytest.raises(KeyboardInterrupt):
        deploy(directory, disk, Terminal(1), checksum)
    assert threading.enumerate() == [threading.main_thread()]
    assert ends(disk) == bytes(2 * EDGE)


class Truncation(Terminal):
    """Cuts the image while it is copied."""

    def __init__(self, image: Path) -> None:
        super().__init__(1)
        self.image = image

    def happen(self) -> None:
        os.truncate(self.image, 30 * MIB + 5)


@pytest.mark.parametrize("checksum", [None, WRONG])
def test_an_image_that_is_cut_during_the_copy_leaves_nothing_bootable(
    directory: Path, checksum: Checksum | None
) -> None:
    make_image(directory, [(True, 64 * MIB)])
    disk = make_disk(directory, 64 * MIB)
    with pytest.raises(ImageError, match=r"image 'image' (ends at byte|was changed)"):
        deploy(directory, disk, Truncation(directory / "image"), checksum)
    assert threading.enumerate() == [threading.main_thread()]
    assert ends(disk) == bytes(2 * EDGE)


class Touch(Truncation):
    """Changes one byte that has been copied or will be."""

    def happen(self) -> None:
        with self.image.open("r+b") as file:
            file.write(b"?")


def test_an_image_that_is_written_during_the_copy_leaves_nothing_bootable(directory: Path) -> None:
    make_image(directory, [(True, 16 * MIB)])
    disk = make_disk(directory, 16 * MIB)
    with pytest.raises(ImageError, match="was changed while it was read: try again"):
        deploy(directory, disk, Touch(directory / "image"))
    assert ends(disk) == bytes(2 * EDGE)


@pytest.mark.root
@pytest.mark.parametrize("checksum", [None, WRONG])
def test_a_full_file_system_below_the_disk_ends_the_copy(directory: Path, checksum: Checksum | None) -> None:
    make_image(directory, [(True, 40 * MIB)])
    (directory / "mnt").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16M", "tmpfs", str(directory / "mnt")], check=True)
    try:
        disk = directory / "mnt" / "disk"
        disk.touch()
        os.truncate(disk, 48 * MIB)
        with pytest.raises(DiskError, match="No space left on device; make space"):
            deploy(directory, disk, checksum=checksum)
        assert threading.enumerate() == [threading.main_thread()]
        assert ends(disk) == bytes(2 * EDGE)
    finally:
        subprocess.run(["umount", str(directory / "mnt")], check=True)


SCRIPT = """
import sys
from pathlib import Path
from snf_image_host.images.integrity import Integrity
from snf_image_host.copying.pipeline import PlainImage, copy
from snf_image_host.progress import Progress
from snf_image_host.images.sources import open_source
from snf_image_host.disks.targets import open_target
directory = Path(sys.argv[1])
with Progress.start("inst", "") as progress, open_source("image", directory) as source:
    with open_target(directory / "disk") as target:
        copy(PlainImage(source, Integrity(None), "diskdump"), target, progress)
"""


@pytest.mark.row(64)
def test_the_ends_are_cleared_first_and_the_first_mib_is_written_last(directory: Path) -> None:
    """What the kernel was asked, in its order: a power cut at any point leaves a disk that is old-wiped or complete."""
    make_image(directory, [(True, 12 * MIB)])
    make_disk(directory, 12 * MIB)
    trace = directory / "trace"
    strace = ["strace", "-f", "-qq", "-e", "trace=pwrite64,fallocate,fsync", "-o", str(trace)]
    subprocess.run(
        [*strace, sys.executable, "-c", SCRIPT, str(directory)],
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"]},
        stderr=subprocess.DEVNULL,
    )
    calls = [_call(line) for line in trace.read_text().splitlines() if "resumed" not in line]
    assert calls[:3] == [("zero", 0), ("zero", 11 * MIB), ("flush", 0)]
    assert {offset for name, offset in calls[3:-5]} == {MIB, 4 * MIB, 8 * MIB}
    assert calls[-5:] == [("flush", 0), ("write", 11 * MIB), ("flush", 0), ("write", 0), ("flush", 0)]


def _call(line: str) -> tuple[str, int]:
    if "fsync(" in line:
        return "flush", 0
    if zero := re.search(r"fallocate\(\d+, \S+, (\d+), ", line):
        return "zero", int(zero[1])
    write = re.search(r"pwrite64\(.*, (\d+)(\)| <unfinished)", line)
    assert write, line
    return "write", int(write[1])


def test_neither_end_of_the_copy_fills_the_page_cache(directory: Path) -> None:
    make_image(directory, [(True, 24 * MIB), (False, 8 * MIB)])
    disk = make_disk(directory, 40 * MIB)
    for path in (directory / "image", disk):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    deploy(directory, disk)
    assert cached(directory / "image") + cached(disk) < 2 * MIB


def cached(path: Path) -> int:
    """Bytes of a file that are in the page cache (man 2 mincore)."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        pages = (ctypes.c_ubyte * (len(memory) // mmap.PAGESIZE))()
        address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
        assert ctypes.CDLL(None).mincore(address, ctypes.c_size_t(len(memory)), pages) == 0
        return sum(page & 1 for page in pages) * mmap.PAGESIZE
