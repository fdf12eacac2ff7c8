# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import gzip
import lzma
import os
import re
import struct
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
from snf_image_host.disks.targets import EDGE, open_target
from snf_image_host.images.formats import foreign_stream
from snf_image_host.images.sources import open_device
from snf_image_host.transfer import export, import_, import_disk
from snf_image_shared.errors import DiskError, SnfImageError

MIB = 1 << 20
GARBAGE = b"\xa5"


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


def exported(device: Path) -> tuple[bytes, bytes]:
    """What comes out, and what is said to be its size."""
    sizes, size_fd = os.pipe()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        assert cat.stdin
        assert cat.stdout
        content: list[bytes] = []
        reader = threading.Thread(target=lambda out: content.append(out.read()), args=[cat.stdout])
        reader.start()
        try:
            with open_device(device) as source:
                export(source, cat.stdin.fileno(), size_fd)
        finally:
            os.close(size_fd)
            cat.stdin.close()
            reader.join()
    with os.fdopen(sizes, "rb") as said:
        return content[0], said.read()


def imported(device: Path, stream: bytes, declared: int | None = None) -> int:
    """Import it through a pipe; the exit status of the sender."""
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        file.write(stream)
        file.flush()
        with subprocess.Popen(["cat", file.name], stdout=subprocess.PIPE) as sender:
            assert sender.stdout
            with open_target(device) as target:
                import_(target, sender.stdout.fileno(), declared)
        return sender.wait()


def disk_like(size: int) -> bytes:
    """Random data, a long run of zeros, random data."""
    return (os.urandom(size // 3) + bytes(size // 3) + os.urandom(size))[:size]


@pytest.mark.row(19)
@pytest.mark.parametrize("size", [1, 1000, 4096, MIB - 1, 9 * MIB + 77])
def test_an_exported_file_is_exact_to_the_byte(directory: Path, size: int) -> None:
    content = disk_like(size)
    (directory / "disk").write_bytes(content)
    assert exported(directory / "disk") == (content, f"{size}\n".encode())


def test_the_holes_of_an_exported_file_are_zeros(directory: Path) -> None:
    with (directory / "disk").open("wb") as file:
        os.pwrite(file.fileno(), b"x", 5 * MIB)
        file.truncate(20 * MIB + 3)
    assert exported(directory / "disk")[0] == bytes(5 * MIB) + b"x" + bytes(15 * MIB + 2)


@pytest.mark.row(19, 20, 21)
@pytest.mark.root
def test_a_block_device_goes_out_and_comes_in_exactly(directory: Path) -> None:
    content = disk_like(9 * MIB + 512)
    (directory / "disk").write_bytes(content)
    (directory / "other").write_bytes(GARBAGE * len(content))
    with loop_device(directory / "disk") as source, loop_device(directory / "other") as target:
        stream, size = exported(source)
        assert size == f"{len(content)}\n".encode()
        imported(target, stream)
        assert target.read_bytes() == content


@pytest.mark.row(20)
def test_export_without_a_size_descriptor_writes_only_the_disk(directory: Path) -> None:
    (directory / "disk").write_bytes(b"content")
    with (directory / "out").open("wb") as out, open_device(directory / "disk") as source:
        export(source, out.fileno(), None)
    assert (directory / "out").read_bytes() == b"content"


def test_export_refuses_a_disk_that_is_being_written(directory: Path) -> None:
    (directory / "disk").write_bytes(bytes(MIB))
    with open_target(directory / "disk"), pytest.raises(DiskError, match="is being written by another run"):
        exported(directory / "disk")


def test_export_refuses_what_is_no_disk(directory: Path) -> None:
    os.mkfifo(directory / "fifo")
    with pytest.raises(DiskError, match="neither a block device nor a regular file"):
        exported(directory / "fifo")


def test_export_to_a_reader_that_went_away_is_an_error_of_one_line(directory: Path) -> None:
    (directory / "disk").write_bytes(os.urandom(8 * MIB))
    read, write = os.pipe()
    os.close(read)
    try:
        with (
            open_device(directory / "disk") as source,
            pytest.raises(SnfImageError, match="the exported stream cannot be written: Broken pipe"),
        ):
            export(source, write, None)
    finally:
        os.close(write)
    assert threading.enumerate() == [threading.main_thread()]


@pytest.mark.row(21)
@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 9 * MIB), room=st.integers(0, 2 * MIB))
def test_an_import_is_exact_on_a_file_of_any_size(size: int, room: int) -> None:
    stream = disk_like(size)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        disk = Path(name, "disk")
        disk.write_bytes(GARBAGE * (size + room))
        imported(disk, stream)
        expected = bytearray(GARBAGE * (size + room))
        expected[:EDGE] = bytes(min(EDGE, len(expected)))
        expected[-EDGE:] = bytes(min(EDGE, len(expected)))
        expected[:size] = stream
        assert disk.read_bytes() == expected


