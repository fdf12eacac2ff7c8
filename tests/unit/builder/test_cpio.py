# SPDX-License-Identifier: GPL-2.0-or-later
"""The initramfs archive, read back by the real cpio."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snf_image_helper_builder import cpio

NAMES = st.text("abcdefghijklmnopqrstuvwxyz.-_é", min_size=1, max_size=12).filter(lambda name: name.strip("."))


def extract(archive: bytes, into: Path) -> None:
    subprocess.run(["cpio", "-idm", "--quiet"], input=archive, cwd=into, check=True)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=70), max_size=6), NAMES)
def test_files_come_out_of_the_real_cpio_as_they_went_in(files: dict[str, bytes], folder: str) -> None:
    tree = {f"{folder}/{name}": cpio.file(content, 0o640) for name, content in files.items()}
    with tempfile.TemporaryDirectory() as scratch:
        into = Path(scratch)
        extract(cpio.archive(tree), into)
        found = {str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()}
        assert found == {f"{folder}/{name}": content for name, content in files.items()}
        assert all(stat.S_IMODE((into / name).stat().st_mode) == 0o640 for name in tree)


def test_a_link_keeps_its_target(tmp_path: Path) -> None:
    extract(cpio.archive({"sbin/init": cpio.link("../bin/busybox")}), tmp_path)
    assert os.readlink(tmp_path / "sbin/init") == "../bin/busybox"


def test_an_empty_directory_keeps_its_mode(tmp_path: Path) -> None:
    extract(cpio.archive({"root": cpio.directory(0o700)}), tmp_path)
    assert stat.S_IMODE((tmp_path / "root").stat().st_mode) == 0o700


@pytest.mark.root
def test_a_device_keeps_its_numbers(tmp_path: Path) -> None:
    extract(cpio.archive({"dev/console": cpio.character_device(5, 1)}), tmp_path)
    status = (tmp_path / "dev/console").stat()
    assert stat.S_ISCHR(status.st_mode)
    assert (os.major(status.st_rdev), os.minor(status.st_rdev)) == (5, 1)


def test_the_order_of_insertion_does_not_show() -> None:
    one, other = cpio.file(b"1"), cpio.file(b"2")
    assert cpio.archive({"a-b": one, "a/c": other}) == cpio.archive({"a/c": other, "a-b": one})


def test_a_directory_precedes_what_lies_in_it() -> None:
    listing = subprocess.run(
        ["cpio", "-it", "--quiet"],
        input=cpio.archive({"a-b": cpio.file(b""), "a/c": cpio.file(b"")}),
        capture_output=True,
        check=True,
    ).stdout.split()
    assert listing.index(b"a") < listing.index(b"a/c")
