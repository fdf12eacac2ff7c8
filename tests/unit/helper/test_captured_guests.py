# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests on xfs and btrfs as snf-image-capture finds them: what their archives have, and what cannot be archived."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.archiving.capturing import archivable
from snf_image_helper.archiving.subvolumes import MountedPart, seen_twice
from snf_image_helper.disks.disk import Disk
from snf_image_shared.captured import Captured, CapturedFileSystem
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Archive, Job
from unit.helper.disk_images import MIB, Listener, filled, image, job, plant_root, private_mounts, sh

WHOLE = "capture the whole disk, with -t qcow2 or -t raw"
ROOT_AND_MORE = "label: dos\nsize=340MiB\nsize=340MiB\nsize=8MiB,type=82\n"
XFS = ("mkfs.xfs", "-q")
BTRFS = ("mkfs.btrfs", "-q", "-L", "all")
EXT4 = ("mkfs.ext4", "-q")
SWAP = ("mkswap",)


@pytest.fixture
def own_mounts() -> Iterator[None]:
    with private_mounts():
        yield


def wanted(archive: Archive) -> Job:
    return replace(job(), archive=archive)


def archived(disk: Disk, listener: Listener) -> tuple[bytes, Captured]:
    """A tarball of the guest, and what it is made of."""
    with archivable(disk, wanted(Archive.TARBALL), listener.reporter) as (command, captured):
        return subprocess.run(command, check=True, capture_output=True).stdout, captured


