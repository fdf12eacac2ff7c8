# SPDX-License-Identifier: GPL-2.0-or-later
"""Removing a directory of a guest: all of it, and nothing else, however it is laid."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snf_image_helper.files import removal
from snf_image_helper.files.removal import remove_tree
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import private_mounts, sh
from unit.helper.guest_trees import guest_in

pytestmark = pytest.mark.root


def test_everything_in_it_goes_and_its_neighbours_stay(tmp_path: Path) -> None:
    files = {"/var/gone/a": "", "/var/gone/b/c/d": "", "/var/gone/b/e": "", "/var/gone-not": "", "/var/other/f": ""}
    with guest_in(tmp_path, files) as guest:
        os.mkfifo(tmp_path / "var/gone/fifo")
        remove_tree(guest, "/var/gone")
        assert sorted(os.listdir(tmp_path / "var")) == ["gone-not", "other"]
        assert (tmp_path / "var/other/f").exists()


def test_links_are_removed_and_what_they_lead_to_stays(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/var/gone/a": "", "/home/me/file": ""}) as guest:
        guest.symlink("/home", "/var/gone/in")
        guest.symlink("/home", "/var/link")
        remove_tree(guest, "/var/gone")
        remove_tree(guest, "/var/link")
        assert os.listdir(tmp_path / "var") == []
        assert (tmp_path / "home/me/file").exists()


def test_a_link_on_the_way_stays_inside_the_guest(tmp_path: Path) -> None:
    (tmp_path / "outside/state").mkdir(parents=True)
    with guest_in(tmp_path / "guest", {"/outside/state/file": ""}) as guest:
        guest.symlink("/../outside", "/var")
        remove_tree(guest, "/var/state")
        assert not guest.exists("/outside/state")
        assert (tmp_path / "outside/state").exists()


def test_a_missing_one_and_a_file_are_no_trouble(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/var/file": ""}) as guest:
        remove_tree(guest, "/var/nothing/there")
        remove_tree(guest, "/var/file")
        assert os.listdir(tmp_path / "var") == []


def test_a_tree_that_is_deeper_than_any_path_goes(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/var/deep/file": ""}) as guest:
        here = os.open(tmp_path / "var/deep", os.O_RDONLY)
        for _ in range(3000):
            os.mkdir("d" * 20, dir_fd=here)
            below = os.open("d" * 20, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
        remove_tree(guest, "/var/deep")
        assert os.listdir(tmp_path / "var") == []


def test_another_file_system_in_it_stays_as_it_is(tmp_path: Path) -> None:
    with private_mounts(), guest_in(tmp_path, {"/var/gone/a/file": "", "/var/gone/b/file": ""}) as guest:
        (tmp_path / "var/gone/a/mounted").mkdir()
        sh("mount", "-t", "tmpfs", "none", str(tmp_path / "var/gone/a/mounted"))
        (tmp_path / "var/gone/a/mounted/kept").touch()
        remove_tree(guest, "/var/gone")
        found = [str(path.relative_to(tmp_path / "var")) for path in sorted((tmp_path / "var").rglob("*"))]
        sh("umount", str(tmp_path / "var/gone/a/mounted"))
        assert found == ["gone", "gone/a", "gone/a/mounted", "gone/a/mounted/kept"]


@pytest.mark.parametrize("is_directory", [False, True])
def test_a_tree_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_directory: bool) -> None:
    monkeypatch.setattr(removal, "_MOST", 5)
    with guest_in(tmp_path, {"/var/gone/0": ""}) as guest:
        for number in range(1, 6):
            path = f"/var/gone/{number}"
            guest.make_directory(path) if is_directory else guest.write_text(path, "")
        with pytest.raises(GuestError, match="/var/gone: holds more than 5 entries"):
            remove_tree(guest, "/var/gone")
