# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounting the guest as its fstab says, on real file systems, whatever the fstab says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import probe
from snf_image_helper.guest import Guest
from snf_image_helper.mounting import mounted
from snf_image_helper.mounts import TARGET
from snf_image_helper.system import OsFamily, System
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import Listener, filled, image, plant_root, private_mounts, sh

pytestmark = pytest.mark.root

SCRIPT = 'label: gpt\nsize=20480,name="the root"\nsize=20480,name="more"\nsize=20480\n'
EXT4 = {number: ("mkfs.ext4", "-q", "-L", f"part {number}") for number in (1, 2, 3)}
ROOT = System(OsFamily.LINUX, 1)


@pytest.fixture(autouse=True)
def _private_mounts() -> Iterator[None]:
    with private_mounts():
        yield


@contextmanager
def guest_image(path: Path, fstab: str, directories: tuple[str, ...] = ()) -> Iterator[Disk]:
    """Three ext4 partitions, the first a root with that fstab; {uuid2} and {partuuid2} stand for the second's."""
    with image(path, SCRIPT, EXT4) as disk:
        disk.reload()
        table = disk.require_table()
        second = disk.partition_device(2)
        partition = table.partition(2)
        assert partition is not None
        with filled(disk.partition_device(1), "ext4") as place:
            plant_root(place, fstab.format(uuid2=probe([second])[second].uuid, partuuid2=partition.uuid))
            for directory in directories:
                (place / directory).mkdir(parents=True)
        yield disk


def mount_all(disk: Disk, system: System = ROOT) -> tuple[dict[str, int], Listener]:
    """Guest mount point -> partition number, after all is unmounted again."""
    listener = Listener()
    with mounted(disk, system, listener.reporter) as guest:
        found = {place: int(device.removeprefix(disk.device + "p")) for place, device in guest.mounts.items()}
        for place, device in guest.mounts.items():
            directory = guest.open_directory(place)
            assert os.fstat(directory).st_dev == os.stat(device).st_rdev, f"{place} is not {device}"
            os.close(directory)
    return found, listener


@pytest.mark.row(138)
def test_a_root_is_mounted_and_unmounted_with_its_events(tmp_path: Path) -> None:
    with guest_image(tmp_path / "d", "LABEL=x / ext4 defaults 0 1\n") as disk:
        found, listener = mount_all(disk)
    assert found == {"/": 1}
    assert listener.tasks == [
        "task-start MountImage",
        "task-end MountImage",
        "task-start UmountImage",
        "task-end UmountImage",
    ]
    assert listener.warnings == []


@pytest.mark.row(139, 140)
@pytest.mark.parametrize(
    "name",
    [
        "UUID={uuid2}",
        'UUID="{uuid2}"',
        "LABEL=part\\0402",
        "PARTUUID={partuuid2}",
        "PARTLABEL=more",
        "/dev/disk/by-uuid/{uuid2}",
        "/dev/disk/by-label/part\\134x202",
        "/dev/disk/by-partuuid/{partuuid2}",
        "/dev/disk/by-partlabel/more",
        "/dev/sda2",
        "/dev/vda2",
        "/dev/nvme0n1p2",
    ],
)
def test_every_name_of_a_partition_is_understood(tmp_path: Path, name: str) -> None:
    with guest_image(tmp_path / "d", f"{name} /boot auto defaults 0 2\n", ("boot",)) as disk:
        assert mount_all(disk)[0] == {"/": 1, "/boot": 2}


def test_a_node_of_the_first_disk_is_mapped_with_a_warning(tmp_path: Path) -> None:
    with guest_image(tmp_path / "d", "/dev/sda2 /boot ext4\n", ("boot",)) as disk:
        assert "taken as partition 2" in mount_all(disk)[1].warnings[0]


def test_a_label_beyond_ascii_is_understood(tmp_path: Path) -> None:
    with guest_image(tmp_path / "d", "LABEL=bo\u00eete /boot ext4\n", ("boot",)) as disk:
        sh("e2label", disk.partition_device(2), "bo\u00eete")
        assert mount_all(disk)[0] == {"/": 1, "/boot": 2}


