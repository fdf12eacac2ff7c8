# SPDX-License-Identifier: GPL-2.0-or-later
"""AddSwap on real disks: the area is swap, fstab names it, and doing it twice changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snf_image_helper.disks.filesystems import probe
from snf_image_helper.guest import Guest
from snf_image_helper.mounting import mounted
from snf_image_helper.system import OsFamily, System
from snf_image_helper.tasks.add_swap import TASK
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job
from unit.helper.disk_images import (
    MIB,
    Listener,
    attached,
    filled,
    image,
    job,
    plant_root,
    private_mounts,
    sh,
    table_of,
)

TWO_DISKS = ("disk-0", "disk-1")
FSTAB = "UUID=1 / ext4 defaults 0 1\n"


@contextmanager
def guest_with_disks(tmp_path: Path, fstab: str | None = FSTAB) -> Iterator[Guest]:
    """A tree, a first disk with a swap partition without content, and a second disk with an old table on it."""
    table_of(tmp_path / "disk-0", "label: gpt\nsize=4096\nsize=20480,type=S\n", 32)
    table_of(tmp_path / "disk-1", "label: dos\nsize=4096\n", 32)
    plant_root(tmp_path / "root", fstab or "")
    if fstab is None:
        (tmp_path / "root/etc/fstab").unlink()
    with attached(tmp_path / "disk-0", tmp_path / "disk-1") as disk:
        disk.reload()
        with Guest(str(tmp_path / "root"), disk, System(OsFamily.LINUX, 1)) as guest:
            yield guest


def add(guest: Guest, wishes: Job) -> str:
    TASK.run(guest, wishes, Listener().reporter)
    return guest.read_text("/etc/fstab")


def swap_uuid(device: str) -> str:
    found = probe([device])[device]
    assert found.type == "swap"
    return found.uuid


@pytest.mark.row(132)
@pytest.mark.root
def test_the_partition_becomes_swap_and_fstab_names_it(tmp_path: Path) -> None:
    with guest_with_disks(tmp_path) as guest:
        fstab = add(guest, job(SWAP="2:10"))
        uuid = swap_uuid(guest.disk.partition_device(2))
    assert fstab == f"{FSTAB}UUID={uuid}\tnone\tswap\tsw\t0\t0\n"


@pytest.mark.row(133)
@pytest.mark.root
def test_a_letter_takes_the_whole_disk_whatever_it_held(tmp_path: Path) -> None:
    with guest_with_disks(tmp_path) as guest:
        fstab = add(guest, job(*TWO_DISKS, SWAP="b"))
        assert f"UUID={swap_uuid(guest.disk.devices[1])}\t" in fstab


@pytest.mark.root
@pytest.mark.parametrize("swap", ["2:10", "b"])
def test_twice_changes_nothing(tmp_path: Path, swap: str) -> None:
    with guest_with_disks(tmp_path) as guest:
        once = add(guest, job(*TWO_DISKS, SWAP=swap))
        assert add(guest, job(*TWO_DISKS, SWAP=swap)) == once


@pytest.mark.root
def test_a_swap_line_of_the_image_stays(tmp_path: Path) -> None:
    old = "UUID=11111111-1111-4111-8111-111111111111 none swap sw 0 0"
    with guest_with_disks(tmp_path, old) as guest:
        lines = add(guest, job(SWAP="2:10")).splitlines()
    assert (lines[0], len(lines)) == (old, 2)


@pytest.mark.root
@pytest.mark.parametrize("name", ["UUID=11111111-aaaa-4111-8111-111111111111", 'LABEL="my-swap"'])
def test_a_swap_area_that_the_images_fstab_names_stays(tmp_path: Path, name: str) -> None:
    with guest_with_disks(tmp_path, f"{name} none swap sw 0 0\n") as guest:
        device = guest.disk.partition_device(2)
        sh("mkswap", "-q", "-L", "my-swap", "-U", "11111111-aaaa-4111-8111-111111111111", device)
        assert add(guest, job(SWAP="2:10")) == f"{name} none swap sw 0 0\n"
        assert probe([device])[device].label == "my-swap"


@pytest.mark.root
def test_a_missing_fstab_is_an_error_before_the_disk_is_touched(tmp_path: Path) -> None:
    with guest_with_disks(tmp_path, None) as guest:
        with pytest.raises(GuestError, match="/etc/fstab does not exist"):
            add(guest, job(SWAP="2:10"))
        device = guest.disk.partition_device(2)
        assert probe([device])[device].type == ""


@pytest.mark.root
def test_cloud_init_without_its_directory_is_an_error(tmp_path: Path) -> None:
    with guest_with_disks(tmp_path) as guest, pytest.raises(GuestError, match="install cloud-init"):
        add(guest, job(SWAP="2:10", CLOUD_INIT="yes"))


def test_without_the_property_it_is_skipped() -> None:
    assert TASK.skip(job()) == "the property SWAP is not set"


@pytest.mark.row(133, 134)
@pytest.mark.parametrize(
    ("swap", "word"),
    [("a", "the image itself"), ("c", "disk c"), ("2:05", "neither"), ("file:0", "neither"), ("file:", "neither")],
)
def test_an_impossible_swap_is_refused_while_planning(swap: str, word: str) -> None:
    with pytest.raises(GuestError, match=word):
        TASK.skip(job(*TWO_DISKS, SWAP=swap))


@pytest.mark.parametrize(
    ("wishes", "needed"),
    [
        (job(SWAP="2:10"), True),
        (job(SWAP="2:10", CLOUD_INIT="yes"), False),
        (job(*TWO_DISKS, SWAP="b"), False),
        (job(SWAP="file:64"), False),
    ],
)
def test_only_a_swap_partition_needs_the_partition_table_fixed(wishes: Job, needed: bool) -> None:
    assert [needs.when(wishes) for needs in TASK.requires] == [needed]


MAKE = {
    "ext3": ("mkfs.ext3", "-q", "-b", "4096"),
    "ext4": ("mkfs.ext4", "-q", "-b", "4096"),
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q"),
}
FILE = {"btrfs": "/swap/swapfile"}


@contextmanager
def guest_on(tmp_path: Path, kind: str, kernel: str = "6.1.0-1-amd64", mib: int = 512) -> Iterator[Guest]:
    """A guest mounted as customize() does it; its own kernel is of this version."""
    with private_mounts(), image(tmp_path / "disk", "label: gpt\n- - L\n", {1: MAKE[kind]}, mib=mib) as disk:
        disk.reload()
        with filled(disk.partition_device(1), kind) as place:
            plant_root(place, f"LABEL=root / {kind} defaults 0 1\n")
            (place / "lib/modules" / kernel).mkdir(parents=True)
        with mounted(disk, System(OsFamily.LINUX, 1), Listener().reporter) as guest:
            yield guest


def swapped(guest: Guest, path: str) -> str:
    """Let this machine's kernel use the file as swap; what it says of it."""
    file = guest.root + path
    sh("swapon", file)
    try:
        return sh("swapon", "--show=TYPE,SIZE", "--bytes", "--noheadings", "--raw").strip()
    finally:
        sh("swapoff", file)


