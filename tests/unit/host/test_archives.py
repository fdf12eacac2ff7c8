# SPDX-License-Identifier: GPL-2.0-or-later
"""Images that are no disk, as the node sees them: told by their first bytes, and refused before anything is written."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snf_image_host.configuration.settings import Settings
from snf_image_host.images.archives import open_archive
from snf_image_host.images.checksum import parse_checksums
from snf_image_host.images.names import WantedImage
from snf_image_host.images.sources import Source
from snf_image_host.progress import Progress
from snf_image_shared.errors import ImageError

NEW, OLD, UFS2 = 60012, 60011, 0x19540119


def tarball() -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("etc"))
    return held.getvalue()


def dump(*, magic: int = NEW, order: str = "<", volume: int = 1, level: int = 0) -> bytes:
    """The first record of dump(8): c_type, two dates, c_volume, c_tapea, c_inumber, c_magic; c_level at 692."""
    record = bytearray(1024)
    struct.pack_into(f"{order}7i", record, 0, 1, 0, 0, volume, 0, 0, magic)
    struct.pack_into(f"{order}i", record, 692, level)
    return bytes(record) * 2


@contextmanager
def opened(directory: Path, content: bytes, form: str, checksum: str = "") -> Iterator[Source]:
    (directory / "image").write_bytes(content)
    settings = Settings(image_dir=directory)
    wanted = WantedImage("image", form, parse_checksums(checksum) if checksum else ())
    with Progress.start("", None, log=io.StringIO()) as progress, open_archive(wanted, settings, progress) as source:
        yield source


@pytest.mark.parametrize("content", [tarball(), gzip.compress(tarball())], ids=["plain", "gzip"])
def test_a_tarball_is_handed_on_as_it_is_stored(tmp_path: Path, content: bytes) -> None:
    with opened(tmp_path, content, "tarball") as source:
        assert os.pread(source.fd, len(content) + 1, 0) == content


@pytest.mark.image_row(15)
def test_a_dump_is_handed_on_as_it_is_stored(tmp_path: Path) -> None:
    with opened(tmp_path, dump(), "dump") as source:
        assert os.pread(source.fd, 4096, 0) == dump()


REFUSED = {
    "tarball that is a dump": ("tarball", dump(), r"no tarball: it is a dump\(8\)"),
    "tarball that is a web page": ("tarball", b"<html>404".ljust(2048), "no tarball: it is a web page"),
    "tarball of two kinds": ("tarball", b"\x1f\x8b\x08" + tarball()[3:], "taken for compressed .* and for a tar"),
    "empty tarball": ("tarball", b"", "no tarball: nothing is known"),
    "dump that is a tarball": ("dump", tarball(), r"no dump\(8\): it is a tar archive"),
    "dump of XFS": ("dump", b"xFSdump0".ljust(2048, b"\0"), r"no dump\(8\): it is a dump of XFS"),
    "compressed dump": ("dump", gzip.compress(dump()), r"no dump\(8\): it is compressed \(gzip\)"),
    "dump of FreeBSD": ("dump", dump(magic=UFS2), "UFS2 of FreeBSD; publish"),
    "dump of old": ("dump", dump(magic=OLD), "old format of BSD; publish"),
    "dump of another order": ("dump", dump(order=">"), "big-endian machine; publish"),
    "dump of changes": ("dump", dump(level=1), "dump of level 1, .*; publish one of level 0"),
    "second volume": ("dump", dump(volume=2), "volume 2 of a dump; publish"),
    "dump of one record's half": ("dump", dump()[:512], "cut short"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.image_row(20)
def test_what_the_helper_could_not_unpack_is_refused_by_the_node(tmp_path: Path, case: str) -> None:
    form, content, message = REFUSED[case]
    with pytest.raises(ImageError, match=message), opened(tmp_path, content, form):
        pass


@pytest.mark.image_row(20)
def test_a_byte_that_has_changed_is_found_by_the_checksum_before_anything_is_handed_on(tmp_path: Path) -> None:
    content = bytearray(tarball())
    content[-1] ^= 1
    good = "sha256:" + hashlib.sha256(tarball()).hexdigest()
    with pytest.raises(ImageError, match="checksum"), opened(tmp_path, bytes(content), "tarball", good):
        pass