def files_in(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        return sorted(member.name for member in members if member.isreg())


def refusal(disk: Disk, archive: Archive) -> str:
    with pytest.raises(GuestError) as refused, archivable(disk, wanted(archive), Listener().reporter):
        pass
    return str(refused.value)


@contextmanager
def two_file_systems(tmp_path: Path, root: tuple[str, ...], boot: tuple[str, ...], fstab: str) -> Iterator[Disk]:
    with image(tmp_path / "disk", ROOT_AND_MORE, {1: root, 2: boot, 3: SWAP}, mib=700) as disk:
        disk.reload()
        with filled(disk.partition_device(1), root[0].removeprefix("mkfs.")) as place:
            plant_root(place, fstab)
            (place / "boot").mkdir()
            (place / "shared").write_text("")
            sh("setfacl", "-m", "u:1000:r", str(place / "shared"))
        yield disk


@pytest.mark.root
@pytest.mark.image_row(90)
@pytest.mark.usefixtures("own_mounts")
def test_a_guest_on_xfs_is_archived_without_what_xfs_alone_knows(tmp_path: Path) -> None:
    with two_file_systems(tmp_path, XFS, EXT4, "/dev/sda2 /boot ext4 defaults 0 2\n") as disk:
        archive, captured = archived(disk, Listener())
    assert captured == Captured(
        (CapturedFileSystem("/", "xfs", 340 * MIB), CapturedFileSystem("/boot", "ext4", 340 * MIB)), 8 * MIB
    )
    assert files_in(archive) == ["./etc/fstab", "./etc/os-release", "./shared"]
    assert b"SCHILY.acl.access=user::rw-" in archive
    assert b"SGI_ACL" not in archive


@pytest.mark.root
@pytest.mark.usefixtures("own_mounts")
@pytest.mark.parametrize(("root", "boot", "place"), [(XFS, EXT4, "/"), (EXT4, XFS, "/boot")])
def test_what_has_no_dump_is_refused_before_the_first_one(
    tmp_path: Path, root: tuple[str, ...], boot: tuple[str, ...], place: str
) -> None:
    with two_file_systems(tmp_path, root, boot, "/dev/sda2 /boot auto defaults 0 2\n") as disk:
        assert refusal(disk, Archive.ROOT_DUMP) == (
            f"{place} is xfs, and dump(8) knows ext2, ext3 and ext4 alone; take -t tarball, or {WHOLE}"
        )


@pytest.mark.root
@pytest.mark.usefixtures("own_mounts")
def test_a_guest_that_has_more_disks_is_refused_with_the_way_to_have_them_all(tmp_path: Path) -> None:
    with two_file_systems(tmp_path, EXT4, EXT4, "LABEL=data /srv xfs defaults 0 2\n") as disk:
        said = refusal(disk, Archive.TARBALL)
    assert "/etc/fstab: /srv (LABEL=data): no partition of the image has this name" in said
    assert said.endswith(f"; or {WHOLE}")


@pytest.mark.root
@pytest.mark.usefixtures("own_mounts")
def test_a_disk_without_a_known_guest_is_refused_with_the_way_to_have_it(tmp_path: Path) -> None:
    with image(tmp_path / "disk", "label: dos\nsize=20MiB\n", {1: EXT4}) as disk:
        assert refusal(disk, Archive.TARBALL).endswith(f"; or {WHOLE}")


@pytest.mark.root
@pytest.mark.image_row(90)
@pytest.mark.usefixtures("own_mounts")
def test_a_guest_on_btrfs_is_archived_once_and_without_its_snapshots(tmp_path: Path) -> None:
    """As openSUSE does it: its root is a snapshot that can be written to, and is to be seen below /.snapshots too."""
    subvolumes = {"/.snapshots": "@/.snapshots", "/home": "@/home", "/pool": "/"}
    fstab = "".join(f"LABEL=all {at} btrfs subvol={name} 0 0\n" for at, name in subvolumes.items())
    with image(tmp_path / "disk", "label: gpt\nsize=300MiB\n", {1: BTRFS}, mib=320) as disk:
        disk.reload()
        with filled(disk.partition_device(1), "btrfs") as top:
            for name in ("@", "@/.snapshots", "@/home"):
                sh("btrfs", "subvolume", "create", str(top / name))
            for number in ("1", "2"):
                (top / "@/.snapshots" / number).mkdir()
                (top / "@/.snapshots" / number / "info.xml").write_text("")
            root = top / "@/.snapshots/1/snapshot"
            sh("btrfs", "subvolume", "snapshot", str(top / "@"), str(root))
            plant_root(root, fstab)
            for name in ("home", "pool", ".snapshots"):
                (root / name).mkdir(exist_ok=True)
            (top / "@/home/mine").write_text("")
            sh("btrfs", "subvolume", "snapshot", "-r", str(root), str(top / "@/.snapshots/2/snapshot"))
            for name, read_only in (("own", "false"), ("image", "true")):
                sh("btrfs", "subvolume", "create", str(root / name))
                (root / name / "kept").write_text("")
                sh("btrfs", "property", "set", str(root / name), "ro", read_only)
            sh("btrfs", "subvolume", "set-default", str(root))
        archive, captured = archived(disk, listener := Listener())
    assert captured.file_systems == (CapturedFileSystem("/", "btrfs", 300 * MIB),)
    assert files_in(archive) == [
        *("./.snapshots/1/info.xml", "./.snapshots/2/info.xml", "./etc/fstab", "./etc/os-release"),
        *("./home/mine", "./image/kept", "./own/kept"),
    ]
    told = [text for text in listener.warnings if "snapshots" in text]
    assert told == [
        "Read-only snapshots of btrfs are not in the archive; an image of the whole disk, -t qcow2 or -t raw, has them"
    ]


def test_what_is_mounted_in_two_places_is_archived_in_the_one_that_it_was_mounted_at() -> None:
    parts = [
        MountedPart("/dev/a", "/@", "/t"),
        MountedPart("/dev/a", "/@home", "/t/home"),
        MountedPart("/dev/a", "/", "/t/mnt"),
        MountedPart("/dev/b", "/", "/t/other"),
        MountedPart("/dev/a", "/@home", "/t/again"),
        MountedPart("/dev/a", "/@/in", "/t/in"),
        MountedPart("/dev/a", "/@homes", "/t/homes"),
    ]
    assert sorted(set(seen_twice(parts))) == ["/t/again", "/t/mnt/@", "/t/mnt/@/in", "/t/mnt/@home", "/t/mnt/@homes"]