@pytest.mark.root
@pytest.mark.parametrize(
    ("kind", "kernel"),
    [
        *((kind, "6.1.0-1-amd64") for kind in MAKE),
        ("xfs", "4.9.0-8-amd64"),
    ],
)
def test_a_file_becomes_swap_that_a_kernel_takes(tmp_path: Path, kind: str, kernel: str) -> None:
    path = FILE.get(kind, "/swapfile")
    with guest_on(tmp_path, kind, kernel) as guest:
        lines = add(guest, job(SWAP="file:64")).splitlines()
        assert lines[1:] == [f"{path}\tnone\tswap\tsw\t0\t0"]
        assert swapped(guest, path) == f"file {64 * MIB - 4096}"
        found = Path(guest.root + path).stat()
        assert (found.st_mode & 0o7777, found.st_uid, found.st_size) == (0o600, 0, 64 * MIB)
        assert found.st_blocks * 512 >= 64 * MIB
        assert path in guest.changed


@pytest.mark.root
@pytest.mark.parametrize(("kernel", "unwritten"), [("4.17.0-1-amd64", False), ("4.18.0-1-amd64", True)])
def test_old_kernels_get_no_unwritten_extents_on_xfs(tmp_path: Path, kernel: str, unwritten: bool) -> None:
    with guest_on(tmp_path, "xfs", kernel) as guest:
        add(guest, job(SWAP="file:64"))
        assert ("unwritten" in sh("filefrag", "-v", f"{guest.root}/swapfile")) is unwritten


@pytest.mark.root
@pytest.mark.parametrize("kind", ["ext4", "btrfs"])
def test_a_swap_file_that_is_there_is_left_alone(tmp_path: Path, kind: str) -> None:
    with guest_on(tmp_path, kind) as guest:
        fstab = add(guest, job(SWAP="file:64"))
        file = Path(guest.root + FILE.get(kind, "/swapfile"))
        before = file.stat()
        assert add(guest, job(SWAP="file:64")) == fstab
        assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        with pytest.raises(GuestError, match="exists and is no swap of 32 MiB; remove it"):
            add(guest, job(SWAP="file:32"))


@pytest.mark.root
def test_a_kernel_that_knows_no_swap_on_btrfs_gets_none(tmp_path: Path) -> None:
    with guest_on(tmp_path, "btrfs", "4.19.0-5-amd64") as guest:
        with pytest.raises(GuestError, match=r"kernel 4\.19 has no swap files on btrfs"):
            add(guest, job(SWAP="file:64"))
        assert not guest.exists("/swap")


@pytest.mark.root
def test_a_swap_file_on_btrfs_does_not_keep_the_root_from_being_snapshotted(tmp_path: Path) -> None:
    with guest_on(tmp_path, "btrfs") as guest:
        add(guest, job(SWAP="file:64"))
        sh("swapon", f"{guest.root}/swap/swapfile")
        try:
            sh("btrfs", "subvolume", "snapshot", guest.root, f"{guest.root}/snapshot")
        finally:
            sh("swapoff", f"{guest.root}/swap/swapfile")


@pytest.mark.root
def test_a_swap_file_that_would_fill_the_guest_is_refused_before_it_is_begun(tmp_path: Path) -> None:
    with guest_on(tmp_path, "ext4", mib=160) as guest:
        with pytest.raises(GuestError, match=r"swap file of 120 MiB and 64 MiB to spare do not fit"):
            add(guest, job(SWAP="file:120"))
        assert not guest.exists("/swapfile")


@pytest.mark.root
@pytest.mark.parametrize("hostile", ["/dev/vda", "/../../outside", "swapfile"])
def test_a_link_in_the_place_of_the_swap_file_is_not_followed(tmp_path: Path, hostile: str) -> None:
    with guest_on(tmp_path, "ext4") as guest:
        guest.symlink(hostile, "/swapfile")
        with pytest.raises(GuestError, match="/swapfile"):
            add(guest, job(SWAP="file:64"))
        assert guest.link_target("/swapfile") == hostile
