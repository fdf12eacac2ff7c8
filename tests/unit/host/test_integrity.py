# SPDX-License-Identifier: GPL-2.0-or-later
"""Checksums of an image as it is stored and of its content, for each way in which one becomes the other."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.edges import EdgesLast
from snf_image_host.copying.pipeline import Image, Terms, copy
from snf_image_host.disks.targets import EDGE, Target, open_target
from snf_image_host.images.checksum import Checksum
from snf_image_host.images.integrity import Integrity
from snf_image_host.images.names import WantedImage
from snf_image_host.images.opening import open_image
from snf_image_host.progress import Progress
from snf_image_shared.errors import DiskError, ImageError

pytestmark = pytest.mark.root

MIB = 1 << 20
SIZE = 6 * MIB
DISK = SIZE + 2 * MIB + 512


def in_qemus(kind: str, *options: str) -> Callable[[Path, Path], None]:
    def make(raw: Path, image: Path) -> None:
        subprocess.run(["qemu-img", "convert", "-O", kind, *options, str(raw), str(image)], check=True)

    return make


def compressed(by: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    def make(raw: Path, image: Path) -> None:
        image.write_bytes(by(raw.read_bytes()))

    return make


WAYS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "gzip": ("diskdump", compressed(gzip.compress)),
    "qcow2": ("qcow2", in_qemus("qcow2", "-c")),
    "vmdk": ("vmdk", in_qemus("vmdk", "-o", "subformat=streamOptimized")),
    "gzipped dump": ("extdump", compressed(gzip.compress)),
}
every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(scope="module")
def stored() -> Iterator[Path]:
    """A directory, with O_DIRECT as /tmp may have none, in which the image lies in every way, by the way's name."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        raw = Path(name, "raw")
        raw.write_bytes(os.urandom(2 * MIB) + bytes(SIZE - 2 * MIB))
        # A file system, so that it can be a dump as well.
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext2", str(raw)], check=True)
        for way, (_, make) in WAYS.items():
            make(raw, Path(name, way))
        yield Path(name)


@pytest.fixture
def disk() -> Iterator[Path]:
    """Full of garbage."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        path = Path(name, "disk")
        path.write_bytes(b"\xa5" * DISK)
        yield path


class Shown:
    """An image, and what happens to the disk when it has been filled."""

    def __init__(self, image: Image, then: Callable[[Path], None]) -> None:
        self.name, self.size, self.img_format = image.name, image.size, image.img_format
        self.integrity: Integrity = image.integrity
        self._image = image
        self._then = then

    def fill(self, disk: EdgesLast, progress: Progress) -> int:
        size = self._image.fill(disk, progress)
        self._then(Path(disk.target.name))
        return size

    def is_disk(self, target: Target) -> bool:
        return self._image.is_disk(target)


def deploy(
    images: Path, way: str, disk: Path, *checksums: Checksum, then: Callable[[Path], None] = lambda disk: None
) -> str:
    """What the log says. The disk has to give back what was written to it if there is no checksum."""
    log = io.StringIO()
    wanted = WantedImage(way, WAYS[way][0] if way in WAYS else "diskdump", checksums)
    run = disk.parent / "run"
    settings = Settings(image_dir=images, cache_dir=disk.parent / "cache", run_dir=run, helper_dir=images)
    with (
        Progress.start("inst", None, log=log) as progress,
        open_image(wanted, settings, progress) as image,
        open_target(disk) as target,
    ):
        assert image
        copy(Shown(image, then), target, progress, Terms(reads_back=not checksums))
    return log.getvalue()


def checksum(what: bytes, *, of_content: bool) -> Checksum:
    return Checksum("sha256", hashlib.sha256(what).hexdigest(), of_content)


def content(stored: Path) -> bytes:
    return (stored / "raw").read_bytes()


def is_deployed(stored: Path, disk: Path, way: str) -> bool:
    start = EDGE if way.endswith("dump") else 0
    return disk.read_bytes()[start : start + SIZE] == content(stored)


def boots_never(disk: Path) -> bool:
    found = disk.read_bytes()
    return found[:EDGE] + found[-EDGE:] == bytes(2 * EDGE)


@every_way
def test_what_is_stored_and_what_is_on_the_disk_both_have_to_be_as_said(stored: Path, disk: Path, way: str) -> None:
    of_stored = checksum((stored / way).read_bytes(), of_content=False)
    of_content = checksum(content(stored), of_content=True)
    said = deploy(stored, way, disk, of_stored, of_content)
    assert is_deployed(stored, disk, way)
    assert said.count("Reading the disk back") == 1


@every_way
def test_the_checksum_of_the_content_is_none_of_what_is_stored(stored: Path, disk: Path, way: str) -> None:
    found = hashlib.sha256((stored / way).read_bytes()).hexdigest()
    with pytest.raises(ImageError, match=f"^image {way!r} has the sha256 {found}, and img_checksum expects "):
        deploy(stored, way, disk, checksum(content(stored), of_content=False))
    assert boots_never(disk)


@every_way
def test_the_checksum_of_what_is_stored_is_none_of_the_content(stored: Path, disk: Path, way: str) -> None:
    found = hashlib.sha256(content(stored)).hexdigest()
    with pytest.raises(
        ImageError, match=f"^the content of image {way!r} has the sha256 {found}, and img_checksum expects "
    ):
        deploy(stored, way, disk, checksum((stored / way).read_bytes(), of_content=True))
    assert boots_never(disk)


def flip(disk: Path) -> None:
    with disk.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, 2 * MIB + 77)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), 2 * MIB + 77)


@every_way
def test_a_disk_that_gives_back_what_was_written_is_content_and_one_bit_less_is_not(
    stored: Path, disk: Path, way: str
) -> None:
    deploy(stored, way, disk)
    assert is_deployed(stored, disk, way)
    with pytest.raises(DiskError, match="does not give back what was written to it"):
        deploy(stored, way, disk, then=flip)
    assert boots_never(disk)
