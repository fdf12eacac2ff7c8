# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest: every path stays inside the root, and a write keeps what made the file that file."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snf_image_helper.guest import Guest, Ownership
from snf_image_shared.errors import GuestError
from unit.helper.guest_trees import guest_in, seen, text

pytestmark = pytest.mark.root

NAMES = ("a", "b", "c", "canary")
PIECES = st.sampled_from((*NAMES, "..", ".", "../../..", "/", "//"))
PATHS = st.builds(
    lambda pieces, absolute: ("/" if absolute else "") + "/".join(pieces),
    st.lists(PIECES, min_size=1, max_size=6),
    st.booleans(),
)
# user::rw- user:1:r-- group::r-- mask::rw- other::---, acl(5) as linux/posix_acl_xattr.h lays it out
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, 0xFFFFFFFF), (2, 4, 1), (4, 4, 0xFFFFFFFF), (16, 6, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
)


@given(
    links=st.lists(st.tuples(st.sampled_from(NAMES), PATHS), max_size=4),
    path=PATHS,
    directories=st.sets(st.sampled_from(NAMES)),
)
@settings(max_examples=300, deadline=None)
def test_no_combination_of_links_leads_out_of_the_root(
    links: list[tuple[str, str]], path: str, directories: set[str]
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        outside = Path(scratch)
        (outside / "canary").write_text("alive")
        root = outside / "a"
        root.mkdir()
        for name in directories:
            (root / name).mkdir()
        for name, target in links:
            with suppress(OSError):
                (root / name).symlink_to(target)
        before = _picture(outside)
        with guest_in(root) as guest:
            for touch in _everything("/" + path):
                with suppress(GuestError):
                    assert touch(guest) != "alive"
        assert _picture(outside) == before
        assert (outside / "canary").read_text() == "alive"


def _picture(outside: Path) -> dict[str, tuple[int, int, int]]:
    """Everything beside the root."""
    stats = {entry.name: entry.stat() for entry in outside.iterdir() if entry.name != "a"}
    return {name: (found.st_mode, found.st_ino, found.st_mtime_ns) for name, found in stats.items()}


def _everything(path: str) -> tuple[Callable[[Guest], object], ...]:
    return (
        lambda guest: guest.read_text(path),
        lambda guest: guest.write_text(path, "written"),
        lambda guest: guest.append_text(path, "more"),
        lambda guest: guest.make_directory(path),
        lambda guest: guest.chmod(path, 0o711),
        lambda guest: guest.rename(path, path + "x"),
        lambda guest: guest.list_directory(path),
        lambda guest: guest.symlink("/", path + "y"),
        lambda guest: guest.remove(path),
    )


def test_an_absolute_link_means_what_it_means_to_the_booted_guest(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/run/real": "old\n"}) as guest:
        guest.make_directory("/etc")
        (tmp_path / "etc/resolv.conf").symlink_to("/../run/real")
        guest.write_text("/etc/resolv.conf", "new\n")
        assert text(guest, "/run/real") == "new\n"
        assert guest.link_target("/etc/resolv.conf") == "/../run/real"


def test_a_relative_link_through_a_linked_directory_is_resolved_as_the_kernel_does(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/usr/etc/x/file": "old"}) as guest:
        (tmp_path / "etc").symlink_to("usr/etc/x")
        (tmp_path / "usr/etc/x/link").symlink_to("../target")
        guest.write_text("/etc/link", "new")
        assert text(guest, "/usr/etc/target") == "new"


def test_a_replaced_file_keeps_owner_mode_label_and_acl(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/shadow": "old"}) as guest:
        file = tmp_path / "shadow"
        os.chown(file, 3, 42)
        file.chmod(0o640)
        os.setxattr(file, "security.selinux", b"system_u:object_r:shadow_t:s0\0")
        os.setxattr(file, "system.posix_acl_access", ACL)
        mode = file.stat().st_mode
        guest.write_text("/shadow", "new")
        assert file.read_text() == "new"
        assert (file.stat().st_uid, file.stat().st_gid, file.stat().st_mode) == (3, 42, mode)
        assert os.getxattr(file, "security.selinux") == b"system_u:object_r:shadow_t:s0\0"
        assert os.getxattr(file, "system.posix_acl_access") == ACL


def test_an_explicit_ownership_wins_over_the_old_files_and_its_acl(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/key": "old"}) as guest:
        os.setxattr(tmp_path / "key", "system.posix_acl_access", ACL)
        guest.write_text("/key", "new", ownership=Ownership(7, 8, 0o600))
        assert seen(guest, "/key") == (7, 8, 0o600)
        assert "system.posix_acl_access" not in os.listxattr(tmp_path / "key")


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        with guest_in(tmp_path) as guest:
            guest.make_directory("/d/e", 0o751, 5, 6)
            guest.write_text("/d/e/f", "")
    finally:
        os.umask(old)
    assert seen(guest, "/d") == seen(guest, "/d/e") == (5, 6, 0o751)
    assert seen(guest, "/d/e/f") == (0, 0, 0o644)


def test_making_a_directory_leaves_the_ones_that_exist(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        (tmp_path / "home").mkdir(mode=0o711)
        guest.make_directory("/home/u/.ssh", 0o700, 5, 6)
        assert seen(guest, "/home") == (0, 0, 0o711)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    os.mknod(path, 0o20600, os.makedev(1, 5))  # /dev/zero: reading it would never end


def _socket(path: Path) -> None:
    # The path of a socket is short, so it is bound by its name in the current directory.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("make", [_fifo, _device, _socket])
def test_what_is_no_regular_file_is_neither_read_nor_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    with guest_in(tmp_path) as guest:
        make(tmp_path / "passwd")
        (tmp_path / "link").symlink_to("/passwd")
        for path in ("/passwd", "/link"):
            with pytest.raises(GuestError, match=r"regular file belongs; replace it"):
                guest.read_bytes(path)
            with pytest.raises(GuestError, match=r"regular file belongs; replace it"):
                guest.write_bytes(path, b"")


def test_a_huge_sparse_file_is_refused_by_its_size(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/passwd": ""}) as guest:
        os.truncate(tmp_path / "passwd", 100 << 30)
        with pytest.raises(GuestError, match=r"/passwd: is larger than 4194304 bytes"):
            guest.read_text("/passwd")


def test_bytes_that_are_no_utf8_survive(tmp_path: Path) -> None:
    content = b"caf\xe9 \xff\x00\r\n"
    with guest_in(tmp_path, {"/f": content}) as guest:
        guest.write_text("/f", guest.read_text("/f"))
        assert (tmp_path / "f").read_bytes() == content


def test_missing_is_an_error_unless_the_caller_says_otherwise(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/file": ""}) as guest:
        assert guest.read_text("/nope", missing_ok=True) is None
        assert guest.read_bytes("/file/below", missing_ok=True) is None
        assert guest.list_directory("/nope", missing_ok=True) == ()
        guest.remove("/nope", missing_ok=True)
        for touch in (guest.read_text, guest.remove, guest.list_directory, guest.open_directory):
            with pytest.raises(GuestError, match="/nope: does not exist"):
                touch("/nope")


def test_appending_begins_a_new_line(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/fstab": "one"}) as guest:
        guest.append_text("/fstab", "two\n")
        assert text(guest, "/fstab") == "one\ntwo\n"


def test_links_in_a_circle_are_explained(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        (tmp_path / "x").symlink_to("y")
        (tmp_path / "y").symlink_to("x")
        assert not guest.exists("/x")
        with pytest.raises(GuestError, match="/x: its symbolic links lead nowhere"):
            guest.write_text("/x", "")


def test_a_directory_in_the_place_of_a_file_is_explained(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        guest.make_directory("/etc/shadow")
        with pytest.raises(GuestError, match="/etc/shadow: is a directory where a file belongs"):
            guest.write_text("/etc/shadow", "")
        with pytest.raises(GuestError, match="is a directory where a file belongs"):
            guest.write_text("/etc/shadow/", "")


def test_removing_and_renaming_mean_the_link_itself(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/real": "stays"}) as guest:
        (tmp_path / "link").symlink_to("real")
        guest.rename("/link", "/moved")
        assert guest.link_target("/moved") == "real"
        guest.remove("/moved")
        assert text(guest, "/real") == "stays"
        assert not guest.is_link("/moved")


@pytest.mark.parametrize("path", ["etc/passwd", "", "/etc/\0"])
def test_only_absolute_paths_are_taken(tmp_path: Path, path: str) -> None:
    with guest_in(tmp_path) as guest, pytest.raises(GuestError, match="is not an absolute path"):
        guest.read_text(path)


def test_control_characters_of_a_path_do_not_reach_the_message(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest, pytest.raises(GuestError) as caught:
        guest.read_text("/\x1b[2J\n")
    assert str(caught.value).isprintable()


def test_a_closed_guest_is_a_programmers_mistake(tmp_path: Path) -> None:
    guest = guest_in(tmp_path)
    guest.close()
    guest.close()
    with pytest.raises(ValueError, match="closed"):
        guest.exists("/")


def test_what_was_written_made_or_renamed_is_kept_in_mind_without_links(tmp_path: Path) -> None:
    with guest_in(tmp_path / "guest", {"/usr/etc/old": "x", "/etc/kept": "y"}) as guest:
        guest.symlink("usr/etc", "/settings")
        guest.changed.clear()
        guest.write_text("/settings/old", "new")
        guest.write_texts({"/settings/../new": "new"})
        guest.make_directory("/settings/a/b")
        guest.rename("/etc/kept", "/etc/moved")
        guest.symlink("nowhere", "/etc/link")
        assert guest.changed == {"/usr/etc/old", "/usr/new", "/usr/etc/a", "/usr/etc/a/b", "/etc/moved", "/etc/link"}