@pytest.mark.row(23)
@pytest.mark.parametrize("surplus", [1, 30 * MIB])
@pytest.mark.parametrize("size", [100, 3 * MIB, 8 * MIB + 1])
def test_a_stream_that_is_too_large_is_read_to_its_end_and_refused(directory: Path, size: int, surplus: int) -> None:
    disk = directory / "disk"
    disk.write_bytes(GARBAGE * size)
    with (directory / "stream").open("wb") as file:
        file.write(b"x" * (size + surplus))
    with subprocess.Popen(["cat", directory / "stream"], stdout=subprocess.PIPE) as sender:
        assert sender.stdout
        with (
            open_target(disk) as target,
            pytest.raises(DiskError, match=f"has {size} bytes, but the stream has {size + surplus}"),
        ):
            import_(target, sender.stdout.fileno())
    assert sender.returncode == 0
    content = disk.read_bytes()
    assert len(content) == size
    assert not any(content[:EDGE] + content[-EDGE:])


def test_an_empty_stream_is_an_error(directory: Path) -> None:
    (directory / "disk").write_bytes(GARBAGE * MIB)
    with pytest.raises(DiskError, match="the stream to import is empty"):
        imported(directory / "disk", b"")


def test_zeros_of_the_stream_take_no_space_in_a_file(directory: Path) -> None:
    disk = directory / "disk"
    disk.touch()
    os.truncate(disk, 40 * MIB)
    imported(disk, b"x" * MIB + bytes(38 * MIB) + b"y" * MIB)
    assert disk.stat().st_blocks * 512 < 4 * MIB


def tar(directory: Path) -> bytes:
    """As instance-image and debootstrap export: an archive on standard output."""
    (directory / "root.dump").write_bytes(os.urandom(3 * MIB))
    return subprocess.run(["tar", "-c", "-C", directory, "root.dump"], capture_output=True, check=True).stdout


def dump_header(order: str, magic: int) -> bytes:
    """The first record of dump(8): type 1, dates, volume, tape address, inode, magic (protocols/dumprestore.h)."""
    return struct.pack(f"{order}7i", 1, 1_700_000_000, 0, 1, 0, 0, magic).ljust(1024, b"\0")


def foreign(directory: Path, kind: str) -> bytes:
    content = os.urandom(3 * MIB)
    match kind:
        case "a tar archive":
            return tar(directory)
        case "compressed (gzip)":
            return gzip.compress(content)
        case "compressed (xz)":
            return lzma.compress(content[: 2 * MIB])
        case "compressed (zstd or lz4)" | "compressed (zstd)":
            return subprocess.run(["zstd", "-c"], input=content, capture_output=True, check=True).stdout
        case "a QCOW2 image":
            (directory / "raw").write_bytes(content)
            subprocess.run(
                ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", directory / "raw", directory / "qcow2"], check=True
            )
            return (directory / "qcow2").read_bytes()
        case "a dump(8) of a file system":
            return dump_header("<", 60012) + content
        case "a cpio archive":
            return subprocess.run(
                ["cpio", "-o", "-H", "newc"], input=b"/etc/passwd\n", capture_output=True, check=True
            ).stdout
    raise ValueError(kind)