def test_msdos_partuuids_are_understood(tmp_path: Path) -> None:
    script = "label: dos\nlabel-id: 0x0badcafe\nsize=20480\nsize=20480\n"
    with image(tmp_path / "d", script, {1: EXT4[1], 2: EXT4[2]}) as disk:
        disk.reload()
        with filled(disk.partition_device(1), "ext4") as place:
            plant_root(place, "PARTUUID=0badcafe-02 /boot ext4\n")
            (place / "boot").mkdir()
        assert mount_all(disk)[0] == {"/": 1, "/boot": 2}


@pytest.mark.row(139)
def test_parents_are_mounted_first_and_unmounted_last(tmp_path: Path) -> None:
    fstab = "LABEL=part\\0403 /boot/efi ext4\nLABEL=part\\0402 /boot ext4\n"
    with guest_image(tmp_path / "d", fstab, ("boot",)) as disk:
        with filled(disk.partition_device(2), "ext4") as place:
            (place / "efi").mkdir()
        assert mount_all(disk)[0] == {"/": 1, "/boot": 2, "/boot/efi": 3}


def test_what_is_written_below_a_mount_point_lands_on_its_partition(tmp_path: Path) -> None:
    with guest_image(tmp_path / "d", "UUID={uuid2} /boot ext4\n", ("boot",)) as disk:
        with mounted(disk, ROOT, Listener().reporter) as guest:
            guest.write_text("/boot/hello", "there\n")
        with filled(disk.partition_device(2), "ext4") as place:
            assert (place / "hello").read_text() == "there\n"


@pytest.mark.row(142)
@pytest.mark.parametrize("fstab", ["", "# only a comment\n", "proc /proc proc\n/dev/sda2 none swap sw\n"])
def test_a_fstab_without_mounts_is_fine(tmp_path: Path, fstab: str) -> None:
    with guest_image(tmp_path / "d", fstab) as disk:
        assert mount_all(disk)[0] == {"/": 1}


@pytest.mark.row(142)
def test_a_missing_fstab_is_a_warning(tmp_path: Path) -> None:
    with guest_image(tmp_path / "d", "") as disk:
        with filled(disk.partition_device(1), "ext4") as place:
            (place / "etc/fstab").unlink()
        found, listener = mount_all(disk)
    assert found == {"/": 1}
    assert "no /etc/fstab" in listener.warnings[0]


@pytest.mark.row(141)
def test_noauto_is_respected(tmp_path: Path) -> None:
    with guest_image(tmp_path / "d", "UUID={uuid2} /boot ext4 noauto\nUUID=dead /x ext4 noauto\n", ("boot",)) as disk:
        assert mount_all(disk)[0] == {"/": 1}


@pytest.mark.row(141)
def test_what_systemd_mounts_on_access_is_mounted_and_may_be_missing(tmp_path: Path) -> None:
    lines = "UUID={uuid2} /boot ext4 noauto,x-systemd.automount\nUUID=dead /x ext4 noauto,x-systemd.automount\n"
    with guest_image(tmp_path / "d", lines, ("boot", "x")) as disk:
        assert mount_all(disk)[0] == {"/": 1, "/boot": 2}


@pytest.mark.row(141)
def test_nofail_makes_a_failure_a_warning(tmp_path: Path) -> None:
    with guest_image(tmp_path / "d", "UUID=dead /boot ext4 nofail,x-foo\n", ("boot",)) as disk:
        found, listener = mount_all(disk)
    assert found == {"/": 1}
    assert "no partition of the image has this name" in listener.warnings[0]


@pytest.mark.parametrize(
    "name", ["UUID=dead", "/dev/mapper/vg-boot", "/dev/sdb1", "/dev/sda7", "/dev/disk/by-id/ata-1", "boot", "UUID="]
)
def test_a_file_system_that_is_not_there_ends_it_with_a_cure(tmp_path: Path, name: str) -> None:
    with (
        guest_image(tmp_path / "d", f"{name} /boot ext4\n", ("boot",)) as disk,
        pytest.raises(GuestError, match=r"MountImage: /etc/fstab: /boot .*nofail"),
    ):
        mount_all(disk)


def test_a_uuid_of_another_disk_is_no_candidate(tmp_path: Path) -> None:
    with (
        image(tmp_path / "other", SCRIPT, {1: ("mkfs.ext4", "-q", "-L", "stale")}) as other,
        guest_image(tmp_path / "d", "LABEL=stale /boot ext4\n", ("boot",)) as disk,
    ):
        other.reload()
        with pytest.raises(GuestError, match="no partition of the image has this name"):
            mount_all(Disk((disk.device, other.device)))


