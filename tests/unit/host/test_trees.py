# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories of the node as archives, unpacked again by GNU tar and compared by find."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import IO, cast

import pytest

from snf_image_host.vm import trees
from snf_image_host.vm.trees import packed
from snf_image_shared.errors import ConfigurationError

pytestmark = pytest.mark.root


def tree(root: Path) -> Path:
    """Everything that may be in an overlay."""
    (root / "etc/.hidden").mkdir(parents=True)
    (root / ".profile").write_text("top-level dot file\n")
    (root / "etc/passwd").write_text("x" * 70_000)
    (root / "etc/name with blanks, ümlaut\nand more").write_bytes(b"\0\xff")
    (root / ("n" * 200)).write_text("long")
    (root / "etc/absolute").symlink_to("/etc/shadow")
    (root / "etc/dangling").symlink_to("nowhere")
    os.link(root / "etc/passwd", root / "etc/second-name")
    for number, path in enumerate(sorted(root.rglob("*"))):
        os.chown(path, 4000 + number, 5000 + number, follow_symlinks=False)
    (root / "etc/passwd").chmod(0o4711)
    (root / "etc/.hidden").chmod(0o1770)
    os.setxattr(root / "etc/passwd", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.utime(root / "etc/.hidden", (1e9, 1e9))
    return root


def listed(root: Path) -> str:
    """Type, mode, owners, time, links, size, name and target of all, and the capabilities."""
    form = "%y %m %U %G %Ts %n %l %P\\0"
    found = subprocess.run(["find", root, "-mindepth", "1", "-printf", form], capture_output=True, check=True).stdout
    capable = [(path.name, os.getxattr(path, "security.capability")) for path in [root / "etc/passwd"]]
    return "\n".join(sorted(found.decode("utf-8", "replace").split("\0"))) + str(capable)


def unpacked(root: Path, fd: int) -> Path:
    root.mkdir()
    options = (
        "--numeric-owner",
        "-p",
        "--xattrs",
        "--xattrs-include=*",
        "-x",
        "-C",
        str(root),
        "-f",
        f"/proc/self/fd/{fd}",
    )
    subprocess.run(["tar", *options], check=True, pass_fds=(fd,))
    return root


@pytest.mark.image_row(82)
def test_a_tree_arrives_with_dot_files_owners_modes_links_times_and_capabilities(tmp_path: Path) -> None:
    source = tree(tmp_path / "overlay")
    with packed(fill=lambda archive: archive.add_directory(source)) as fd:
        result = unpacked(tmp_path / "result", fd)
    assert listed(result) == listed(source)
    assert (result / "etc/name with blanks, ümlaut\nand more").read_bytes() == b"\0\xff"
    assert (result / "etc/passwd").read_text() == "x" * 70_000


def test_the_archive_lies_in_memory_and_can_only_be_read(tmp_path: Path) -> None:
    (tmp_path / "overlay").mkdir()
    with packed(fill=lambda archive: archive.add_directory(tmp_path / "overlay")) as fd:
        assert "memfd:" in os.readlink(f"/proc/self/fd/{fd}")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"x")
        assert os.fstat(fd).st_size % 512 == 0


@pytest.mark.parametrize("kind", ["fifo", "device", "socket"])
def test_what_is_no_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "overlay" / "etc" / kind
    path.parent.mkdir(parents=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        os.mknod(path, 0o20600, os.makedev(1, 3))
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    with (
        pytest.raises(ConfigurationError, match=f"overlay/etc/{kind}: is a .*; remove it from there"),
        packed(fill=lambda archive: archive.add_directory(tmp_path / "overlay")),
    ):
        pass


def test_more_than_fits_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "overlay").mkdir()
    with (tmp_path / "overlay/large").open("wb") as file:
        file.truncate(trees.LARGEST + 1)
    with (
        pytest.raises(ConfigurationError, match=r"overlay/large: with it, .* more than 256 MiB"),
        packed(fill=lambda archive: archive.add_directory(tmp_path / "overlay")),
    ):
        pass


class Meddler:
    """An archive's file, with somebody who writes to what is archived."""

    def __init__(self, file: IO[bytes], meddled: Path) -> None:
        self.file, self.meddled = file, meddled

    def write(self, piece: bytes) -> int:
        with self.meddled.open("ab") as meddled:
            meddled.write(b"more")
        return self.file.write(piece)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "overlay").mkdir()
    growing = tmp_path / "overlay/log"
    growing.write_bytes(bytes(1 << 20))

    def fill(archive: trees.Archive) -> None:
        assert archive.tar.fileobj
        monkeypatch.setattr(archive.tar, "fileobj", Meddler(cast(IO[bytes], archive.tar.fileobj), growing))
        archive.add_directory(tmp_path / "overlay")

    with pytest.raises(ConfigurationError, match="overlay/log: was changed while it was read"), packed(fill=fill):
        pass


def test_links_stay_links_but_for_a_hook_that_lies_elsewhere(tmp_path: Path) -> None:
    hooks, outside = tmp_path / "hooks", tmp_path / "outside"
    hooks.mkdir()
    outside.mkdir()
    (outside / "program").write_text("#!/bin/sh\n")
    (outside / "secret").write_text("of the node\n")
    (hooks / "inside").write_text("#!/bin/sh\n")
    for name, target in (("program", outside / "program"), ("again", Path("inside")), ("leak", outside / "secret")):
        (hooks / name).symlink_to(target)
    followed = ("program", "again", "inside")
    with packed(fill=lambda archive: archive.add_directory(hooks, "etc/hooks", followed)) as fd:
        result = unpacked(tmp_path / "result", fd) / "etc/hooks"
    assert {path.name: path.is_symlink() for path in result.iterdir()} == {
        "inside": False,
        "program": False,
        "again": True,
        "leak": True,
    }


@pytest.mark.image_row(69)
def test_nothing_but_what_was_added_is_in_the_archive(tmp_path: Path) -> None:
    networks = tmp_path / "networks"
    (networks / "instances").mkdir(parents=True)
    for name in ("web.example.com", "other.example.com"):
        (networks / "instances" / name).write_text(f"ADDRESS={name}\n")
    with packed(fill=lambda archive: archive.add_file(networks / "instances/web.example.com", "n/instances/web")) as fd:
        result = unpacked(tmp_path / "result", fd)
    assert sorted(str(path.relative_to(result)) for path in result.rglob("*")) == [
        "n",
        "n/instances",
        "n/instances/web",
    ]
