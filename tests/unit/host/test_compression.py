# SPDX-License-Identifier: GPL-2.0-or-later
"""Compressed images, decoded by the real process in its jail: exact on a disk full of garbage, or refused."""

from __future__ import annotations

import bz2
import functools
import gzip
import itertools
import lzma
import os
import random
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import lz4.frame
import pytest
import zstandard

from block_devices import loop_device
from image_deployment import GARBAGE, MIB, boots, deploy, make_disk, on_disk
from snf_image_host.decoding.compression import unpacked
from snf_image_host.decoding.stored import Stored
from snf_image_shared.errors import ImageError

pytestmark = pytest.mark.root


def _zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


def _lz4(content: bytes) -> bytes:
    return bytes(lz4.frame.compress(content, content_checksum=True))


def _bzip2(content: bytes) -> bytes:
    return bz2.compress(content, 1)


def _xz(content: bytes) -> bytes:
    return lzma.compress(content, preset=0)


CODECS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": functools.partial(gzip.compress, compresslevel=1),
    "xz": _xz,
    "bzip2": _bzip2,
    "zstd": _zstd,
    "lz4": _lz4,
}
every_codec = pytest.mark.parametrize("codec", CODECS)


@functools.cache
def disk_image() -> bytes:
    """Of an odd size: a boot sector, what does not compress, what does, and runs of zeros."""
    chance = random.Random(5)
    text = b"".join(b"line %d\n" % chance.randrange(1 << 20) for _ in range(100_000))
    boot = bytearray(chance.randbytes(512))
    boot[446:512] = struct.pack("<B3xB3xII", 0x80, 0x83, 2048, 8192).ljust(64, b"\0") + b"\x55\xaa"
    return bytes(boot) + chance.randbytes(700_000) + bytes(9 * MIB) + text + bytes(70_000) + b"the end"


@functools.cache
def compressed(codec: str) -> bytes:
    return CODECS[codec](disk_image())


@functools.cache
def little_image() -> bytes:
    return disk_image()[:40_000] + bytes(60_000)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory on a file system with O_DIRECT, as /tmp may be none."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


def refusal(directory: Path, stored: bytes, img_format: str = "diskdump", size: int = 2 * MIB) -> str:
    """Why the image is refused, and that the disk does not boot then and has kept its size."""
    (directory / "image").write_bytes(stored)
    disk = make_disk(directory, size)
    before = disk.read_bytes()
    with pytest.raises(ImageError, match=r"^image 'image'") as refused:
        deploy(directory, disk, img_format)
    assert disk.read_bytes() == before or not boots(disk)
    assert disk.stat().st_size == size
    return str(refused.value)


@every_codec
def test_an_image_is_exact_on_a_file_and_on_block_devices(directory: Path, codec: str) -> None:
    (directory / "image").write_bytes(compressed(codec))
    size = 16 * MIB
    disk = make_disk(directory, size)
    deploy(directory, disk)
    assert disk.read_bytes() == on_disk(disk_image(), size)
    for sector in (512, 4096):
        make_disk(directory, size)
        with loop_device(disk, f"--sector-size={sector}") as device:
            deploy(directory, device)
            assert device.read_bytes() == on_disk(disk_image(), size, sector)


def test_an_image_may_fill_the_disk_to_its_last_byte(directory: Path) -> None:
    image = little_image() * 30
    (directory / "image").write_bytes(_zstd(image))
    disk = make_disk(directory, len(image))
    deploy(directory, disk)
    assert disk.read_bytes() == image
    assert f"room for {len(image) - 1} bytes" in refusal(directory, _zstd(image), size=len(image) - 1)


