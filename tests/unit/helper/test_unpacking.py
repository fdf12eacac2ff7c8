# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives of every maker, unpacked onto new file systems: what comes out is what went in, and nothing else."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import subprocess
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from block_devices import loop_device
from snf_image_helper.deployment.cell import cell
from snf_image_helper.deployment.content import Content
from snf_image_helper.deployment.dumps import restore
from snf_image_helper.deployment.tree import Tree
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import private_mounts, sh
from unit.helper.new_trees import MIB, Seen, file_system, new_tree, seen

pytestmark = pytest.mark.root

DATE = 1_234_567_890_123_456_789  # ns
SECOND = 10**9
# linux/capability.h, vfs_cap_data of version 2: cap_net_raw, effective and permitted.
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
# linux/posix_acl_xattr.h: version 2; tag, permissions and number of owner, user 12345, group, mask and others.
NOBODY = 0xFFFFFFFF
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, NOBODY), (2, 6, 12345), (4, 4, NOBODY), (16, 6, NOBODY), (32, 4, NOBODY))
)
LABEL = b"system_u:object_r:etc_t:s0\0"
KEEPS_ALL = ["--xattrs", "--xattrs-include=*", "--acls", "--selinux", "--sparse"]
GNU_TAR = {"gnu": [*KEEPS_ALL, "--format=posix"], "old": ["--format=gnu", "--sparse"], "full": ["--format=gnu"]}
DUMPS = {"dump": [], "dump -z9": ["-z9"], "dump -j9": ["-j9"]}


def plant(root: Path) -> None:
    """A file of each kind that a guest may have."""
    for name in ("etc/deep", "boot/grub", "usr/bin", "home/someone", "two words"):
        (root / name).mkdir(parents=True)
    (root / "etc/hostname").write_text("template\n")
    os.link(root / "etc/hostname", root / "etc/deep/hard")
    os.symlink("/etc/hostname", root / "usr/absolute")
    os.symlink("../etc/hostname", root / "usr/relative")
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    os.mknod(root / "disk", 0o60660, os.makedev(8, 0))
    os.mkfifo(root / "fifo")
    os.mknod(root / "socket", stat.S_IFSOCK | 0o600)
    (root / "boot/vmlinuz").write_bytes(b"kernel")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe")).write_text("no UTF-8")
    (root / "new\nline").write_text("")
    (root / ("long" * 60)).write_text("name")
    (root / "usr/bin/ping").write_bytes(b"ELF")
    (root / "home/someone/note").write_text("its directory has an ACL for new files, and it has none")
    (root / "home/someone").chmod(0o2750)
    os.chown(root / "home/someone", 1234, 54321)
    with (root / "sparse").open("wb") as file:
        file.seek(8 * MIB)
        file.write(b"middle")
        file.truncate(12 * MIB)
    os.setxattr(root / "usr/bin/ping", "security.capability", CAPABILITY)
    os.setxattr(root / "etc/hostname", "security.selinux", LABEL)
    os.setxattr(root / "usr/absolute", "security.selinux", LABEL, follow_symlinks=False)
    os.setxattr(root / "etc/hostname", "user.binary", b"\0\1=\n")
    os.setxattr(root / "etc", "trusted.overlay.opaque", b"y")
    os.setxattr(root / "etc/hostname", "system.posix_acl_access", ACL)
    os.setxattr(root / "home/someone", "system.posix_acl_default", ACL)
    os.utime(root / "etc/hostname", ns=(DATE, DATE))
    root.chmod(0o711)


