# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from block_devices import loop_device
from snf_image_shared.exchange import (
    BLOCK,
    ExchangeError,
    Member,
    ending,
    header,
    is_dump,
    length,
    next_member,
)

pytestmark = pytest.mark.image_row(45)


def reader(stream: io.BytesIO):  # type: ignore[no-untyped-def]
    def read(count: int) -> bytes:
        found = stream.read(count)
        if len(found) < count:
            raise EOFError
        return found

    return read


def members(content: bytes) -> list[tuple[Member, bytes]]:
    stream = io.BytesIO(content)
    read, found = reader(stream), []
    while member := next_member(read):
        found.append((member, read(member.size)))
        read(member.padding)
    return found


def written(*contents: tuple[str, bytes]) -> bytes:
    all_ = [Member(name, len(content)) for name, content in contents]
    parts = [header(each) + content + bytes(each.padding) for each, (_, content) in zip(all_, contents, strict=True)]
    return b"".join(parts) + bytes(ending(all_))


def tar(directory: Path, *options: str) -> bytes:
    return subprocess.run(
        ["tar", "-C", directory, *options, "-cf", "-", "."], check=True, stdout=subprocess.PIPE
    ).stdout


@given(st.binary(max_size=2000), st.binary(max_size=2000))
def test_gnu_tar_reads_what_is_written_and_its_length_is_known_before(root: bytes, boot: bytes) -> None:
    archive = written(("root.dump", root), ("boot.dump", boot))
    assert len(archive) == length([Member("root.dump", len(root)), Member("boot.dump", len(boot))])
    assert len(archive) % 10240 == 0
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        names = {each.name: found.extractfile(each).read() for each in found.getmembers()}  # type: ignore[union-attr]
    assert names == {"./root.dump": root, "./boot.dump": boot}


def test_tar_lists_the_archive_without_a_word_of_complaint(tmp_path: Path) -> None:
    done = subprocess.run(
        ["tar", "-tvf", "-"], input=written(("disk.img", b"x" * 700)), check=True, capture_output=True
    )
    assert done.stdout.split()[:3] == [b"-rw-------", b"root/root", b"700"]
    assert done.stdout.endswith(b" ./disk.img\n")
    assert done.stderr == b""


@pytest.mark.parametrize("size", [8 << 30, (8 << 30) - 1, 5 << 40])
def test_a_size_beyond_what_octal_digits_hold_is_read_by_gnu_tar(size: int) -> None:
    block = header(Member("disk.img", size))
    assert len(block) == BLOCK
    assert tarfile.TarInfo.frombuf(block, "utf-8", "strict").size == size
    assert next_member(reader(io.BytesIO(block))) == Member("disk.img", size)


@pytest.mark.parametrize("options", [[], ["--format=posix"], ["--format=gnu"], ["--format=ustar"]])
def test_what_tar_makes_of_a_directory_of_dumps_is_read_in_any_order(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "root.dump").write_bytes(b"r" * 1000)
    (tmp_path / "boot.dump").write_bytes(b"b" * 512)
    found = members(tar(tmp_path, *options))
    assert sorted((each.name, content) for each, content in found) == [
        ("boot.dump", b"b" * 512),
        ("root.dump", b"r" * 1000),
    ]


def test_a_pax_size_is_the_one_that_counts() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("disk.img")
        info.size = 9 << 30
        archive.addfile(info)
    assert next_member(reader(io.BytesIO(stream.getvalue()))) == Member("disk.img", 9 << 30)


@pytest.mark.parametrize("name", ["../root.dump", "/root.dump", "etc/passwd", "sub/root.dump"])
def test_a_file_of_any_other_name_is_refused_by_its_name(name: str) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(ExchangeError, match="are known"):
        members(stream.getvalue())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_what_is_no_plain_file_is_refused(kind: bytes) -> None:
    info = tarfile.TarInfo("root.dump")
    info.type, info.linkname = kind, "/etc/passwd"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(info)
    with pytest.raises(ExchangeError, match="no plain file"):
        members(stream.getvalue())


def test_a_damaged_header_is_refused() -> None:
    archive = bytearray(written(("root.dump", b"x")))
    archive[3] ^= 1
    with pytest.raises(ExchangeError, match="damaged"):
        members(bytes(archive))


def test_headers_without_end_are_refused() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for _ in range(100):
            info = tarfile.TarInfo("./")
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
    with pytest.raises(ExchangeError, match="nothing but headers"):
        members(stream.getvalue())


@given(st.binary(min_size=BLOCK, max_size=3 * BLOCK))
def test_no_bytes_are_more_than_an_error(content: bytes) -> None:
    with contextlib.suppress(ExchangeError, EOFError):
        members(content)


@pytest.mark.root
def test_a_dump_is_known_by_its_first_record(tmp_path: Path) -> None:
    image = tmp_path / "fs"
    subprocess.run(["mke2fs", "-q", "-t", "ext2", image, "1M"], check=True)
    with loop_device(image) as device:
        dump = subprocess.run(["dump", "-0", "-q", "-f", "-", device], check=True, capture_output=True).stdout
    assert is_dump(dump[:32])
    assert not is_dump(bytes(32))
    assert not is_dump(dump[:31])


def test_a_raw_image_is_a_plain_file_for_every_tar_and_told_from_one_of_0_7_3(tmp_path: Path) -> None:
    member = Member("disk.img", 700, is_raw=True)
    archive = header(member) + bytes(700) + bytes(member.padding) + bytes(ending([member]))
    for command in (["tar"], ["bsdtar"]):
        done = subprocess.run([*command, "-C", tmp_path, "-xf", "-"], input=archive, check=True, stderr=subprocess.PIPE)
        assert (done.stderr, (tmp_path / "disk.img").stat().st_size) == (b"", 700)
        (tmp_path / "disk.img").unlink()
    assert members(archive) == [(member, bytes(700))]
    (tmp_path / "disk.img").write_bytes(bytes(700))
    assert [each.is_raw for each, _ in members(tar(tmp_path))] == [False]
