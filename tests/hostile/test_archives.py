# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives made to harm: the machine that unpacks them is full of canaries, and none of them may sing.

What the helper has that an archive could reach for is laid out beside the new tree: a file, a directory, a disk. An
archive may be refused, or unpacked inside; what lies outside stays as it is, byte for byte.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from block_devices import loop_device
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import private_mounts, sh
from unit.helper.new_trees import MIB, file_system, new_tree, seen

pytestmark = pytest.mark.root

FILE, LINK, HARD, DIRECTORY, DISK = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.BLKTYPE
EVIL = b"evil\n"


@dataclass(frozen=True)
class Member:
    """One member: what it is called, what it is, where it leads."""

    name: str
    kind: bytes = FILE
    to: str = ""
    content: bytes = EVIL
    device: tuple[int, int] = (0, 0)
    headers: Mapping[str, str] = field(default_factory=dict)


def archive(*members: Member) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as written:
        for each in (Member("etc", DIRECTORY), *members):
            info = tarfile.TarInfo(each.name)
            info.type, info.linkname, info.mode = each.kind, each.to, 0o755
            info.size = len(each.content) if each.kind == FILE else 0
            info.devmajor, info.devminor = each.device
            info.pax_headers = dict(each.headers)
            written.addfile(info, io.BytesIO(each.content) if each.kind == FILE else None)
    return held.getvalue()


def compressed(plain: bytes, compressor: str) -> bytes:
    """By a program, or not if that is ""."""
    if not compressor:
        return plain
    return subprocess.run([compressor, "-c"], input=plain, capture_output=True, check=True).stdout


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """What must not change: a tree of canaries, among them a disk, which an archive knows by path and by number."""
    place = tmp_path / "outside"
    (place / "directory").mkdir(parents=True)
    (place / "file").write_text("canary\n")
    (place / "disk").write_bytes(bytes(MIB))
    before = seen(place)
    yield place
    assert seen(place) == before


def _ways_out(outside: str) -> dict[str, tuple[Member, ...]]:
    up = "../" * 12 + outside.lstrip("/")
    return {
        "name with dots": (Member(f"{up}/new"),),
        "name with dots behind a directory": (Member(f"etc/{up}/file"),),
        "absolute name": (Member(f"{outside}/file"), Member(f"/{outside}/new")),
        "absolute link, then a file through it": (Member("out", LINK, outside), Member("out/file")),
        "relative link, then a file through it": (Member("out", LINK, up), Member("out/file")),
        "link to a link to above": (Member("a", LINK, "."), Member("a/b", LINK, ".."), Member("b/b/file")),
        "link to a file, then the file": (Member("f", LINK, f"{outside}/file"), Member("f")),
        "hard link to outside, then the file": (Member("h", HARD, f"{outside}/file"), Member("h")),
        "hard link with dots": (Member("h", HARD, f"{up}/file"), Member("h")),
        "hard link to a link": (Member("s", LINK, f"{outside}/file"), Member("h", HARD, "s"), Member("h")),
        "link in the place of a directory": (
            Member("d", DIRECTORY),
            Member("d", LINK, outside),
            Member("d/file"),
        ),
        "link in the place of the root": (Member(".", LINK, outside), Member("file")),
        "file in the place of the root": (Member(".", FILE), Member("file")),
        "process's own root": (Member("p", LINK, "/proc/1/root"), Member(f"p{outside}/file")),
        "descriptor": (Member("q", LINK, "/proc/self/fd/0"), Member("q")),
    }


@pytest.mark.image_row(14, 95)
@pytest.mark.parametrize("way", _ways_out("/"))
def test_no_member_leads_out_of_the_new_tree(tmp_path: Path, outside: Path, way: str) -> None:
    (tmp_path / "archive").write_bytes(archive(*_ways_out(str(outside))[way]))
    with new_tree(tmp_path) as tree:
        try:
            tree.unpack(tmp_path / "archive")
        except GuestError as error:
            assert "the image cannot be unpacked: tar: " in str(error)
        assert set(os.listdir("/run")) <= {"mount", "snf-image"}  # the former is of mount(8)


@pytest.mark.image_row(14)
def test_a_device_that_is_unpacked_cannot_be_opened(tmp_path: Path, outside: Path) -> None:
    with loop_device(outside / "disk") as device:
        number = os.stat(device).st_rdev
        members = (
            Member("dev", DIRECTORY),
            Member("dev/vda", DISK, device=(os.major(number), os.minor(number))),
            Member("other", HARD, "dev/vda"),
            Member("other/x"),
            Member("dev/vda/x"),
        )
        (tmp_path / "archive").write_bytes(archive(*members))
        with new_tree(tmp_path) as tree:
            with pytest.raises(GuestError, match="other/x: Cannot open: Not a directory"):
                tree.unpack(tmp_path / "archive")
            assert os.stat(tree.root / "dev/vda").st_rdev == number
            with pytest.raises(PermissionError):
                os.open(tree.root / "dev/vda", os.O_WRONLY)


