# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.formats import HEAD, gpt_sector_size, recognise
from snf_image_host.recipes import recipe_for
from snf_image_host.sources import open_source
from snf_image_shared.errors import ImageError

DISK = bytes(1 << 20)


def inspect(image: Path) -> None:
    with open_source(image.name, image.parent) as source:
        recipe_for("diskdump", source.head(HEAD), source.name)


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("disk.img"))
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("disk.img", DISK)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("qcow2", "", "QCOW"),
        ("qcow2", "compat=0.10", "QCOW"),
        ("qcow", "", "QCOW"),
        ("qed", "", "QED"),
        ("vmdk", "", "VMDK"),
        ("vmdk", "subformat=twoGbMaxExtentSparse", "VMDK descriptor"),
        ("vmdk", "subformat=streamOptimized", "VMDK"),
        ("vhdx", "", "VHDX"),
        ("vdi", "", "VDI"),
        ("vpc", "", "VHD"),
        ("parallels", "", "Parallels"),
    ],
)
def test_a_container_made_by_qemu_img_is_refused(tmp_path: Path, name: str, options: str, said: str) -> None:
    command = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        name,
        *(["-o", options] if options else []),
        str(tmp_path / "image"),
        "64M",
    ]
    subprocess.run(command, check=True)
    with pytest.raises(ImageError, match=f"it is a {said}.*convert it with 'qemu-img convert"):
        inspect(tmp_path / "image")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(DISK), r"compressed \(gzip\): decompress it"),
        (bz2.compress(DISK), r"compressed \(bzip2\)"),
        (lzma.compress(DISK), r"compressed \(xz\)"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), r"compressed \(zstd\)"),
        (b"\x53\x2a\x4d\x18" + bytes(600), r"compressed \(zstd or lz4\)"),
        (b"\x04\x22\x4d\x18" + bytes(600), r"compressed \(lz4\)"),
        (b"LUKS\xba\xbe\x00\x01" + bytes(600), "encrypted LUKS volume"),
        (_tar(), "tar archive: unpack it"),
        (_zip(), "zip archive"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><title>404 Not Found</title>", "a web page: download the image again"),
        (b"# Disk DescriptorFile\nversion=1\n", "a VMDK descriptor"),
    ],
)
def test_what_is_no_disk_is_refused_with_its_cure(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "image").write_bytes(data.ljust(1024, b" "))
    with pytest.raises(ImageError, match=f"image 'image' is not a plain disk image, it is (an? )?{said}"):
        inspect(tmp_path / "image")


@pytest.mark.parametrize(("size", "said"), [(0, "is empty"), (511, "has only 511 bytes")])
def test_an_image_too_small_to_boot_is_refused(tmp_path: Path, size: int, said: str) -> None:
    (tmp_path / "image").write_bytes(bytes(size))
    with pytest.raises(ImageError, match=said):
        inspect(tmp_path / "image")


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_a_disk_partitioned_by_sfdisk_is_accepted(tmp_path: Path, label: str) -> None:
    (tmp_path / "image").write_bytes(bytes(8 << 20))
    subprocess.run(["sfdisk", "-q", str(tmp_path / "image")], input=f"label: {label}\n2048,\n", text=True, check=True)
    inspect(tmp_path / "image")


def test_a_file_system_without_partitions_is_accepted(tmp_path: Path) -> None:
    subprocess.run(["mke2fs", "-q", "-F", str(tmp_path / "image"), "1024"], check=True)
    inspect(tmp_path / "image")


def test_a_partition_table_for_4096_byte_sectors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(4096) + b"EFI PART\x00\x00\x01\x00" + bytes(8192))
    with pytest.raises(ImageError, match="sectors of 4096 bytes"):
        inspect(tmp_path / "image")


@pytest.mark.parametrize("look", [recognise, gpt_sector_size])
@given(head=st.binary(max_size=HEAD))
def test_no_head_of_a_file_raises(look: Callable[[bytes], object], head: bytes) -> None:
    look(head)