KINDS = [
    *("a tar archive", "compressed (gzip)", "compressed (xz)", "compressed (zstd)", "a QCOW2 image"),
    *("a dump(8) of a file system", "a cpio archive"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_export_of_another_provider_is_named_and_refused(directory: Path, kind: str) -> None:
    stream = foreign(directory, kind)
    disk = directory / "disk"
    disk.write_bytes(GARBAGE * (16 * MIB))
    (directory / "stream").write_bytes(stream)
    with subprocess.Popen(["cat", directory / "stream"], stdout=subprocess.PIPE) as sender:
        assert sender.stdout
        with (
            open_target(disk) as target,
            pytest.raises(DiskError, match=re.escape(f"no raw disk, it is {kind} of {len(stream)} bytes: import it")),
        ):
            import_(target, sender.stdout.fileno())
    assert sender.returncode == 0
    content = disk.read_bytes()
    if len(stream) < EDGE:
        assert content == GARBAGE * (16 * MIB), "what is known at once is refused before the disk is touched"
    else:
        assert not any(content[:EDGE] + content[-EDGE:])


@pytest.mark.parametrize(("order", "magic"), [("<", 60011), (">", 60012), (">", 0x19540119)])
def test_dumps_of_every_age_and_order_are_known(directory: Path, order: str, magic: int) -> None:
    (directory / "disk").write_bytes(GARBAGE * (4 * MIB))
    with pytest.raises(DiskError, match=r"it is a dump\(8\)"):
        imported(directory / "disk", dump_header(order, magic))


@pytest.mark.parametrize("kind", KINDS)
def test_a_tenants_disk_that_begins_like_an_archive_comes_in_again(directory: Path, kind: str) -> None:
    """Its export is as large as the disk, whatever is on it."""
    content = foreign(directory, kind).ljust(8 * MIB, GARBAGE)
    (directory / "disk").write_bytes(content)
    stream, _ = exported(directory / "disk")
    (directory / "new").write_bytes(bytes(8 * MIB))
    assert imported(directory / "new", stream) == 0
    assert (directory / "new").read_bytes() == content


def test_a_disk_that_the_storage_rounded_up_takes_a_tenants_archive_of_the_declared_size(directory: Path) -> None:
    content = tar(directory).ljust(8 * MIB, b"\0")
    (directory / "new").write_bytes(bytes(12 * MIB))
    imported(directory / "new", content, declared=8 * MIB)
    assert (directory / "new").read_bytes()[: 8 * MIB] == content
    with pytest.raises(DiskError, match="it is a tar archive"):
        imported(directory / "new", content[:-512], declared=8 * MIB)


@pytest.mark.parametrize("head", [b"LUKS\xba\xbe", b"\0" * 512, b"\x01\0\0\0" + b"\xff" * 30, b"XFSB", b"GNTOVMF\0"])
def test_a_raw_stream_may_be_smaller_than_the_disk_and_begin_with_anything_else(directory: Path, head: bytes) -> None:
    (directory / "disk").write_bytes(GARBAGE * (4 * MIB))
    stream = head + os.urandom(MIB)
    imported(directory / "disk", stream)
    assert (directory / "disk").read_bytes()[: len(stream)] == stream


@given(head=st.binary(max_size=4608))
def test_no_head_of_a_stream_breaks_the_recognition(head: bytes) -> None:
    kind = foreign_stream(head)
    assert kind is None or kind.text


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OS_API_VERSION": "20"},
        {"OS_API_VERSION": "20", "IMPORT_DEVICE": "/nonexistent/disk"},
        {"OS_API_VERSION": "20", "IMPORT_DEVICE": "/dev/null"},
        {"OS_API_VERSION": "20", "IMPORT_DISK_URI": "sheepdog:x"},
        {"OS_API_VERSION": "20", "IMPORT_DEVICE": "/dev/null", "OS_VARIANT": "nonexistent"},
    ],
)
def test_whatever_is_wrong_the_stream_is_read_to_its_end(
    directory: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (directory / "stream").open("wb") as file:
        file.truncate(8 * MIB)
    with subprocess.Popen(["cat", directory / "stream"], stdout=subprocess.PIPE) as sender:
        assert sender.stdout
        monkeypatch.setattr(sys, "stdin", sender.stdout)
        with pytest.raises(SnfImageError):
            import_disk(environment, directory)
    assert sender.returncode == 0
