# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest on file systems that do not let it write: the old file stays whole, and the message says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snf_image_shared.errors import GuestError
from unit.helper.disk_images import sh
from unit.helper.guest_trees import guest_in, text

pytestmark = pytest.mark.root


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    sh("mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "small", str(tmp_path))
    try:
        yield tmp_path
    finally:
        sh("umount", str(tmp_path))


def test_a_full_file_system_keeps_the_old_file_and_no_litter(small: Path) -> None:
    with guest_in(small, {"/shadow": "old"}) as guest:
        with pytest.raises(GuestError, match="/shadow: the guest's file system is full"):
            guest.write_bytes("/shadow", bytes(1 << 20))
        assert text(guest, "/shadow") == "old"
        assert guest.list_directory("/") == ("shadow",)


def test_a_read_only_file_system_is_named(small: Path) -> None:
    with guest_in(small, {"/shadow": "old"}) as guest:
        sh("mount", "-o", "remount,ro", str(small))
        with pytest.raises(GuestError, match="/shadow: its file system is read-only"):
            guest.write_text("/shadow", "new")


@pytest.mark.parametrize("flag", ["i", "a"])
def test_an_immutable_or_append_only_file_is_named_and_stays(small: Path, flag: str) -> None:
    with guest_in(small, {"/shadow": "old"}) as guest:
        sh("chattr", f"+{flag}", str(small / "shadow"))
        try:
            with pytest.raises(GuestError, match="/shadow: is immutable or append-only"):
                guest.write_text("/shadow", "new")
            assert guest.list_directory("/") == ("shadow",)
        finally:
            sh("chattr", f"-{flag}", str(small / "shadow"))
        assert text(guest, "/shadow") == "old"


def test_an_immutable_directory_is_named(small: Path) -> None:
    with guest_in(small, {"/etc/shadow": "old"}) as guest:
        sh("chattr", "+i", str(small / "etc"))
        try:
            with pytest.raises(
                GuestError, match="/etc/hostname: is immutable or append-only, or lies in such a directory"
            ):
                guest.write_text("/etc/hostname", "new")
        finally:
            sh("chattr", "-i", str(small / "etc"))


def test_a_mounted_file_system_is_part_of_the_guest(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        guest.make_directory("/var")
        sh("mount", "-t", "tmpfs", "var", str(tmp_path / "var"))
        try:
            guest.write_text("/var/file", "x")
            assert guest.read_text("/../var/../var/file") == "x"
        finally:
            sh("umount", str(tmp_path / "var"))
        assert not guest.exists("/var/file")