@dataclass(frozen=True)
class Packed:
    """A directory with the tree as every maker packs it, and what is in the tree."""

    at: Path
    whole: dict[bytes, Seen]

    @property
    def without_socket(self) -> dict[bytes, Seen]:
        """No tar has those."""
        return {name: each for name, each in self.whole.items() if name != b"socket"}

    @property
    def top(self) -> set[bytes]:
        return {name for name in self.whole if b"/" not in name and name != b"."}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    at = tmp_path_factory.mktemp("packed")
    with private_mounts():
        with file_system(at / "image", 64) as root:
            plant(root)
            truth = seen(root)
            tar = ["tar", "-C", str(root), "--exclude=./socket", "--exclude=./lost+found"]
            for name, options in GNU_TAR.items():
                sh(*tar, *options, "-cf", str(at / name), ".")
            names = sorted(set(os.listdir(root)) - {"socket", "lost+found"})
            sh(*tar, *KEEPS_ALL, "--format=posix", "-cf", str(at / "exported"), *names)
            bsdtar = ["bsdtar", *tar[1:], "--format=pax", "--acls", "--xattrs", "-cf", str(at / "bsdtar"), "."]
            subprocess.run(bsdtar, stderr=subprocess.DEVNULL, check=True)  # it shows the name that is no UTF-8 as it is
            with tarfile.open(at / "python", "w", format=tarfile.PAX_FORMAT) as archive:
                archive.add(root, ".")
        with loop_device(at / "image", "--read-only") as device:
            for name, options in DUMPS.items():
                sh("dump", "-0", "-q", *options, "-f", str(at / name), str(device))
    return Packed(at, truth)


