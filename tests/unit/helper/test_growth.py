# SPDX-License-Identifier: GPL-2.0-or-later
"""Which partition fills a larger disk: the last one, if it is the root's or holds a file system that can grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import grow_f2fs, probe
from snf_image_helper.mounting import mounted
from snf_image_helper.system import WHOLE_DISK, OsFamily, System
from snf_image_helper.tasks import filesystem_resize_mounted, filesystem_resize_unmounted, fix_partition_table
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import MIB, Listener, attached, filled, image, job, plant_root, private_mounts, sh

pytestmark = pytest.mark.root

EXT4 = ("mkfs.ext4", "-q")
TWO = "label: gpt\nsize=40960\nsize=40960\n"
LUKS = ("sh", "-c", "printf 'LUKS\\272\\276\\0\\1' | dd of=$0 conv=notrunc")


@pytest.fixture(autouse=True)
def _private_mounts() -> Iterator[None]:
    with private_mounts():
        yield


def fixed(disk: Disk, root: int) -> tuple[int, list[str]]:
    """The MiB of the second partition, and the warnings."""
    disk.reload()
    disk.system = System(OsFamily.LINUX, root)
    listener = Listener()
    fix_partition_table.TASK.run(disk, job(), listener.reporter)
    partition = disk.require_table().partition(2)
    assert partition
    return partition.size // 2048, listener.warnings


@pytest.mark.parametrize(
    ("made", "holds"),
    [
        (("mkswap",), "swap"),
        (LUKS, "crypto_LUKS"),
        (("mkfs.vfat",), "vfat"),
        (("true",), "nothing"),
        (EXT4, "ext4"),
        (("mkfs.ntfs", "-Q", "-F"), "ntfs"),
    ],
)
def test_a_last_partition_that_is_not_the_roots_stays_and_keeps_every_byte(
    tmp_path: Path, made: tuple[str, ...], holds: str
) -> None:
    with image(tmp_path / "d", TWO, {1: EXT4, 2: made}, grow_to=100) as disk:
        disk.reload()
        before = Path(disk.node(2)).read_bytes()
        size, (warning,) = fixed(disk, root=1)
        assert size == 20
        assert f"not the root's, and holds {holds}" in warning
        assert Path(disk.node(2)).read_bytes() == before


def test_the_roots_partition_grows_whatever_is_known_of_it(tmp_path: Path) -> None:
    with image(tmp_path / "d", TWO, {1: EXT4}, grow_to=100) as disk:
        assert fixed(disk, root=2) == (78, [])


@pytest.mark.row(125, 129)
@pytest.mark.parametrize(
    ("maker", "kind", "mib"),
    [
        (EXT4, "ext4", 64),
        (("mkfs.ext4", "-q", "-O", "orphan_file,metadata_csum_seed"), "ext4", 64),
        (("mkfs.ext3", "-q"), "ext3", 64),
        (("mkfs.ext2", "-q"), "ext2", 64),
        (("mkfs.xfs", "-q"), "xfs", 320),
        (("mkfs.btrfs", "-q"), "btrfs", 160),
    ],
)
def test_a_file_system_that_has_the_disk_for_itself_fills_it(
    tmp_path: Path, maker: tuple[str, ...], kind: str, mib: int
) -> None:
    path = tmp_path / "d"
    with path.open("wb") as file:
        file.truncate(mib * MIB)
    sh(*maker, str(path))
    with path.open("r+b") as file:
        file.truncate(2 * mib * MIB)
    with attached(path) as disk:
        with filled(disk.device, kind) as place:
            plant_root(place, f"/dev/vda / {kind} defaults 0 1\n")
        before = probe([disk.device])
        disk.system = System(OsFamily.LINUX, WHOLE_DISK)
        listener = Listener()
        fix_partition_table.TASK.run(disk, job(), listener.reporter)
        filesystem_resize_unmounted.TASK.run(disk, job(), listener.reporter)
        with mounted(disk, disk.system, listener.reporter) as guest:
            filesystem_resize_mounted.TASK.run(guest, job(), listener.reporter)
            assert guest.read_text("/etc/os-release") == "ID=test\n"
        assert probe([disk.device]) == before
        with filled(disk.device, kind) as place:
            blocks = int(sh("stat", "-f", "-c", "%b", str(place))) * int(sh("stat", "-f", "-c", "%S", str(place)))
        assert blocks > 1.7 * mib * MIB
        checker = {"xfs": ("xfs_repair", "-n"), "btrfs": ("btrfs", "check")}.get(kind, ("e2fsck", "-fn"))
        sh(*checker, disk.device)


def test_an_f2fs_fills_its_device(tmp_path: Path) -> None:
    path = tmp_path / "f2fs"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    sh("mkfs.f2fs", "-q", str(path))
    with path.open("r+b") as file:
        file.truncate(128 * MIB)
    assert grow_f2fs(str(path), str(tmp_path)) == ()
    assert "128 MB" in sh("fsck.f2fs", "--dry-run", str(path))


def test_a_damaged_f2fs_is_not_grown_and_the_finding_is_told(tmp_path: Path) -> None:
    path = tmp_path / "f2fs"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    sh("mkfs.f2fs", "-q", str(path))
    with path.open("r+b") as file:
        file.seek(16 * MIB)  # where mkfs.f2fs puts the inode of the root
        file.write(b"\x5a" * 4096)
    before = path.read_bytes()
    with pytest.raises(GuestError, match=r"is damaged: fsck\.f2fs says: \[ASSERT\] .*nid\[0x3\]"):
        grow_f2fs(str(path), str(tmp_path))
    assert path.read_bytes() == before