@pytest.mark.parametrize("target", ["/boot", "../../../../../boot", "/proc/../boot"])
def test_a_link_cannot_lead_a_mount_out_of_the_guest(tmp_path: Path, target: str) -> None:
    with guest_image(tmp_path / "d", "UUID={uuid2} /link/sub ext4\n", ("boot/sub", "proc")) as disk:
        with filled(disk.partition_device(1), "ext4") as place:
            (place / "link").symlink_to(target)
        listener = Listener()
        with mounted(disk, ROOT, listener.reporter):
            mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
            assert f"{TARGET}/boot/sub" in mounts
            assert "/boot/sub" not in mounts


def test_nothing_is_mounted_over_the_root(tmp_path: Path) -> None:
    with guest_image(tmp_path / "d", "UUID={uuid2} /link ext4\n") as disk:
        with filled(disk.partition_device(1), "ext4") as place:
            (place / "link").symlink_to("/")
        found, listener = mount_all(disk)
    assert found == {"/": 1}
    assert "the root itself" in listener.warnings[0]


def test_a_mount_point_that_is_no_directory_is_skipped_with_a_warning(tmp_path: Path) -> None:
    with guest_image(tmp_path / "d", "UUID={uuid2} /nowhere ext4\n") as disk:
        found, listener = mount_all(disk)
    assert found == {"/": 1}
    assert "no such directory" in listener.warnings[0]


def test_device_nodes_and_set_uid_programs_of_the_guest_are_dead(tmp_path: Path) -> None:
    flags = []
    with guest_image(tmp_path / "d", "UUID={uuid2} /boot ext4 dev,suid\n", ("boot",)) as disk:
        with mounted(disk, ROOT, Listener().reporter):
            flags += [os.statvfs(place).f_flag for place in (TARGET, f"{TARGET}/boot")]
        assert all(flag & os.ST_NODEV and flag & os.ST_NOSUID for flag in flags)


@pytest.mark.row(144)
def test_an_error_in_the_body_wins_and_everything_is_unmounted(tmp_path: Path) -> None:
    with guest_image(tmp_path / "d", "UUID={uuid2} /boot ext4\n", ("boot",)) as disk:
        listener = Listener()
        with pytest.raises(RuntimeError, match="the body"), mounted(disk, ROOT, listener.reporter):
            raise RuntimeError("the body")
        assert TARGET not in Path("/proc/self/mounts").read_text()
    assert "task-start UmountImage" not in listener.tasks


def test_a_guest_that_is_held_by_a_program_is_an_error_and_out_of_sight(tmp_path: Path) -> None:
    with guest_image(tmp_path / "d", "") as disk:
        with (
            pytest.raises(GuestError, match=r"UmountImage: .*cannot be unmounted"),
            mounted(disk, ROOT, Listener().reporter) as guest,
        ):
            held = guest.open_directory("/etc")
        os.close(held)


def test_the_error_of_the_body_wins_even_when_unmounting_fails(tmp_path: Path) -> None:
    with guest_image(tmp_path / "d", "") as disk:
        with pytest.raises(RuntimeError, match="the body"), mounted(disk, ROOT, Listener().reporter) as guest:
            held = guest.open_directory("/etc")
            raise RuntimeError("the body")
        os.close(held)


def test_a_file_system_that_turns_read_only_meanwhile_is_an_error(tmp_path: Path) -> None:
    with (
        guest_image(tmp_path / "d", "") as disk,
        pytest.raises(GuestError, match=r"UmountImage: .*read-only"),
        mounted(disk, ROOT, Listener().reporter),
    ):
        sh("mount", "-o", "remount,ro", TARGET)


@pytest.mark.row(138)
def test_a_root_without_etc_is_refused(tmp_path: Path) -> None:
    with guest_image(tmp_path / "d", "") as disk, pytest.raises(GuestError, match="no directory /etc"):
        mount_all(disk, System(OsFamily.LINUX, 2))


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (("mkswap",), "swap"),
        (("sh", "-c", "printf 'LUKS\\272\\276\\0\\1' | dd of=$0 conv=notrunc"), "crypto_LUKS"),
        (("true",), "no known file system"),
    ],
)
def test_a_root_that_cannot_be_mounted_is_named(tmp_path: Path, command: tuple[str, ...], what: str) -> None:
    with image(tmp_path / "d", SCRIPT, {1: command}) as disk:
        disk.reload()
        with pytest.raises(GuestError, match=f"partition 1 holds {what}"):
            mount_all(disk)


