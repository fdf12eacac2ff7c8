# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest on NTFS as ntfs-3g mounts it: what makes a file that file stays, and what Windows would hand down is handed."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from images.windows_disks import make_ntfs
from snf_image_helper.files.security_descriptors import inherited
from snf_image_helper.guest import Guest
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import private_mounts, sh
from unit.helper.guest_trees import guest_in, text
from unit.helper.ntfs_volumes import OPTIONS, attribute, written_to

pytestmark = pytest.mark.root

FULL, READ, GENERIC_ALL = 0x001F01FF, 0x001200A9, 0x10000000
TO_FILES, TO_ALL, ONLY_BELOW = 1, 3, 8


@pytest.fixture(autouse=True)
def _private_mounts() -> Iterator[None]:
    with private_mounts():
        yield


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ntfs")
    (directory / "c/Users").mkdir(parents=True)
    (directory / "c/file.txt").write_text("old")
    make_ntfs(directory / "volume", 16, directory / "c")
    return directory / "volume"


@contextmanager
def guest_on(pristine: Path, scratch: Path) -> Iterator[Guest]:
    volume = scratch / "volume"
    sh("cp", "--sparse=always", str(pristine), str(volume))
    with written_to(volume, scratch / "place", OPTIONS) as place, guest_in(place) as guest:
        yield guest


def sid(authority: int, *parts: int) -> bytes:
    return struct.pack(">BBHI", 1, len(parts), 0, authority) + struct.pack(f"<{len(parts)}I", *parts)


def ace(flags: int, mask: int, who: bytes, kind: int = 0) -> bytes:
    return struct.pack("<BBHI", kind, flags, 8 + len(who), mask) + who


ADMINISTRATORS, SYSTEM, USERS = sid(5, 32, 544), sid(5, 18), sid(5, 32, 545)
INSTALLER, OWNER = sid(5, 80, 1, 2, 3, 4, 5), sid(3, 0)


def descriptor(*entries: bytes) -> bytes:
    """Owned by the service that installs Windows; the entries as its DACL."""
    acl = struct.pack("<BBHHH", 2, 0, 8 + sum(map(len, entries)), len(entries), 0) + b"".join(entries)
    group = 20 + len(INSTALLER)
    header = struct.pack("<BBHIIII", 1, 0, 0x8004, 20, group, 0, group + len(INSTALLER))
    return header + INSTALLER + INSTALLER + acl


ZONE = b"[ZoneTransfer]\r\nZoneId=3\r\nHostUrl=https://example.com/" + bytes(range(200))
# C:\Windows, but for what the store's applications get.
WINDOWS = descriptor(
    ace(0, FULL, INSTALLER),
    ace(ONLY_BELOW | TO_ALL, GENERIC_ALL, SYSTEM),
    ace(ONLY_BELOW | TO_ALL, GENERIC_ALL, ADMINISTRATORS),
    ace(TO_FILES, READ, USERS),
    ace(ONLY_BELOW | TO_ALL, GENERIC_ALL, OWNER),
)


def entries(found: bytes) -> list[tuple[int, int, int, bytes]]:
    """Type, flags, mask, SID of a DACL, read anew."""
    place = struct.unpack_from("<I", found, 16)[0]
    count = struct.unpack_from("<H", found, place + 4)[0]
    place += 8
    seen = []
    for _ in range(count):
        kind, flags, size, mask = struct.unpack_from("<BBHI", found, place)
        seen.append((kind, flags, mask, found[place + 8 : place + size]))
        place += size
    return seen


def acl_of(path: Path) -> bytes:
    return attribute(path, "system.ntfs_acl")


def test_a_replaced_file_keeps_its_descriptor_flags_streams_and_time_of_creation(
    pristine: Path, tmp_path: Path
) -> None:
    with guest_on(pristine, tmp_path) as guest:
        path = Path(guest.root, "file.txt")
        mine = descriptor(ace(0, FULL, INSTALLER), ace(0, READ, USERS, kind=1))
        os.setxattr(path, "system.ntfs_acl", mine)
        os.setxattr(path, "system.ntfs_attrib", struct.pack("<I", 0x2 | 0x4 | 0x20))
        os.setxattr(path, "system.ntfs_crtime", struct.pack("<Q", 130_000_000_000_000_000))
        os.setxattr(path, "user.Zone.Identifier", ZONE)
        guest.write_text("/FILE.TXT", "new")
        assert text(guest, "/file.txt") == "new"
        assert acl_of(path) == mine
        assert struct.unpack("<I", os.getxattr(path, "system.ntfs_attrib")) == (0x26,)
        assert struct.unpack("<Q", os.getxattr(path, "system.ntfs_crtime")) == (130_000_000_000_000_000,)
        assert attribute(path, "user.Zone.Identifier") == ZONE
        assert guest.list_directory("/") == ("file.txt", "users")


