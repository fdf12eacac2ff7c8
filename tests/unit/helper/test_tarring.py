# SPDX-License-Identifier: GPL-2.0-or-later
"""The archive of a guest, made and unpacked by the real tar on a real ext4: nothing of a tree is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.lived import NEWEST, ROOT, SWAP, lived_in_disk, manifest, mounted
from snf_image_helper.archiving.tarring import left_out, tar_command
from unit.helper.guest_trees import guest_in

pytestmark = pytest.mark.root


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    lived_in_disk(tmp_path / "disk", tmp_path)
    with mounted(tmp_path / "disk", ROOT, tmp_path) as root:
        yield root


@pytest.mark.image_row(90)
def test_all_of_a_tree_comes_back_and_the_same_tree_gives_the_same_archive(tree: Path, tmp_path: Path) -> None:
    before = manifest(tree)
    with guest_in(tree) as guest:
        guest.mounts["/"] = "/dev/root"
        command = tar_command(guest)
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    assert subprocess.run(command, check=True, capture_output=True).stdout == archive
    assert len(archive) < 2 << 20  # neither the hole nor the swap file
    out = tree / "out"
    out.mkdir()
    unpack = ["tar", "-x", "-p", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-C", str(out)]
    subprocess.run(unpack, input=archive, check=True)
    again = manifest(out)
    assert NEWEST in again
    assert again == before
    assert not (out / SWAP).exists()
    assert (out / "var/sparse").stat().st_blocks < 100


def test_lost_and_found_of_every_file_system_and_swap_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    lines = [
        "/dev/sda3 none swap sw 0 0",
        "/swap.img none swap sw 0 0",
        "//x/../swap two swap swap sw",
        "UUID=1 x swap",
    ]
    (tmp_path / "etc/fstab").write_text("\n".join(lines))
    with guest_in(tmp_path) as guest:
        guest.mounts |= {"/": "a", "/boot": "b", "/srv/data": "c"}
        assert left_out(guest) == ("boot/lost+found", "lost+found", "srv/data/lost+found", "swap", "swap.img")