def plainly(files: dict[bytes, Seen]) -> dict[bytes, Seen]:
    """What a format keeps that has neither attributes nor parts of seconds. The mode of a group is an ACL's mask."""
    return {name: replace(each, mtime=each.mtime // SECOND, attributes={}) for name, each in files.items()}


def without_dates_of_directories(files: dict[bytes, Seen]) -> dict[bytes, Seen]:
    return {name: replace(each, mtime=0) if stat.S_ISDIR(each.mode) else each for name, each in files.items()}


def at_whole_seconds(files: dict[bytes, Seen]) -> dict[bytes, Seen]:
    """As a dump has them."""
    return {name: replace(each, mtime=each.mtime // SECOND * SECOND) for name, each in files.items()}


@pytest.mark.image_row(10, 11, 12)
@pytest.mark.parametrize("maker", ["gnu", "bsdtar"])
def test_a_tarball_becomes_the_tree_that_it_was_made_of(tmp_path: Path, packed: Packed, maker: str) -> None:
    with new_tree(tmp_path) as tree:
        tree.unpack(packed.at / maker)
        found, wanted = seen(tree.root), packed.without_socket
        if maker == "bsdtar":  # which goes on in a directory after others, so that tar has set its date too soon
            found, wanted = without_dates_of_directories(found), without_dates_of_directories(wanted)
        assert found == wanted
        assert os.stat(tree.root / "sparse").st_blocks * 512 < MIB
        assert tree.listener.warnings == []


@pytest.mark.image_row(10)
@pytest.mark.parametrize("maker", ["old", "full", "python"])
def test_a_tarball_without_attributes_becomes_the_rest_of_the_tree(tmp_path: Path, packed: Packed, maker: str) -> None:
    with new_tree(tmp_path) as tree:
        tree.unpack(packed.at / maker)
        assert plainly(seen(tree.root)) == plainly(packed.without_socket)
        has_holes = os.stat(tree.root / "sparse").st_blocks * 512 < MIB
        assert has_holes == (maker == "old")


def test_a_tarball_without_its_root_leaves_that_as_it_is_made(tmp_path: Path, packed: Packed) -> None:
    with new_tree(tmp_path) as tree:
        mode = tree.root.stat().st_mode
        tree.unpack(packed.at / "exported")
        assert tree.root.stat().st_mode == mode
        found, wanted = seen(tree.root), packed.without_socket
        assert {name: found[name] for name in found if name != b"."} == {
            name: wanted[name] for name in wanted if name != b"."
        }


@pytest.mark.image_row(12)
@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_holes_are_kept_however_the_archive_tells_of_them(tmp_path: Path, version: str) -> None:
    (tmp_path / "etc").mkdir()
    with (tmp_path / "etc/sparse").open("wb") as file:
        file.seek(8 * MIB)
        file.write(b"end")
    form = ["--format=posix", "--sparse", f"--sparse-version={version}"]
    sh("tar", "-C", str(tmp_path), *form, "-cf", str(tmp_path / "archive"), "etc")
    with new_tree(tmp_path) as tree:
        tree.unpack(tmp_path / "archive")
        unpacked = tree.root / "etc/sparse"
        assert unpacked.read_bytes() == bytes(8 * MIB) + b"end"
        assert unpacked.stat().st_blocks * 512 < MIB


@pytest.mark.image_row(13)
@pytest.mark.parametrize("compressor", ["gzip", "bzip2", "xz", "zstd", "lz4"])
def test_a_tarball_may_be_compressed(tmp_path: Path, packed: Packed, compressor: str) -> None:
    with (packed.at / "gnu").open("rb") as plain, (tmp_path / "archive").open("wb") as archive:
        subprocess.run([compressor, "-c"], stdin=plain, stdout=archive, check=True)
    with new_tree(tmp_path) as tree:
        tree.unpack(tmp_path / "archive")
        assert seen(tree.root) == packed.without_socket


def test_members_of_gzip_and_archives_in_a_row_are_one(tmp_path: Path) -> None:
    one, other = (gzip.compress(archive_of(name)) for name in ("etc/one", "etc/other"))
    (tmp_path / "archive").write_bytes(one + other)
    with new_tree(tmp_path) as tree:
        tree.unpack(tmp_path / "archive")
        assert tree.names("etc") == ["one", "other"]


@pytest.mark.image_row(11)
def test_numbers_count_and_not_names_that_the_helper_knows(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(archive_of("etc/shadow", uid=4711, gid=815, uname="root", gname="shadow"))
    with new_tree(tmp_path) as tree:
        tree.unpack(tmp_path / "archive")
        owner = (tree.root / "etc/shadow").stat()
        assert (owner.st_uid, owner.st_gid) == (4711, 815)


@pytest.mark.image_row(12)
def test_an_acl_of_names_speaks_of_the_guests_users(tmp_path: Path) -> None:
    entries = "user::rw-,user:alice:rw-,group::r--,mask::rw-,other::r--"
    acl = {"SCHILY.acl.access": entries}
    users = b"root:x:0:0::/root:/bin/sh\nalice:x:12345:1::/home/alice:/bin/sh\n"
    (tmp_path / "archive").write_bytes(archive_of("etc/passwd", users) + archive_of("etc/file", pax_headers=acl))
    with new_tree(tmp_path) as tree:
        tree.unpack(tmp_path / "archive")
        assert os.getxattr(tree.root / "etc/file", "system.posix_acl_access") == ACL


@pytest.mark.image_row(12)
def test_what_cannot_be_kept_is_told(tmp_path: Path) -> None:
    acl = {"SCHILY.acl.access": "user::rw-,user:nobody-knows-them:rw-,group::r--,mask::rw-,other::r--"}
    large = {"SCHILY.xattr.user.large": "x" * 9000}
    wish = archive_of("etc/btrfs", pax_headers={"SCHILY.xattr.btrfs.compression": "zstd"})  # is told to nobody
    archives = [archive_of(f"etc/{number}", pax_headers=large) for number in range(5)]
    (tmp_path / "archive").write_bytes(wish + archive_of("etc/file", pax_headers=acl) + b"".join(archives))
    with new_tree(tmp_path) as tree:
        tree.unpack(tmp_path / "archive")
        assert tree.names("etc") == ["0", "1", "2", "3", "4", "btrfs", "file"]
    warnings = tree.listener.warnings
    assert "etc/file" in warnings[0]
    assert "user.large" in warnings[1]
    assert warnings[3:] == ["the image: 3 more such warnings"]


@pytest.mark.image_row(12)
def test_a_label_of_selinux_is_kept_in_either_spelling(tmp_path: Path) -> None:
    for name in ("RHT.security.selinux", "SCHILY.xattr.security.selinux"):
        label = {name: LABEL.decode().rstrip("\0")}
        (tmp_path / "archive").write_bytes(archive_of("etc/file", pax_headers=label))
        with new_tree(tmp_path) as tree:
            tree.unpack(tmp_path / "archive")
            assert os.getxattr(tree.root / "etc/file", "security.selinux").rstrip(b"\0") == LABEL.rstrip(b"\0")


def test_what_is_below_boot_lands_on_its_own_file_system(tmp_path: Path, packed: Packed) -> None:
    with new_tree(tmp_path, boot=32) as tree:
        tree.unpack(packed.at / "gnu")
        assert tree.boot
        assert (tree.boot / "vmlinuz").read_bytes() == b"kernel"
        assert tree.names("boot") == []
        assert seen(tree.boot)[b"."] == packed.whole[b"boot"]


@pytest.mark.image_row(15)
@pytest.mark.parametrize("name", DUMPS)
def test_a_dump_becomes_the_file_system_that_it_was_made_of(tmp_path: Path, packed: Packed, name: str) -> None:
    with new_tree(tmp_path) as tree:
        tree.restore(packed.at / name)
        assert seen(tree.root) == at_whole_seconds(packed.whole)
        assert os.stat(tree.root / "sparse").st_blocks * 512 < MIB
        assert tree.listener.warnings == []


@pytest.mark.image_row(16)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_dump_leaves_nothing_of_its_restoring(tmp_path: Path, packed: Packed, kind: str) -> None:
    with new_tree(tmp_path, 400, kind=kind) as tree:
        made = set(tree.names())
        tree.restore(packed.at / "dump", packed.at / "dump -z9")
        assert {os.fsencode(name) for name in set(tree.names()) - made} == packed.top
        assert {os.fsencode(name) for name in tree.names("boot")} - {b"vmlinuz", b"grub"} == packed.top


@pytest.mark.image_row(19)
def test_two_restore_one_dump_at_once(tmp_path: Path, packed: Packed) -> None:
    children = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        child = os.fork()
        if not child:
            status = 1
            try:
                with new_tree(tmp_path / name) as tree:
                    tree.restore(packed.at / "dump -z9")
                    status = 0 if seen(tree.root) == at_whole_seconds(packed.whole) else 2
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]


@pytest.mark.image_row(18)
def test_a_dump_of_boot_goes_to_its_file_system_and_without_one_below_the_root(tmp_path: Path, packed: Packed) -> None:
    for size in (0, 32):
        with new_tree(tmp_path, boot=size) as tree:
            tree.restore(packed.at / "dump", packed.at / "dump")
            place = tree.boot or tree.root / "boot"
            assert (place / "etc/hostname").read_text() == "template\n"
            assert (tree.root / "boot/etc").exists() == (size == 0)


def test_without_a_dump_of_boot_its_file_system_gets_what_the_root_has_there(tmp_path: Path, packed: Packed) -> None:
    with new_tree(tmp_path, boot=32) as tree:
        tree.restore(packed.at / "dump")
        assert tree.boot
        assert (tree.boot / "vmlinuz").read_bytes() == b"kernel"


def test_a_dump_is_taken_from_a_stream_whole_and_no_byte_more(tmp_path: Path, packed: Packed) -> None:
    content = (packed.at / "dump").read_bytes()
    (tmp_path / "stream").write_bytes(content + bytes(MIB) + b"next")
    with new_tree(tmp_path) as tree, (tmp_path / "stream").open("rb", buffering=0) as file:
        with cell(Tree(str(tree.root), None)) as prepared:
            restore(Content("the dump", file.fileno(), len(content) + MIB), prepared, tree.listener.reporter)
        assert file.read() == b"next"
        assert (tree.root / "etc/hostname").read_text() == "template\n"


@pytest.mark.image_row(20)
def test_a_file_system_that_is_too_small_is_named_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(archive_of("etc/large", bytes(40 * MIB)))
    with new_tree(tmp_path, 32) as tree, pytest.raises(GuestError, match=r"root has \d\d MiB.*; give a larger disk"):
        tree.unpack(tmp_path / "archive")
    (tmp_path / "archive").write_bytes(archive_of("etc/x") + archive_of("boot/initrd", bytes(40 * MIB)))
    with new_tree(tmp_path, boot=32) as tree, pytest.raises(GuestError, match=r"/boot has \d\d MiB.* larger BOOT_SIZE"):
        tree.unpack(tmp_path / "archive")


def archive_of(name: str, content: bytes = b"", **fields: object) -> bytes:
    """A tar archive of one file."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        for field, value in fields.items():
            setattr(member, field, value)
        archive.addfile(member, io.BytesIO(content))
    return held.getvalue()