@pytest.mark.image_row(14)
@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            (Member("boot", LINK, "etc"), Member("boot/x")),
            "its /boot is a link, so deploy it without a /boot partition",
        ),
        ((Member("boot", DIRECTORY), Member("boot", LINK, "usr")), "its /boot is a link"),
        ((Member("boot/k"), Member("etc/k", HARD, "boot/k")), "Invalid cross-device link; deploy it without a /boot"),
    ],
    ids=["link", "link later", "hard link"],
)
def test_nothing_takes_the_place_of_a_boot_partition(tmp_path: Path, members: tuple[Member, ...], message: str) -> None:
    (tmp_path / "archive").write_bytes(archive(*members))
    with new_tree(tmp_path, boot=32) as tree, pytest.raises(GuestError, match=message):
        tree.unpack(tmp_path / "archive")


@pytest.mark.image_row(20)
@pytest.mark.parametrize("compressor", ["gzip", "bzip2", "xz", "zstd", "lz4", ""])
def test_an_archive_that_is_cut_anywhere_is_never_taken_for_whole(tmp_path: Path, compressor: str) -> None:
    plain = archive(*(Member(f"etc/{number}", content=os.urandom(700)) for number in range(30)))
    whole = compressed(plain, compressor)
    cuts = {len(whole) * tenth // 10 for tenth in range(1, 10)} | (
        {len(plain) // 2 // 512 * 512} if not compressor else set()
    )
    with new_tree(tmp_path) as tree:
        for cut in cuts:
            (tmp_path / "archive").write_bytes(whole[:cut])
            with pytest.raises(GuestError, match=r"the image (cannot be unpacked|is cut short)"):
                tree.unpack(tmp_path / "archive")


@pytest.mark.image_row(20)
@pytest.mark.parametrize("compressor", ["gzip", "bzip2", "xz", "zstd", "lz4", ""])
def test_what_follows_an_archive_is_refused_and_never_lost_without_a_word(tmp_path: Path, compressor: str) -> None:
    plain = archive(Member("etc/x"))
    whole = compressed(plain, compressor)
    with new_tree(tmp_path) as tree:
        for rest in (b"garbage" * 200, b"garbage" * 200 + bytes(10240)) if not compressor else (b"garbage",):
            (tmp_path / "archive").write_bytes(whole + rest)
            with pytest.raises(GuestError, match=r"the image (cannot be unpacked|is cut short, or something follows)"):
                tree.unpack(tmp_path / "archive")


@pytest.mark.image_row(20)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(10240), "the image is empty"),
        (b"", "cut short"),
        (b"\x1f\x8b\x08" + bytes(100), "gzip: "),
        (b"\xfd7zXZ\0" + bytes(100), "xz: "),
        (archive(Member("etc/x", headers={"size": "99999999999999"})), "Unexpected EOF in archive"),
    ],
    ids=["zeros", "nothing", "gzip", "xz", "size"],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "archive").write_bytes(content)
    with new_tree(tmp_path) as tree, pytest.raises(GuestError, match=message):
        tree.unpack(tmp_path / "archive")


def test_compressed_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(compressed(compressed(archive(), "gzip"), "xz"))
    with new_tree(tmp_path) as tree, pytest.raises(GuestError, match="Archive is compressed"):
        tree.unpack(tmp_path / "archive")


def test_a_tree_that_lies_deeper_is_refused_by_the_name_of_its_directory(tmp_path: Path) -> None:
    (tmp_path / "rootfs/etc").mkdir(parents=True)
    sh("tar", "-C", str(tmp_path), "-cf", str(tmp_path / "archive"), "rootfs")
    with (
        new_tree(tmp_path) as tree,
        pytest.raises(GuestError, match=r"neither /etc nor /usr: all is below rootfs; make"),
    ):
        tree.unpack(tmp_path / "archive")


@pytest.mark.image_row(20)
def test_a_bomb_ends_with_the_first_byte_that_does_not_fit(tmp_path: Path) -> None:
    """Eight GiB of zeros in a few KiB: to go on to their end would take the test's patience, and a tenant's."""
    header = tarfile.TarInfo("etc/bomb")
    header.size = 8 << 30
    with (tmp_path / "archive").open("wb") as out:
        feed = subprocess.Popen(["zstd", "-q", "-c"], stdin=subprocess.PIPE, stdout=out)
        assert feed.stdin
        feed.stdin.write(header.tobuf())
        for _ in range(256):
            feed.stdin.write(bytes(MIB))
        feed.stdin.close()
        assert feed.wait() == 0
    with (
        new_tree(tmp_path) as tree,
        pytest.raises(GuestError, match=r"does not fit: the root has \d\d MiB, and all of it"),
    ):
        tree.unpack(tmp_path / "archive")


