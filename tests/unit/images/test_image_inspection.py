# SPDX-License-Identifier: GPL-2.0-or-later
"""The outside readers: a checker that cannot find fault would make every test of a disk worthless."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from images.file_systems import Content, FileSystem, Kind, write_file_system
from images.inspection import (
    FaultyDiskError,
    FileStat,
    Tree,
    check_table,
    exists,
    filesystem_size,
    fsck,
    list_directory,
    partition_table,
    probe,
    read_file,
    stat_file,
)
from images.partitions import MIB, SECTOR, Partition, Table, TableType, Type, create_disk, last_size
from snf_image_shared.process import ProcessError

pytestmark = pytest.mark.root
UUIDS = dict.fromkeys(Kind, "7f3a9f7e-2c52-4d5c-9c7b-1d1f4b8f0999") | {Kind.VFAT: "5EED-0999"}
SIZES = {Kind.EXT2: 16, Kind.EXT3: 16, Kind.EXT4: 16, Kind.XFS: 320, Kind.BTRFS: 128, Kind.VFAT: 40}


# Of f2fs files are not read: no program does, and not every kernel has it.
@pytest.fixture(params=list(SIZES))
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    """A GPT disk with one file system that holds `/dir/file` and, where there are links, `/dir/link`."""
    kind: Kind = request.param
    mib = SIZES[kind] + 2
    partition = Partition(1, 2048, last_size(TableType.GPT, mib, 2048), Type.LINUX)
    table = Table(TableType.GPT, "6D1C0B52-7B5A-4E3A-9E55-3C2B6A9D1999", mib, (partition,))
    directory = tmp_path / "content/dir"
    directory.mkdir(parents=True)
    (directory / "file").write_bytes(b"\x00\xff\r\n")
    (directory / "file").chmod(0o640)
    if kind is not Kind.VFAT:
        (directory / "link").symlink_to("/etc/passwd")
    create_disk(tmp_path / "disk", table)
    system = FileSystem(kind, UUIDS[kind], (Content(tmp_path / "content"),), "label")
    write_file_system(tmp_path / "disk", partition, system, tmp_path)
    return Tree(tmp_path / "disk", 1)


def kind_of(tree: Tree) -> Kind:
    return Kind(probe(tree.disk, 1).type)


def test_a_file_is_read_byte_for_byte(tree: Tree) -> None:
    assert read_file(tree, "/dir/file") == b"\x00\xff\r\n"


def test_what_is_not_there_is_said_to_be_missing(tree: Tree) -> None:
    assert exists(tree, "/dir/file")
    assert not exists(tree, "/dir/fil")
    with pytest.raises(FileNotFoundError):
        read_file(tree, "/nowhere/file")


def test_owner_mode_and_size_are_those_of_the_file(tree: Tree) -> None:
    if kind_of(tree) is not Kind.VFAT:
        assert stat_file(tree, "/dir/file") == FileStat(0, 0, stat.S_IFREG | 0o640, 4)


def test_a_link_is_seen_and_never_followed(tree: Tree) -> None:
    if kind_of(tree) is not Kind.VFAT:
        assert stat.S_ISLNK(stat_file(tree, "/dir/link").mode)
        with pytest.raises(ProcessError, match=r"dd|debugfs"):
            read_file(tree, "/dir/link")


def test_a_directory_is_listed(tree: Tree) -> None:
    if kind_of(tree) is not Kind.VFAT:
        assert list_directory(tree, "/dir") == ["file", "link"]


def test_a_sound_file_system_is_as_large_as_its_partition_and_passes(tree: Tree) -> None:
    fsck(tree.disk, 1)
    length = partition_table(tree.disk).partition(1).length
    assert length - MIB < filesystem_size(tree.disk, 1) <= length


def test_a_damaged_file_system_is_found_out(tree: Tree) -> None:
    # Beyond the superblock, which blkid must still know: group descriptors, FAT, AG headers, the chunk tree's blocks.
    start = partition_table(tree.disk).partition(1).offset
    damage = {
        Kind.EXT2: (4096, 8192),
        Kind.EXT3: (4096, 8192),
        Kind.EXT4: (4096, 8192),
        Kind.XFS: (512, 2048),
        Kind.BTRFS: (0x20000, 60 * MIB),
        Kind.VFAT: (16896, 65536),
    }
    begin, end = damage[kind_of(tree)]
    with tree.disk.open("r+b") as file:
        file.seek(start + begin)
        file.write(b"\xa5" * (end - begin))
    with pytest.raises(FaultyDiskError):
        fsck(tree.disk, 1)


def test_f2fs_is_checked_and_measured(tmp_path: Path) -> None:
    (tmp_path / "content").mkdir()
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(64 * MIB))
    system = FileSystem(Kind.F2FS, UUIDS[Kind.F2FS], (Content(tmp_path / "content"),))
    write_file_system(disk, Partition(0, 0, 64 * MIB // SECTOR, Type.LINUX), system, tmp_path)
    fsck(disk, 0)
    assert filesystem_size(disk, 0) == 64 * MIB
    with disk.open("r+b") as file:
        file.seek(16 * MIB)  # where mkfs.f2fs puts the inode of the root
        file.write(b"\xa5" * 4096)
    with pytest.raises(FaultyDiskError):
        fsck(disk, 0)


def test_a_damaged_backup_table_is_found_out(tree: Tree) -> None:
    check_table(tree.disk)
    with tree.disk.open("r+b") as file:
        file.seek(-SECTOR, 2)
        file.write(bytes(SECTOR))
    with pytest.raises(FaultyDiskError):
        check_table(tree.disk)
