# SPDX-License-Identifier: GPL-2.0-or-later
"""Damaged and lying file systems: an error that names the finding, or a warning where fstab allows that; never a hang.

What only checkers read is tried here; what a kernel must mount, in a helper VM alone.
"""

from __future__ import annotations

import random
import shutil
import struct
from pathlib import Path

import pytest

from images.inspection import Tree, check_table, extent, fsck, read_file
from images.layouts import layout
from images.partitions import MIB, SECTORS_PER_MIB, Partition, Table, TableType, Type, create_disk
from provider import Instance, Provider
from snf_image_helper.detection import find
from snf_image_helper.disks.checking import finding
from snf_image_helper.system import UnknownGuestError
from snf_image_shared.errors import GuestError
from sparse_disks import copy_disk
from unit.helper.disk_images import Listener, attached, job, private_mounts, sh

NAME = "hostile.example.com"
MAKERS = {
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
    "f2fs": ("mkfs.f2fs", "-q", "-f"),
    "vfat": ("mkfs.vfat", "-F", "32", "-s", "1"),
}
SIZES = {"ext4": 32, "xfs": 320, "btrfs": 128, "f2fs": 64, "vfat": 40}  # MiB
# Where the first superblock lies and how long it is: random bytes there are no file system any more.
SUPERBLOCKS = {"ext4": (1024, 1024), "xfs": (0, 512), "btrfs": (65536, 4096), "f2fs": (1024, 7168), "vfat": (0, 512)}


def damaged(path: Path, kind: str, seed: int, *options: str) -> None:
    """A file system with some hundred bytes changed in what is not zero, its first superblock left alone."""
    with path.open("wb") as file:
        file.truncate(SIZES[kind] * MIB)
    sh(*MAKERS[kind], *options, str(path))
    content = bytearray(path.read_bytes())
    chance = random.Random(f"{kind}{seed}")
    spared = range(SUPERBLOCKS[kind][0], sum(SUPERBLOCKS[kind]))
    places = [at for at in range(0, len(content), 64) if any(content[at : at + 64]) and at not in spared]
    for _ in range(300):
        content[chance.choice(places) + chance.randrange(64)] = chance.randrange(256)
    path.write_bytes(content)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("seed", range(2))
def test_a_checker_says_one_printable_line_of_a_damaged_file_system(tmp_path: Path, kind: str, seed: int) -> None:
    damaged(tmp_path / "d", kind, seed)
    before = (tmp_path / "d").read_bytes()
    said = finding(str(tmp_path / "d"), kind)
    assert said.split(" says: ")[1]
    assert "host" not in said
    assert "version" not in said
    assert said.isprintable()
    assert len(said) < 250
    assert (tmp_path / "d").read_bytes() == before


@pytest.mark.root
@pytest.mark.parametrize(
    ("options", "offset", "count"),
    [
        (("-O", "^metadata_csum,^64bit"), 1024 + 4, struct.pack("<I", 0xFFFFFFFF)),
        (("-O", "^metadata_csum,64bit"), 1024 + 0x150, struct.pack("<I", 0xFFFFFFFF)),
        (("-O", "^metadata_csum,^64bit"), 1024, struct.pack("<I", 0xFFFFFFFF)),
    ],
    ids=["16 TiB", "16 EiB", "inodes"],
)
def test_a_file_system_that_claims_more_than_there_can_be_is_refused_with_the_reason(
    tmp_path: Path, options: tuple[str, ...], offset: int, count: bytes
) -> None:
    path = tmp_path / "d"
    with path.open("wb") as file:
        file.truncate(32 * MIB)
    sh("mkfs.ext4", "-q", "-F", *options, str(path))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(count)
    with (
        private_mounts(),
        attached(path) as disk,
        pytest.raises(GuestError, match=r"bad geometry|too large|inodes count") as caught,
    ):
        find(disk, job(), Listener().reporter)
    assert not isinstance(caught.value, UnknownGuestError)