@pytest.mark.image_row(20)
def test_members_without_number_end_with_the_last_inode(tmp_path: Path) -> None:
    header = tarfile.TarInfo()
    with (tmp_path / "archive").open("wb") as out:
        for number in range(30_000):
            header.name = f"etc/{number}"
            out.write(header.tobuf())
        out.write(bytes(1024))
    with new_tree(tmp_path) as tree, pytest.raises(GuestError, match=r"no more than \d+ files; give a larger disk"):
        tree.unpack(tmp_path / "archive")


def test_what_an_archive_says_of_itself_cannot_speak_to_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(archive(Member("../\x1b[31m\nSUCCESS")))
    with new_tree(tmp_path) as tree, pytest.raises(GuestError) as caught:
        tree.unpack(tmp_path / "archive")
    assert str(caught.value).isprintable()


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A dump whose names are so long that others fit in their places."""
    at = tmp_path_factory.mktemp("dumped")
    with private_mounts():
        with file_system(at / "image", 32) as root:
            (root / "etc").mkdir()
            (root / "etc/hostname").write_bytes(os.urandom(9000))
            (root / "link_0123456789").symlink_to("/tree/../etc")
            (root / "tree_0123456789").mkdir()
            (root / "tree_0123456789/passwd").write_bytes(EVIL)
            (root / "file_0123456789").write_bytes(EVIL)
        with loop_device(at / "image", "--read-only") as device:
            sh("dump", "-0", "-q", "-f", str(at / "dump"), str(device))
    return (at / "dump").read_bytes()


@pytest.mark.image_row(14)
@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("file_0123456789", "../../../etc/ab"),
        ("file_0123456789", "/run/0123456789"),
        ("file_0123456789", "restoresymtable"),
        ("tree_0123456789", "link_0123456789"),
        ("tree_0123456789", "../../../../../"),
        ("link_0123456789", "restoresymtable"),
    ],
)
def test_no_name_in_a_dump_leads_out_of_the_new_tree(
    tmp_path: Path, outside: Path, dumped: bytes, name: str, instead: str
) -> None:
    (tmp_path / "dump").write_bytes(dumped.replace(name.encode(), instead.encode()))
    etc = sorted(os.listdir("/etc"))
    with new_tree(tmp_path) as tree:
        try:
            tree.restore(tmp_path / "dump")
        except GuestError as error:
            assert "the image cannot be unpacked: " in str(error)
        assert set(os.listdir("/run")) <= {"mount", "snf-image"}  # the former is of mount(8)
        assert not [name for name in tree.names() if name.startswith(".")]
    assert sorted(os.listdir("/etc")) == etc


@pytest.mark.image_row(20)
def test_a_dump_that_is_cut_anywhere_is_never_taken_for_whole(tmp_path: Path, dumped: bytes) -> None:
    end = dumped.index(b"\x05\0\0\0" + dumped[4:12])  # the record that ends it: its type, and the dates of the first
    for cut in (end * tenth // 10 for tenth in range(10)):
        (tmp_path / "dump").write_bytes(dumped[:cut])
        with new_tree(tmp_path) as tree, pytest.raises(GuestError, match="the image cannot be unpacked: "):
            tree.restore(tmp_path / "dump")


def test_a_dump_that_goes_on_in_another_volume_is_refused_and_does_not_wait_for_it(tmp_path: Path) -> None:
    with private_mounts():
        with file_system(tmp_path / "image", 32) as root:
            (root / "large").write_bytes(os.urandom(4 * MIB))
        with loop_device(tmp_path / "image", "--read-only") as device:
            sh("dump", "-0", "-q", "-M", "-B", "2000", "-f", str(tmp_path / "dump"), str(device))
    with new_tree(tmp_path) as tree, pytest.raises(GuestError, match="only one volume of several"):
        tree.restore(tmp_path / "dump001")


def test_a_link_at_boot_is_no_place_for_a_dump_of_boot(tmp_path: Path, outside: Path, dumped: bytes) -> None:
    with private_mounts():
        with file_system(tmp_path / "image", 32) as root:
            (root / "boot").symlink_to(outside / "directory")
        with loop_device(tmp_path / "image", "--read-only") as device:
            sh("dump", "-0", "-q", "-f", str(tmp_path / "of-root"), str(device))
    (tmp_path / "dump").write_bytes(dumped)
    with new_tree(tmp_path) as tree, pytest.raises(GuestError, match="link at /boot: there is no place"):
        tree.restore(tmp_path / "of-root", tmp_path / "dump")
    with new_tree(tmp_path, boot=32) as tree, pytest.raises(GuestError, match="deploy it without a /boot partition"):
        tree.restore(tmp_path / "of-root", tmp_path / "dump")
