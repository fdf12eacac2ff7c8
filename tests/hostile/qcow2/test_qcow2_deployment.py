# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2 images on their way to a disk full of another tenant's bytes, by open_image() and copy() as in create."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from block_devices import loop_device
from image_deployment import MIB, boots, decoders, deploy, make_disk, on_disk
from qcow2_images import BACKING_FORMAT, COPIED, DATA, DATA_FILE_NAME, L1, Crafted, compressed_entry
from snf_image_host.configuration.settings import Settings
from snf_image_host.copying.courtesy import Courtesy
from snf_image_host.copying.pipeline import Terms, copy
from snf_image_host.disks.targets import open_target
from snf_image_host.images.names import WantedImage
from snf_image_host.images.opening import open_image
from snf_image_host.progress import Progress
from snf_image_shared.errors import ImageError

pytestmark = pytest.mark.root
KIB = 1 << 10
SIZE = 6 * MIB - 512
DISK = 8 * MIB
CONTENT = Random(7).randbytes(2 * MIB) + bytes(MIB) + b"0123456789abcdef" * (SIZE // 16 - 3 * MIB // 16)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory on a file system with O_DIRECT, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


def make_image(directory: Path, *options: str) -> Path:
    """CONTENT as the qcow2 image `image`."""
    (directory / "raw").write_bytes(CONTENT)
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, "raw", "image"]
    subprocess.run(command, check=True, cwd=directory)
    return directory / "image"


@pytest.mark.parametrize("options", [(), ("-c", "-o", "compression_type=zstd")], ids=["plain", "zstd"])
@pytest.mark.row(62)
def test_a_file_gets_the_disk_that_the_image_holds_and_nothing_else(directory: Path, options: tuple[str, ...]) -> None:
    stored = hashlib.sha256(make_image(directory, *options).read_bytes()).hexdigest()
    disk = make_disk(directory, DISK)
    deploy(directory, disk, "qcow2", f"sha256:{stored}", f"content-sha256:{hashlib.sha256(CONTENT).hexdigest()}")
    assert disk.read_bytes() == on_disk(CONTENT, DISK)


@pytest.mark.row(61)
def test_a_block_device_of_4_kib_sectors_gets_it_padded_to_a_sector(directory: Path) -> None:
    make_image(directory, "-c", "-o", "cluster_size=4K")
    disk = make_disk(directory, DISK)
    with loop_device(disk, "--sector-size=4096", "--direct-io=on") as device:
        deploy(directory, device, "qcow2")
    assert disk.read_bytes() == on_disk(CONTENT, DISK, 4096)


@pytest.mark.row(63, 68)
def test_a_disk_of_the_very_size_is_filled_and_one_a_sector_smaller_left_alone(directory: Path) -> None:
    make_image(directory)
    disk = make_disk(directory, SIZE)
    deploy(directory, disk, "qcow2")
    assert disk.read_bytes() == CONTENT
    smaller = make_disk(directory, SIZE - 512)
    before = smaller.read_bytes()
    with pytest.raises(ImageError, match=f"^image 'image' has {SIZE} bytes"):
        deploy(directory, smaller, "qcow2")
    assert smaller.read_bytes() == before


def backed_by(name: bytes) -> Crafted:
    """An image with a backing file of that name, which QEMU would open."""
    header = Crafted(fields={"backing_offset": 1 * KIB, "backing_length": len(name)}).first_cluster()
    return Crafted(clusters={0: header.ljust(1 * KIB, b"\0") + name})


AMPLIFYING = compressed_entry(12, DATA << 12, 0)
ROWS = {  # of the table of hostile inputs: the check, and an image that it is for
    "1": ("backing-file", backed_by(b"/etc/shadow")),
    "2-bit": ("data-file", Crafted(fields={"features": 1 << 2}, extensions=((DATA_FILE_NAME, b"/dev/sda"),))),
    "2-extension": ("data-file-name", Crafted(extensions=((DATA_FILE_NAME, b"/dev/sda"),))),
    "3-json": ("backing-file", backed_by(b'json:{"driver":"nbd","host":"169.254.169.254"}')),
    "3-nbd": ("backing-file", backed_by(b"nbd://169.254.169.254")),
    "3-format": ("backing-format", Crafted(extensions=((BACKING_FORMAT, b"raw"),))),
    "4-unknown": ("features", Crafted(fields={"features": 1 << 5})),
    "4-dirty": ("dirty", Crafted(fields={"features": 1})),
    "5": ("encryption", Crafted(fields={"crypt_method": 2})),
    "6": ("l1-size", Crafted(fields={"l1_entries": 0xFFFFFFFF})),
    "7": ("virtual-size", Crafted(fields={"size": 1 << 63})),
    "8-plain": ("shared-cluster", Crafted(l2=dict.fromkeys(range(16), DATA << 12 | COPIED))),
    "8-packed": ("shared-cluster", Crafted(l2={0: AMPLIFYING, 1: AMPLIFYING, 2: DATA << 12})),
    "9": ("snapshots", Crafted(fields={"snapshots": 65536})),
    "10": ("shared-cluster", Crafted(l1={0: L1 << 12 | COPIED})),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_harmful_image_is_refused_before_a_byte_is_written(directory: Path, row: str) -> None:
    check, image = ROWS[row]
    image.write(directory / "image")
    disk = make_disk(directory, 4 * MIB)
    before = disk.read_bytes()
    with pytest.raises(ImageError) as caught:
        deploy(directory, disk, "qcow2")
    assert str(caught.value).startswith("image 'image' ")
    assert f"(check {check})" in str(caught.value)
    assert disk.read_bytes() == before
    assert decoders() == []


def test_a_file_that_is_not_what_its_checksum_says_does_not_boot(directory: Path) -> None:
    make_image(directory, "-c")
    for wrong in (f"sha256:{hashlib.sha256(CONTENT).hexdigest()}", f"content-sha256:{'0' * 64}"):
        disk = make_disk(directory, DISK)
        with pytest.raises(ImageError, match="image 'image'"):
            deploy(directory, disk, "qcow2", wrong)
        assert not boots(disk)


def test_damage_that_only_shows_while_it_is_read_does_not_boot(directory: Path) -> None:
    image = make_image(directory, "-c", "-o", "cluster_size=4K")
    with image.open("r+b") as file:
        file.seek(-3 * KIB, os.SEEK_END)
        file.write(b"\xff" * 2 * KIB)
    disk = make_disk(directory, DISK)
    with pytest.raises(ImageError, match=r"^image 'image' has no whole cluster .*\(check compressed-data\)$"):
        deploy(directory, disk, "qcow2")
    assert not boots(disk)


@pytest.mark.parametrize("options", [(), ("-c",)], ids=["plain", "packed"])
def test_a_reader_that_is_killed_leaves_a_disk_that_does_not_boot(directory: Path, options: tuple[str, ...]) -> None:
    make_image(directory, *options)
    disk = make_disk(directory, DISK)
    slowly = Terms(courtesy=Courtesy(bandwidth=1 << 10))  # it would take an hour and a half
    with (
        Progress.start("inst", "", log=io.StringIO()) as progress,
        open_image(WantedImage("image", "qcow2"), Settings(image_dir=directory), progress) as image,
        open_target(disk) as target,
    ):
        assert image
        (reader,) = decoders()
        threading.Timer(0.5, os.kill, (reader, signal.SIGKILL)).start()
        with pytest.raises(ImageError, match=r"^image 'image'"):
            copy(image, target, progress, slowly)
    assert not boots(disk)
    assert decoders() == []
    deploy(directory, disk, "qcow2")
    assert disk.read_bytes()[:SIZE] == CONTENT