def test_a_damaged_root_is_refused_with_a_cure(tmp_path: Path) -> None:
    with guest_image(tmp_path / "d", "") as disk:
        device = disk.partition_device(1)
        sh("debugfs", "-w", "-R", "ssv free_inodes_count 4000000", device)
        sh("dd", "if=/dev/zero", f"of={device}", "bs=1024", "seek=2", "count=60", "conv=notrunc")
        with pytest.raises(GuestError, match=r"MountImage: .*fsck"):
            mount_all(disk)


BTRFS = "label: gpt\nsize=262144\nsize=20480\n"


@contextmanager
def btrfs_image(path: Path, fstab: str, subvolume: str, default: str = "") -> Iterator[Disk]:
    """A btrfs whose root lies in `subvolume`, beside two others."""
    with image(path, BTRFS, {1: ("mkfs.btrfs", "-q", "-L", "pool")}, mib=160) as disk:
        disk.reload()
        device = disk.partition_device(1)
        with filled(device, "btrfs") as place:
            for name in ("a-first", "@home"):
                sh("btrfs", "subvolume", "create", str(place / name))
            if subvolume:
                sh("btrfs", "subvolume", "create", str(place / subvolume))
            plant_root(place / subvolume, fstab)
            (place / subvolume / "home").mkdir()
            if default:
                sh("btrfs", "subvolume", "set-default", str(place / default))
        yield disk


def marked(guest: Guest) -> str | None:
    return guest.read_text("/etc/os-release", missing_ok=True)


@pytest.mark.parametrize(("subvolume", "default"), [("", ""), ("@", ""), ("root", ""), ("odd", ""), ("odd", "odd")])
def test_a_btrfs_root_is_found_in_any_subvolume(tmp_path: Path, subvolume: str, default: str) -> None:
    with (
        btrfs_image(tmp_path / "d", "LABEL=pool / btrfs defaults\n", subvolume, default) as disk,
        mounted(disk, ROOT, Listener().reporter) as guest,
    ):
        assert marked(guest) == "ID=test\n"


@pytest.mark.row(141)
def test_fstab_chooses_the_subvolumes(tmp_path: Path) -> None:
    fstab = "LABEL=pool / btrfs subvol=/@,compress=zstd:1\nLABEL=pool /home btrfs compress=zstd:1,subvol=@home\n"
    with btrfs_image(tmp_path / "d", fstab, "@") as disk:
        with mounted(disk, ROOT, Listener().reporter) as guest:
            assert set(guest.mounts) == {"/", "/home"}
            guest.write_text("/home/hello", "there\n")
        with filled(disk.partition_device(1), "btrfs") as place:
            assert (place / "@home/hello").read_text() == "there\n"


def test_fstab_wins_over_the_default_subvolume(tmp_path: Path) -> None:
    with btrfs_image(tmp_path / "d", "LABEL=pool / btrfs subvol=@new\n", "old", "old") as disk:
        with filled(disk.partition_device(1), "btrfs", "subvolid=5") as place:
            sh("btrfs", "subvolume", "create", str(place / "@new"))
            (place / "@new/etc").mkdir()
            (place / "@new/etc/os-release").write_text("ID=new\n")
        with mounted(disk, ROOT, Listener().reporter) as guest:
            assert marked(guest) == "ID=new\n"


def test_a_subvolume_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        btrfs_image(tmp_path / "d", "LABEL=pool / btrfs subvol=@new\n", "old", "old") as disk,
        pytest.raises(GuestError, match="has nothing for subvol=@new; correct the subvolume in /etc/fstab"),
        mounted(disk, ROOT, Listener().reporter),
    ):
        pass


def test_an_xfs_root_is_mounted(tmp_path: Path) -> None:
    with image(tmp_path / "d", "label: gpt\nsize=700000\n", {1: ("mkfs.xfs", "-q")}, mib=400) as disk:
        disk.reload()
        with filled(disk.partition_device(1), "xfs") as place:
            plant_root(place)
        assert mount_all(disk)[0] == {"/": 1}