@pytest.mark.vm
def test_damaged_file_systems_beside_a_sound_root_are_warnings(provider: Provider, cache: Path, tmp_path: Path) -> None:
    """One VM mounts them all, two of each kind; the labels are those of the helper's own disks."""
    root = layout("ext4-gpt", cache)
    places = {(kind, seed): SIZES[kind] for kind in MAKERS for seed in range(2)}
    begin, partitions = 513, []
    for number, mib in enumerate(places.values(), start=2):
        partitions.append(
            Partition(number, begin * SECTORS_PER_MIB, mib * SECTORS_PER_MIB, Type.LINUX, name=f"p{number}")
        )
        begin += mib
    first = Partition(1, SECTORS_PER_MIB, 510 * SECTORS_PER_MIB, Type.LINUX)
    image = provider.images / "hostile.diskdump"
    create_disk(image, Table(TableType.GPT, "6D1C0B52-7B5A-4E3A-9E55-3C2B6A9D1377", begin + 2, (first, *partitions)))
    with image.open("r+b") as disk:
        source = extent(root, 1)
        with root.open("rb") as file:
            file.seek(source.offset)
            disk.seek(first.offset)
            shutil.copyfileobj(file, disk)
        for (kind, seed), partition in zip(places, partitions, strict=True):
            damaged(tmp_path / "fs", kind, seed, *(("-L", "SNFIMAGE") if kind == "ext4" else ()))
            disk.seek(partition.offset)
            disk.write((tmp_path / "fs").read_bytes())
    lines = [
        f"PARTLABEL=p{item.number}\t/mnt/{item.number}\t{kind}\tnofail\t0\t0"
        for (kind, _), item in zip(places, partitions, strict=True)
    ]
    fstab = tmp_path / "fstab"
    fstab.write_text("\n".join(["LABEL=SNFIMAGE\t/mnt/label\tauto\tnofail\t0\t0", *lines]) + "\n")
    where = f"{image}?offset={first.offset}"
    mkdirs = "".join(f"mkdir mnt/{name}\n" for name in ("label", *(str(item.number) for item in partitions)))
    sh("debugfs", "-w", "-f", "-", where, stdin=f"rm etc/fstab\nwrite {fstab} etc/fstab\n{mkdirs}")
    target = tmp_path / "disk"
    with target.open("wb") as file:
        file.truncate((begin + 2) * MIB)
    parameters = {"img_id": "hostile.diskdump", "img_format": "diskdump"}
    outcome = provider.run(Instance(NAME, (target,), parameters=parameters))
    if outcome.code:
        # A kernel that panics ends the VM, in time, and then the disk does not boot.
        assert outcome.code == 6, outcome.log
        assert not any(target.read_bytes()[: 1 << 20]), outcome.log
        return
    check_table(target)
    fsck(target, 1)
    assert read_file(Tree(target, 1), "/etc/hostname").decode() == NAME + "\n"
    assert "the option nofail allows that" in outcome.log


@pytest.mark.vm
def test_a_damaged_root_fails_the_deployment_and_leaves_a_disk_that_does_not_boot(
    provider: Provider, cache: Path, tmp_path: Path
) -> None:
    image = provider.images / "damaged.diskdump"
    copy_disk(layout("ext4-gpt", cache), image)
    image.chmod(0o644)
    begin = extent(image, 1).offset
    # The inode table's first blocks, the root directory among them; the journal stays.
    where = f"{image}?offset={begin}"
    sh("debugfs", "-w", "-R", "clri <2>", where)
    target = tmp_path / "disk"
    with target.open("wb") as file:
        file.truncate(700 * MIB)
    parameters = {
        "img_id": "damaged.diskdump",
        "img_format": "diskdump",
        "img_properties": {"OSFAMILY": "linux", "ROOT_PARTITION": 1},
    }
    outcome = provider.run(Instance(NAME, (target,), parameters=parameters))
    assert outcome.code == 6, outcome.log
    assert "e2fsck" in outcome.last_line or "root inode" in outcome.last_line, outcome.log
    head, tail = target.read_bytes()[: 1 << 20], target.read_bytes()[-(1 << 20) :]
    assert not any(head)
    assert not any(tail)
