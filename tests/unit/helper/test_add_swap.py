# SPDX-License-Identifier: GPL-2.0-or-later
"""AddSwap on real disks: the area is swap, fstab names it, and doing it twice changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snf_image_helper.filesystems import probe
from snf_image_helper.guest import Guest
from snf_image_helper.system import OsFamily, System
from snf_image_helper.tasks.add_swap import TASK
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job
from unit.helper.disk_images import MIB, Listener, attached, job, plant_root, table_of

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


@pytest.mark.root
def test_the_partition_becomes_swap_and_fstab_names_it(tmp_path: Path) -> None:
    with guest_with_disks(tmp_path) as guest:
        fstab = add(guest, job(SWAP="2:10"))
        uuid = swap_uuid(guest.disk.partition_device(2))
    assert fstab == f"{FSTAB}UUID={uuid}\tnone\tswap\tsw\t0\t0\n"


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
def test_a_missing_fstab_is_an_error_before_the_disk_is_touched(tmp_path: Path) -> None:
    with guest_with_disks(tmp_path, None) as guest:
        with pytest.raises(GuestError, match="/etc/fstab does not exist"):
            add(guest, job(SWAP="2:10"))
        device = guest.disk.partition_device(2)
        assert probe([device])[device].type == ""


@pytest.mark.root
def test_cloud_init_is_asked_for_a_file_instead_of_a_partition(tmp_path: Path) -> None:
    with guest_with_disks(tmp_path) as guest:
        guest.make_directory("/etc/cloud/cloud.cfg.d")
        assert add(guest, job(SWAP="2:10", CLOUD_INIT="yes")) == FSTAB
        text = guest.read_text("/etc/cloud/cloud.cfg.d/98_snf-image-50AddSwap.cfg")
    lines = text.splitlines()
    assert (lines[0], lines[2:]) == ("swap:", ["  size: auto", f"  maxsize: {10 * MIB}"])
    assert lines[1].startswith("  filename: /swap-")


@pytest.mark.root
def test_cloud_init_without_its_directory_is_an_error(tmp_path: Path) -> None:
    with guest_with_disks(tmp_path) as guest, pytest.raises(GuestError, match="install cloud-init"):
        add(guest, job(SWAP="2:10", CLOUD_INIT="yes"))


def test_without_the_property_it_is_skipped() -> None:
    assert TASK.skip(job()) == "the property SWAP is not set"


@pytest.mark.parametrize(("swap", "word"), [("a", "the image itself"), ("c", "disk c"), ("2:05", "neither")])
def test_an_impossible_swap_is_refused_while_planning(swap: str, word: str) -> None:
    with pytest.raises(GuestError, match=word):
        TASK.skip(job(*TWO_DISKS, SWAP=swap))


@pytest.mark.parametrize(
    ("wishes", "needed"),
    [
        (job(SWAP="2:10"), True),
        (job(SWAP="2:10", CLOUD_INIT="yes"), False),
        (job(*TWO_DISKS, SWAP="b"), False),
    ],
)
def test_only_a_swap_partition_needs_the_partition_table_fixed(wishes: Job, needed: bool) -> None:
    assert [needs.when(wishes) for needs in TASK.requires] == [needed]
