# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from block_devices import loop_device
from snf_image_host.sources import open_device
from snf_image_host.targets import EDGE, open_target
from snf_image_host.transfer import export, import_
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


def imported(device: Path, stream: bytes) -> int:
    """Import it through a pipe; the exit status of the sender."""
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        file.write(stream)
        file.flush()
        with subprocess.Popen(["cat", file.name], stdout=subprocess.PIPE) as sender:
            assert sender.stdout
            with open_target(device) as target:
                import_(target, sender.stdout.fileno())
        return sender.wait()


def disk_like(size: int) -> bytes:
    """Random data, a long run of zeros, random data."""
    return (os.urandom(size // 3) + bytes(size // 3) + os.urandom(size))[:size]


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
