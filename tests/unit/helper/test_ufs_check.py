# SPDX-License-Identifier: GPL-2.0-or-later
"""The checker of UFS finds nothing in what makefs makes, and each kind of damage that is planted there."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from images.ufs2 import as_ufs2
from images.ufs_damage import CLEAN, ROOT, SUMMARIES, Spoiled
from snf_image_helper.disks.ufs import read_ufs
from snf_image_helper.disks.ufs_check import faults_of, refuse_damaged, refuse_spoiled
from snf_image_helper.disks.ufs_inodes import DIRECTORY, Claims, Inode, UnsoundError, claim_blocks
from snf_image_shared.errors import GuestError
from snf_image_shared.process import run


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files in direct blocks, in fragments and behind indirect blocks, with a hole, links of each sort."""
    place = tmp_path_factory.mktemp("tree")
    (place / "etc").mkdir()
    (place / "etc/small").write_text("small\n")
    (place / "etc/fragments").write_bytes(b"f" * 5000)
    (place / "large").write_bytes(os.urandom(16) * 200_000)
    (place / "short-link").symlink_to("etc/small")
    (place / "long-link").symlink_to("/" + "x" * 200)
    (place / "hard-link").hardlink_to(place / "etc/small")
    (place / "many").mkdir()
    for number in range(300):
        (place / "many" / f"a-file-with-a-name-{number}").write_text(str(number))
    with (place / "hole").open("wb") as file:
        file.seek(300_000)
        file.write(b"end")
    os.mkfifo(place / "etc/pipe")
    return place


# Of makefs: version, options, size, and how many cylinder groups come of it.
MADE = {
    "ufs1": (1, "bsize=16384,fsize=2048,density=8192", "8m", 1),
    "ufs2": (2, "bsize=16384,fsize=2048,density=8192", "8m", 1),
    "ufs1-groups": (1, "bsize=4096,fsize=512,density=1500", "30m", 3),
    "ufs2-groups": (2, "bsize=4096,fsize=512,density=1500", "30m", 3),
    "ufs2-no-fragments": (2, "bsize=4096,fsize=4096", "40m", 2),
    "ufs1-freebsd-sizes": (1, "bsize=32768,fsize=4096", "16m", 1),
    "ufs2-freebsd-sizes": (2, "bsize=32768,fsize=4096", "16m", 1),
    "ufs2-quarters": (2, "bsize=16384,fsize=4096", "8m", 1),
    "ufs2-halves": (2, "bsize=8192,fsize=4096", "8m", 1),
    "ufs1-quarters": (1, "bsize=16384,fsize=4096", "8m", 1),
}