def test_a_dump_of_a_file_system_comes_behind_the_first_mib(directory: Path) -> None:
    dump = directory / "dump"
    with dump.open("wb") as file:
        file.truncate(6 * MIB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", "1024", str(dump)], check=True)
    (directory / "image").write_bytes(gzip.compress(dump.read_bytes()))
    disk = make_disk(directory, 9 * MIB)
    deploy(directory, disk, "extdump")
    assert disk.read_bytes()[MIB : 7 * MIB] == dump.read_bytes()
    assert disk.read_bytes()[510:512] == b"\x55\xaa"


@every_codec
def test_many_streams_behind_one_another_are_one_image(directory: Path, codec: str) -> None:
    image = little_image()
    cuts = [0, 1, 1, 500, 9_000, len(image)]
    parts = [image[start:end] for start, end in itertools.pairwise(cuts)]
    (directory / "image").write_bytes(b"".join(map(CODECS[codec], parts)))
    disk = make_disk(directory, 2 * MIB)
    deploy(directory, disk)
    assert disk.read_bytes() == on_disk(image, 2 * MIB)


def test_what_the_formats_allow_between_streams_is_skipped(directory: Path) -> None:
    image = little_image()
    skippable = b"\x5a\x2a\x4d\x18" + struct.pack("<I", 7) + b"comment"
    for codec, filler in (("xz", bytes(4)), ("xz", bytes(3 * MIB)), ("zstd", skippable), ("lz4", skippable)):
        stored = CODECS[codec](image[:100]) + filler + CODECS[codec](image[100:]) + filler
        (directory / "image").write_bytes(stored)
        disk = make_disk(directory, 2 * MIB)
        deploy(directory, disk)
        assert disk.read_bytes() == on_disk(image, 2 * MIB)


@every_codec
def test_what_comes_behind_the_end_is_refused(directory: Path, codec: str) -> None:
    other = "zstd" if codec == "gzip" else "gzip"
    stored = CODECS[codec](little_image())
    for rubbish in (b"x", bytes(7), b"x" * (3 * MIB), CODECS[other](little_image())):
        assert f"has other bytes behind its {codec} stream" in refusal(directory, stored + rubbish)
    assert "is cut off" in refusal(directory, stored + stored[:3])


@pytest.mark.parametrize(("codec", "step"), [("gzip", 1), ("zstd", 3), ("xz", 5), ("bzip2", 5), ("lz4", 5)])
def test_an_image_that_is_cut_off_is_refused(directory: Path, codec: str, step: int) -> None:
    stored = compressed(codec)
    for tenth in range(step, 10, step):
        assert "is cut off" in refusal(directory, stored[: tenth * len(stored) // 10], size=16 * MIB)
    assert "is cut off" in refusal(directory, stored[:-1], size=16 * MIB)


@every_codec
def test_an_image_that_is_damaged_is_refused(directory: Path, codec: str) -> None:
    stored = CODECS[codec](little_image())
    for place in (len(stored) // 2, len(stored) - 6):  # what is compressed, and what checks it
        damaged = bytearray(stored)
        damaged[place] ^= 0x10
        assert "is damaged" in refusal(directory, bytes(damaged))


@every_codec
def test_no_cut_and_no_changed_bit_is_taken_for_the_image(codec: str) -> None:
    """Without the process: there are too many of them."""
    image = little_image()[:3000]
    stored = CODECS[codec](image)
    for length in range(1, len(stored)):
        assert decompressed(stored[:length], codec) is None
    chance = random.Random(7)
    for _ in range(300):
        damaged = bytearray(stored)
        damaged[chance.randrange(len(stored))] ^= 1 << chance.randrange(8)
        assert decompressed(bytes(damaged), codec) in {None, image}


def decompressed(stored: bytes, codec: str) -> bytes | None:
    """All of it, or None if it is refused."""
    file = os.memfd_create("stored")
    try:
        os.pwrite(file, stored, 0)
        source = unpacked(Stored(file), codec)
        content = bytearray()
        piece = bytearray(1 << 16)
        while count := source.readinto(memoryview(piece)):
            content += piece[:count]
        return bytes(content)
    except ImageError:
        return None
    finally:
        os.close(file)


ZEROS = 64 * MIB


@functools.cache
def zeros(codec: str) -> bytes:
    return CODECS[codec](bytes(ZEROS))


@every_codec
def test_a_bomb_goes_no_further_than_the_disk(directory: Path, codec: str) -> None:
    stored = CODECS[codec](disk_image()[:MIB]) + zeros(codec) * (8 if codec == "lz4" else 160)  # 10 GiB
    reason = refusal(directory, stored, size=16 * MIB)
    assert "is larger than the disk when decompressed, with room for 16777216 bytes" in reason


def test_a_bomb_in_one_frame_goes_no_further_than_the_disk(directory: Path) -> None:
    block = ((128 << 10) << 3 | 1 << 1).to_bytes(3, "little") + b"x"  # 128 KiB of one byte
    frame = b"\x28\xb5\x2f\xfd" + bytes([0, (17 - 10) << 3]) + block * (10 << 13)
    assert len(frame) < 400_000
    assert "is larger than the disk" in refusal(directory, frame, size=16 * MIB)


def test_an_xz_dictionary_of_4_gib_is_refused(directory: Path) -> None:
    stored = bytearray(_xz(little_image()))
    end = 12 + 4 * stored[12] + 4  # of the block's header, which is behind the stream's
    filters = stored.index(b"\x21\x01", 12, end)  # LZMA2, with one byte of properties
    stored[filters + 2] = 40
    stored[end - 4 : end] = struct.pack("<I", zlib.crc32(stored[12 : end - 4]))
    assert "needs more than 256 MiB of memory" in refusal(directory, bytes(stored))


def test_a_zstd_window_of_2_gib_is_refused(directory: Path) -> None:
    stored = bytearray(zstandard.ZstdCompressor(write_content_size=False).compress(little_image()))
    stored[5] = (31 - 10) << 3
    assert "needs 2048 MiB of memory to be decompressed" in refusal(directory, bytes(stored))


def test_a_zstd_dictionary_is_refused(directory: Path) -> None:
    dictionary = zstandard.train_dictionary(4096, [little_image()[at : at + 500] for at in range(0, 40_000, 500)])
    stored = zstandard.ZstdCompressor(dict_data=dictionary).compress(little_image())
    assert "is compressed with a dictionary" in refusal(directory, stored)


@every_codec
def test_a_million_empty_streams_are_refused(directory: Path, codec: str) -> None:
    stored = CODECS[codec](b"") * 1_000_000
    for before in (b"", CODECS[codec](little_image())):
        assert f"more than 1000 empty {codec}" in refusal(directory, before + stored)


def test_ten_thousand_streams_of_a_byte_are_an_image(directory: Path) -> None:
    image = little_image() + os.urandom(10_000)
    stored = _zstd(little_image()) + b"".join(_zstd(bytes([byte])) for byte in image[len(little_image()) :])
    (directory / "image").write_bytes(stored)
    disk = make_disk(directory, 2 * MIB)
    deploy(directory, disk)
    assert disk.read_bytes() == on_disk(image, 2 * MIB)


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        (gzip.compress(little_image()), "compressed once more"),
        (_xz(little_image()), "compressed once more"),
        (b"QFI\xfb\0\0\0\3" + bytes(4000), "QCOW"),
        (b"vhdxfile" + bytes(4000), "VHDX"),
        (bytes(257) + b"ustar\x0000" + bytes(4000), "tar"),
        (b"PK\3\4" + bytes(4000), "zip"),
        (b"<!DOCTYPE html>" + bytes(4000), "web page"),
        (bytes(4096) + b"EFI PART\0\0\1\0" + bytes(90_000), "4096"),
        (b"", "is empty"),
        (b"x" * 511, "only 511 bytes"),
    ],
    ids=["gzip", "xz", "qcow2", "vhdx", "tar", "zip", "html", "gpt-4096", "nothing", "little"],
)
def test_only_a_disk_may_be_inside_and_none_is_touched_otherwise(directory: Path, inner: bytes, reason: str) -> None:
    (directory / "image").write_bytes(_zstd(inner))
    disk = make_disk(directory, 2 * MIB)
    with pytest.raises(ImageError, match=reason):
        deploy(directory, disk)
    assert disk.read_bytes() == GARBAGE * (2 * MIB)


def test_gzip_is_decompressed_without_isal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which Debian 12 has no package of."""
    monkeypatch.setitem(sys.modules, "isal.igzip_lib", None)
    stored = b"".join(gzip.compress(part) for part in (little_image(), b"", bytes(8 * MIB), little_image()))
    assert decompressed(stored, "gzip") == little_image() + bytes(8 * MIB) + little_image()
    for length in range(1, len(stored), 9973):
        assert decompressed(stored[:length], "gzip") is None
    assert decompressed(stored + b"x", "gzip") is None
