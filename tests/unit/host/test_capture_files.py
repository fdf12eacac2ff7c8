# SPDX-License-Identifier: GPL-2.0-or-later
"""New images: when they have their names, what lies beside them, and that they hold all of a disk."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import subprocess
from pathlib import Path

import pytest

from snf_image_host.images.checksum import Checksum
from snf_image_host.images.sidecars import ChecksumList
from snf_image_host.tools.compressors import Compression, Writer
from snf_image_host.tools.disk_images import write_qcow2, write_raw, write_raw_compressed
from snf_image_host.tools.new_images import ImageDirectory, NewImage, check_name, check_room, image_directory
from snf_image_host.tools.subject import check_idle, idle_disk
from snf_image_host.vm.overlaid_disks import LARGEST, overlaid
from snf_image_shared.errors import ConfigurationError, DiskError, ImageError, RequestError

MIB = 1 << 20
CONTENT = os.urandom(MIB) + bytes(9 * MIB) + b"in the middle" + bytes(5 * MIB + 499)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    return path


def written(directory: ImageDirectory, name: str, content: bytes = b"an image") -> None:
    with directory.new(name) as image:
        os.write(image.fd, content)
        image.complete()
        directory.publish([image], b"{}\n")


def test_an_image_has_a_name_and_its_checksum_and_facts_beside_it_once_it_is_published(place: Path) -> None:
    with image_directory(place) as directory, directory.new("web.raw") as image:
        os.write(image.fd, b"an image")
        assert os.listdir(place) == []
        image.complete()
        directory.publish([image], b"{}\n")
    assert sorted(os.listdir(place)) == ["web.raw", "web.raw.json", "web.raw.sha256"]
    assert (place / "web.raw").read_bytes() == b"an image"
    digest = hashlib.sha256(b"an image").hexdigest()
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "web.raw.sha256"], cwd=place, check=True)
    found = ChecksumList("web.raw.sha256", "sha256", True).checksum((place / "web.raw.sha256").read_bytes(), "web.raw")
    assert found == Checksum("sha256", digest)
    assert ((place / "web.raw").stat().st_mode & 0o777) & 0o027 == 0


@pytest.mark.image_row(93)
@pytest.mark.parametrize("taken", ["web.raw", "web.raw.sha256", "web.raw.json"])
def test_a_name_that_is_taken_is_refused_before_and_after_the_work(place: Path, taken: str) -> None:
    with image_directory(place) as directory:
        directory.refuse_existing(["web.raw"])
        (place / taken).symlink_to("/nowhere")
        with pytest.raises(RequestError, match=f"{taken} is there already, and is never overwritten"):
            directory.refuse_existing(["web.raw"])
        with pytest.raises(RequestError, match="has come into being meanwhile"):
            written(directory, "web.raw")
    assert os.listdir(place) == [taken]
    assert (place / taken).is_symlink()


def test_a_failure_leaves_nothing(place: Path) -> None:
    with pytest.raises(KeyboardInterrupt), image_directory(place) as directory, directory.new("web.raw") as image:
        os.write(image.fd, b"half of it")
        raise KeyboardInterrupt
    assert os.listdir(place) == []


def test_where_files_must_have_names_the_unfinished_one_has_another_and_loses_it(place: Path) -> None:
    with image_directory(place) as directory:
        fd = os.open(place / ".part", os.O_RDWR | os.O_CREAT)
        image = NewImage("web.raw", fd, ".part")
        os.write(fd, b"an image")
        image.complete()
        directory.publish([image], b"{}\n")
        os.close(fd)
    assert (place / "web.raw").read_bytes() == b"an image"


@pytest.mark.parametrize("name", ["", ".hidden", "-option", "a/b", "ä", "a\nb", "x" * 201])
def test_what_is_no_name_of_a_file_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match=r"-n|is no name"):
        check_name(name)


def test_a_directory_that_is_not_there_or_too_full_is_refused(place: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="create the directory, or give another by -d"),
        image_directory(place / "missing"),
    ):
        pass
    with image_directory(place) as directory, pytest.raises(ImageError, match="MiB may be needed"):
        check_room(directory, 1 << 60)


def test_a_raw_image_is_the_disk_with_holes(disk: Path, place: Path) -> None:
    with idle_disk(disk) as source, image_directory(place) as directory, directory.new("web.raw") as image:
        write_raw(source, image, lambda _done: None)
        image.complete()
        directory.publish([image], b"{}\n")
    assert (place / "web.raw").read_bytes() == CONTENT
    assert (place / "web.raw").stat().st_blocks * 512 < 2 * MIB


def test_a_compressed_raw_image_is_the_disk_holes_included(disk: Path, place: Path) -> None:
    os.truncate(disk, len(CONTENT) + 7 * MIB)
    names = {Compression.GZ: "a.gz", Compression.XZ: "a.xz", Compression.ZST: "a.zst", Compression.NONE: "a"}
    with idle_disk(disk) as source, image_directory(place) as directory:
        for compression, name in names.items():
            with directory.new(name) as image:
                write_raw_compressed(source, Writer(image, compression))
                image.complete()
                directory.publish([image], b"{}\n")
    whole = CONTENT + bytes(7 * MIB)
    assert (place / "a").read_bytes() == whole
    assert gzip.decompress((place / "a.gz").read_bytes()) == whole
    assert lzma.decompress((place / "a.xz").read_bytes()) == whole
    assert subprocess.run(["zstd", "-dc", place / "a.zst"], capture_output=True, check=True).stdout == whole
    assert max((place / name).stat().st_size for name in ("a.gz", "a.xz", "a.zst")) < 2 * MIB


@pytest.mark.root
@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZ, Compression.ZST])
def test_a_qcow2_image_is_the_disk_also_if_that_belongs_to_somebody_else(
    disk: Path, place: Path, compression: Compression
) -> None:
    disk.chmod(0o600)
    os.chown(disk, 4321, 4321)
    with idle_disk(disk) as source, image_directory(place) as directory, directory.new("web.qcow2") as image:
        write_qcow2(source, image, compression)
        image.complete()
        directory.publish([image], b"{}\n")
    subprocess.run(
        ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(disk), str(place / "web.qcow2")],
        check=True,
        capture_output=True,
    )


def test_a_disk_that_a_running_qemu_has_is_refused(disk: Path) -> None:
    import fcntl  # noqa: PLC0415 - for this alone
    import struct  # noqa: PLC0415

    with disk.open("rb") as held:
        fcntl.fcntl(held, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 100, 1, 0))
        with pytest.raises(DiskError, match="running QEMU: stop the instance first"), idle_disk(disk):
            pass
    with idle_disk(disk) as source:
        assert source.size == len(CONTENT)
        check_idle(source)


def test_a_disk_that_comes_into_use_during_the_work_is_noticed(disk: Path) -> None:
    import fcntl  # noqa: PLC0415 - for this alone
    import struct  # noqa: PLC0415

    with idle_disk(disk) as source, disk.open("rb") as held:
        fcntl.fcntl(held, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 100, 1, 0))
        with pytest.raises(DiskError, match="running QEMU: stop the instance first"):
            check_idle(source)


def test_an_overlay_is_an_empty_image_of_the_disks_size_that_cannot_outgrow_its_limit(disk: Path) -> None:
    with idle_disk(disk) as source, overlaid(source) as drive:
        overlay = drive.drive().overlay
        assert overlay is not None
        assert (drive.drive().fd, drive.drive().writable) == (source.fd, True)
        said = subprocess.run(
            ["qemu-img", "info", "-f", "qcow2", f"/proc/self/fd/{overlay}"],
            capture_output=True,
            text=True,
            check=True,
            pass_fds=[overlay],
        ).stdout
        assert f"({-(-len(CONTENT) // 512) * 512} bytes)" in said
        with pytest.raises(PermissionError):
            os.pwrite(overlay, b"more", LARGEST)