@pytest.fixture(scope="module")
def made(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each image once."""
    place = tmp_path_factory.mktemp("images")

    def make(name: str) -> Path:
        version, options, size, _ = MADE[name]
        image = place / name
        if not image.exists():
            run(
                [
                    "makefs",
                    "-t",
                    "ffs",
                    "-B",
                    "le",
                    "-s",
                    size,
                    "-o",
                    f"version={version},{options}",
                    str(image),
                    str(tree),
                ]
            )
            if version == 2:
                as_ufs2(image)
        return image

    return make


@pytest.mark.parametrize("name", MADE)
def test_what_makefs_makes_is_sound(made: Callable[[str], Path], name: str) -> None:
    image = made(name)
    assert Spoiled(image).field(44) >= MADE[name][3]
    assert faults_of(str(image)) == ()
    refuse_damaged(str(image))
    refuse_spoiled(str(image))


def inode_map(made: Spoiled, *path: str) -> None:
    made.toggle(made.map_at(92), made.lookup(*path))


def free_map(made: Spoiled, *path: str) -> None:
    made.toggle(made.map_at(96), made.pointed(made.lookup(*path)) // made.field(52))


def twice(made: Spoiled) -> None:
    size = 8 if made.version == 2 else 4
    one, other = made.pointer(made.lookup("large"), 1), made.pointer(made.lookup("large"), 2)
    made.image[one : one + size] = made.image[other : other + size]


def grow_inode(made: Spoiled) -> None:
    made.add(made.inode(made.lookup("etc", "small")) + (24 if made.version == 2 else 104), 4)


def point_outside(made: Spoiled) -> None:
    struct.pack_into("<i", made.image, made.pointer(made.lookup("large"), 3), (1 << 31) - 1)


def point_negative(made: Spoiled) -> None:
    form = "<q" if made.version == 2 else "<i"
    struct.pack_into(form, made.image, made.pointer(made.lookup("large"), 3), -5)


def indirect_to_itself(made: Spoiled) -> None:
    inode = made.lookup("large")
    at, size = made.pointed(inode, 12), 8 if made.version == 2 else 4
    made.image[at : at + size] = made.image[made.pointer(inode, 12) : made.pointer(inode, 12) + size]


def rename_to(made: Spoiled, name: bytes) -> None:
    at = made.entry(made.lookup("etc"), "small")
    made.image[at + 8 : at + 8 + len(name)] = name


def directory_into_itself(made: Spoiled) -> None:
    struct.pack_into("<I", made.image, made.entry(made.lookup("etc"), ".."), made.lookup("many"))


def kind_of_entry(made: Spoiled) -> None:
    made.image[made.entry(made.lookup("etc"), "small") + 6] = 4


DAMAGE: dict[str, tuple[Callable[[Spoiled], None], str]] = {
    "an i-node lost from its map": (lambda made: inode_map(made, "etc", "small"), "in use and its map says free"),
    "an i-node in the map that is none": (
        lambda made: made.toggle(made.map_at(92), made.lookup("etc", "small") + 2000 % made.field(184)),
        "of no kind of file|in use and not initialised|free i-nodes",
    ),
    "a fragment in use that the map has as free": (lambda made: free_map(made, "large"), "fragments as free which"),
    "a fragment that is nobody's": (
        lambda made: made.toggle(made.map_at(96), made.field(188) - 8),
        "nobody's|runs of free fragments",
    ),
    "a block of two owners": (twice, "another's as well"),
    "a block outside": (point_outside, "does not exist"),
    "a negative block": (point_negative, "does not exist"),
    "an indirect block in itself": (indirect_to_itself, "another's as well"),
    "a wrong count of sectors": (grow_inode, "sectors and holds"),
    "a wrong size": (
        lambda made: made.add(made.inode(made.lookup("etc", "fragments")) + (16 if made.version == 2 else 8), 1 << 30),
        "over the end of a block",
    ),
    "blocks behind the end": (
        lambda made: made.add(made.inode(made.lookup("large")) + (16 if made.version == 2 else 8), -2_000_000, "<q"),
        "behind its end|behind the end",
    ),
    "a wrong count of links": (lambda made: made.add(made.inode(made.lookup("large")) + 2, 1, "<h"), "links, it has 1"),
    "no link": (lambda made: made.add(made.inode(made.lookup("large")) + 2, -1, "<h"), "has 0 links"),
    "no kind": (lambda made: made.add(made.inode(made.lookup("large")) + 1, 0x70, "<B"), "of no kind of file"),
    "a name with a slash": (lambda made: rename_to(made, b"a/b"), "impossible name"),
    "a name with a NUL": (lambda made: rename_to(made, b"a\0b"), "impossible name"),
    "an entry of another kind": (kind_of_entry, "of another kind than its i-node"),
    "an entry of no length": (
        lambda made: struct.pack_into("<H", made.image, made.entry(made.lookup("etc"), "small") + 4, 0),
        "is damaged at its byte",
    ),
    "an entry beyond its block": (
        lambda made: struct.pack_into("<H", made.image, made.entry(made.lookup("etc"), "small") + 4, 516),
        "is damaged at its byte",
    ),
    "a name that leads nowhere": (
        lambda made: struct.pack_into("<I", made.image, made.entry(made.lookup("etc"), "small"), 9_999_999),
        "leads nowhere",
    ),
    "a directory that says another is above it": (directory_into_itself, "is in 2 and says"),
    "a directory without itself": (
        lambda made: struct.pack_into("<I", made.image, made.entry(made.lookup("etc"), "."), ROOT),
        "does not begin with itself",
    ),
    "a directory of an odd size": (
        lambda made: made.add(made.inode(made.lookup("etc")) + (16 if made.version == 2 else 8), 8),
        "no multiple of 512",
    ),
    "free blocks miscounted": (lambda made: made.add(made.group() + 28, 1), "free blocks, its map has"),
    "free i-nodes miscounted": (lambda made: made.add(made.group() + 32, 1), "free i-nodes, its map has"),
    "free fragments miscounted": (lambda made: made.add(made.group() + 36, 1), "free fragments, its map has"),
    "directories miscounted": (lambda made: made.add(made.group() + 24, 1), "directories, it has"),
    "runs miscounted": (lambda made: made.add(made.group() + 52 + 4, 1), "runs of free fragments"),
    "clusters miscounted": (lambda made: made.add(made.map_at(104) + 4, 1), "clusters of free blocks"),
    "another map of clusters": (lambda made: made.toggle(made.map_at(108), 3), "another map of clusters"),
    "a group without a header": (lambda made: made.add(made.group() + 4, 1), "has no header"),
    "another group's header": (lambda made: made.add(made.group() + 12, 1), "has no header"),
    "a map outside": (lambda made: made.add(made.group() + 96, 1 << 20), "maps overlap"),
    "maps upon each other": (
        lambda made: struct.pack_into("<I", made.image, made.group() + 96, 200),
        "maps overlap|do not fit",
    ),
    "a total of the superblock": (lambda made: made.add(made.superblock + SUMMARIES, 1), "the superblock counts"),
    "a summary": (lambda made: made.add(_summary(made), 1), "summary of cylinder group 0"),
}


def _summary(made: Spoiled) -> int:
    at = made.field(1096, "<q") if made.version == 2 else made.field(152)
    return at * made.field(52) + 8


@pytest.mark.parametrize("name", ["ufs1", "ufs2"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_planted_damage_is_found_and_named(made: Callable[[str], Path], tmp_path: Path, name: str, damage: str) -> None:
    spoil, message = DAMAGE[damage]
    spoiled = Spoiled(Path(shutil.copy(made(name), tmp_path)))
    spoil(spoiled)
    device = spoiled.save()
    with pytest.raises(GuestError, match=f"is damaged .*({message}).*run fsck on it"):
        refuse_damaged(device)
    with pytest.raises(GuestError, match=f"no longer sound .*({message})"):
        refuse_spoiled(device)


def test_damage_in_a_later_group_is_found(made: Callable[[str], Path], tmp_path: Path) -> None:
    spoiled = Spoiled(Path(shutil.copy(made("ufs2-groups"), tmp_path)))
    spoiled.toggle(spoiled.map_at(96, 2), spoiled.field(188) // 2)
    assert any("cylinder group 2" in fault for fault in faults_of(spoiled.save()))


def test_what_linux_writes_when_it_is_lost_is_no_success(made: Callable[[str], Path], tmp_path: Path) -> None:
    spoiled = Spoiled(Path(shutil.copy(made("ufs2"), tmp_path)))
    spoiled.set_field(CLEAN, 255, "<B")
    with pytest.raises(GuestError, match="the helper's kernel found faults"):
        refuse_spoiled(spoiled.save())


def test_netbsd_s_log_needs_no_name(made: Callable[[str], Path], tmp_path: Path) -> None:
    """The log in the file system: an i-node with a link that no directory has (sys/ufs/ffs/ffs_wapbl.c)."""
    spoiled = Spoiled(Path(shutil.copy(made("ufs2"), tmp_path)))
    directory = spoiled.lookup("etc")
    log, at = spoiled.lookup("etc", "fragments"), spoiled.entry(directory, "fragments")
    struct.pack_into("<I", spoiled.image, at, 0)
    assert "links" in faults_of(spoiled.save())[0]
    spoiled.set_field(864, 0x0201, "<H")
    spoiled.set_field(896, log, "<Q")
    assert faults_of(spoiled.save()) == ()


# How many of its 15 pointers lead somewhere, where all reads as zeros, and how many blocks the directory has.
HOLES = {"a block": (0, 13), "no tree": (12, 13), "in a tree": (13, 14), "no tree of trees": (13, 10_000)}


@pytest.mark.parametrize("hole", HOLES)
@pytest.mark.parametrize("name", ["ufs1", "ufs2"])
def test_a_directory_with_a_hole_is_refused_before_its_length_is_remembered(
    made: Callable[[str], Path], name: str, hole: str
) -> None:
    """Trees of zeros cost an image nothing, and told the checker of 8192 blocks for each of its own."""
    ufs = read_ufs(str(made(name)))
    there, blocks = HOLES[hole]
    pointers = [(100 + number) * ufs.per_block if number < there else 0 for number in range(15)]
    inode = Inode(5, DIRECTORY, 2, blocks * ufs.block, 0, tuple(pointers))
    with pytest.raises(UnsoundError, match="i-node 5 has a hole"):
        claim_blocks(ufs, inode, Claims(ufs), lambda _, size: bytes(size))