def test_equal_content_does_not_touch_the_file(pristine: Path, tmp_path: Path) -> None:
    with guest_on(pristine, tmp_path) as guest:
        before = Path(guest.root, "file.txt").stat()
        guest.write_text("/file.txt", "old")
        after = Path(guest.root, "file.txt").stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_what_is_new_gets_what_its_directory_hands_down(pristine: Path, tmp_path: Path) -> None:
    with guest_on(pristine, tmp_path) as guest:
        users = Path(guest.root, "users")
        os.setxattr(users, "system.ntfs_acl", WINDOWS)
        guest.write_text("/Users/new.txt", "x")
        guest.make_directory("/Users/below")
        assert entries(acl_of(users / "new.txt")) == [
            (0, 0x10, FULL, SYSTEM),
            (0, 0x10, FULL, ADMINISTRATORS),
            (0, 0x10, READ, USERS),
            (0, 0x10, FULL, ADMINISTRATORS),
        ]
        assert entries(acl_of(users / "below")) == [
            (0, 0x13, FULL, SYSTEM),
            (0, 0x13, FULL, ADMINISTRATORS),
            (0, 0x19, READ, USERS),
            (0, 0x10, FULL, ADMINISTRATORS),
            (0, 0x1B, GENERIC_ALL, OWNER),
        ]
    told = sh("ntfssecaudit", "-v", str(tmp_path / "volume"), "/Users/new.txt")
    assert "Windows owner S-1-5-32-544\nWindows group S-1-5-18\n" in told
    assert "No errors were found" in told


def test_a_directory_that_hands_nothing_down_lets_only_administrators_in() -> None:
    for parent in (b"", bytes(20), descriptor(), descriptor(ace(0, FULL, USERS)), WINDOWS[:-5][:60]):
        found = entries(inherited(parent, is_directory=False))
        assert found == [(0, 0, FULL, SYSTEM), (0, 0, FULL, ADMINISTRATORS)]


def test_what_is_not_to_go_further_does_not() -> None:
    parent = descriptor(ace(TO_ALL | 4, READ, USERS))
    assert entries(inherited(parent, is_directory=True)) == [(0, 0x10, READ, USERS)]


def test_a_compressed_system_file_is_named_with_its_cure(pristine: Path, tmp_path: Path) -> None:
    """WOF's reparse point of version 1 for a file compressed by XPRESS4K: [MS-FSCC], WOF_EXTERNAL_INFO."""
    reparse = struct.pack("<IHHIIII", 0x80000017, 16, 0, 1, 2, 1, 0)
    with guest_on(pristine, tmp_path) as guest:
        os.setxattr(Path(guest.root, "file.txt"), "system.ntfs_reparse_data", reparse)
        for attempt in (
            lambda: guest.write_text("/file.txt", "new"),
            lambda: guest.read_text("/file.txt", missing_ok=True),
            lambda: guest.exists("/file.txt"),
        ):
            with pytest.raises(GuestError, match=r"/file.txt: is compressed by CompactOS; run compact.exe"):
                attempt()
        assert guest.list_directory("/") == ("file.txt", "users")


def test_an_unknown_reparse_point_is_named(pristine: Path, tmp_path: Path) -> None:
    with guest_on(pristine, tmp_path) as guest:
        os.setxattr(Path(guest.root, "file.txt"), "system.ntfs_reparse_data", struct.pack("<IHHI", 0x80000013, 4, 0, 0))
        with pytest.raises(GuestError, match=r"/file.txt: is a reparse point of a kind \(0x80000013\)"):
            guest.read_text("/file.txt")


def junction(target: str) -> bytes:
    r"""A mount point as mklink /J makes it for C:\... ([MS-FSCC] 2.1.2.5)."""
    names = [f"\\??\\{target}".encode("utf-16-le"), target.encode("utf-16-le")]
    body = struct.pack("<HHHH", 0, len(names[0]), len(names[0]) + 2, len(names[1])) + b"\0\0".join([*names, b""])
    return struct.pack("<IHH", 0xA0000003, len(body), 0) + body


def test_a_junction_leads_nowhere_outside_the_guest(pristine: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with guest_on(pristine, tmp_path) as guest:
        for name, target in {
            "to-users": "C:\\Users",
            "out": f"C:{tmp_path}\\outside",
            "up": "C:\\..\\..\\..\\..",
        }.items():
            place = Path(guest.root, name)
            place.mkdir()
            os.setxattr(place, "system.ntfs_reparse_data", junction(target.replace("/", "\\")))
            try:
                guest.write_text(f"/{name}/file", "x")
            except GuestError as error:
                assert "does not exist" in str(error)
        assert not (outside / "file").exists()
        assert not Path("/file").exists()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "place", "volume"]


def test_a_full_volume_keeps_the_old_file_and_no_litter(pristine: Path, tmp_path: Path) -> None:
    with guest_on(pristine, tmp_path) as guest:
        with pytest.raises(GuestError, match=r"/file.txt: the guest's file system is full"):
            guest.write_bytes("/file.txt", bytes(20 << 20))
        assert text(guest, "/file.txt") == "old"
        assert guest.list_directory("/") == ("file.txt", "users")
    sh("ntfsfix", "--no-action", str(tmp_path / "volume"))


def test_several_files_are_replaced_together_or_not_at_all(pristine: Path, tmp_path: Path) -> None:
    with guest_on(pristine, tmp_path) as guest:
        with pytest.raises(GuestError, match="the guest's file system is full"):
            guest.write_texts({"/file.txt": "new", "/Users/other": "x" * (20 << 20)})
        assert text(guest, "/file.txt") == "old"
        assert guest.list_directory("/Users") == ()
        guest.write_texts({"/file.txt": "new", "/Users/other": "x"})
        assert (text(guest, "/file.txt"), text(guest, "/users/other")) == ("new", "x")
