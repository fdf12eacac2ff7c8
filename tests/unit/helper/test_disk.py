# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding disks, and telling the kernel what their tables say."""

from __future__ import annotations

from pathlib import Path

import pytest

from snf_image_helper.disks.disk import Disk
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import attached, sh, table_of


def known(disk: Disk) -> dict[int, tuple[int, int]]:
    """What the kernel thinks: number -> start and size in sectors of 512 bytes."""
    place = Path("/sys/block", Path(disk.device).name)
    return {
        int(entry.read_text()): (int((entry.parent / "start").read_text()), int((entry.parent / "size").read_text()))
        for entry in place.glob("*/partition")
    }


def test_a_missing_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snf_image_helper.disks.disk._PATIENCE", 0.0)
    with pytest.raises(GuestError, match="no disk with serial number snf-disk-0"):
        Disk.open(("snf-disk-0",))


def test_what_is_no_block_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GuestError, match="is not a block device"):
        Disk((str(tmp_path / "file"),))


@pytest.mark.root
def test_a_disk_knows_its_size_and_sectors(tmp_path: Path) -> None:
    table_of(tmp_path / "d", "label: dos\n", 16)
    with attached(tmp_path / "d", sector_size=4096) as disk:
        assert (disk.sectors, disk.sector_size) == (4096, 4096)


@pytest.mark.root
def test_the_kernel_learns_every_partition_and_the_container_as_a_stub(tmp_path: Path) -> None:
    script = "label: dos\nstart=2048,size=2048\nstart=4096,size=8192,type=5\nstart=6144,size=2048\n"
    table_of(tmp_path / "d", script, 16)
    with attached(tmp_path / "d") as disk:
        disk.reload()
        assert known(disk) == {1: (2048, 2048), 2: (4096, 2), 5: (6144, 2048)}
        assert Path(disk.partition_device(5)).is_block_device()


@pytest.mark.root
def test_on_4096_byte_sectors_the_stub_is_a_whole_sector(tmp_path: Path) -> None:
    with (tmp_path / "d").open("wb") as file:
        file.truncate(64 << 20)
    with attached(tmp_path / "d", sector_size=4096) as disk:
        script = "label: dos\nstart=256,size=256\nstart=512,size=8192,type=5\nstart=768,size=256\n"
        sh("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk.device, stdin=script)
        disk.reload()
        assert known(disk) == {1: (2048, 2048), 2: (4096, 8), 5: (6144, 2048)}


@pytest.mark.root
def test_the_kernel_forgets_what_is_gone_and_follows_what_moved(tmp_path: Path) -> None:
    table_of(tmp_path / "d", "label: gpt\nstart=2048,size=2048\nstart=4096,size=2048\nstart=8192,size=2048\n", 16)
    with attached(tmp_path / "d") as disk:
        disk.reload()
        sh(
            *("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk.device),
            stdin="label: gpt\nstart=2048,size=1024\nstart=6144,size=4096\n",
        )
        disk.reload()
        assert known(disk) == {1: (2048, 1024), 2: (6144, 4096)}


@pytest.mark.root
def test_a_partition_in_use_does_not_keep_the_others_from_growing(tmp_path: Path) -> None:
    table_of(tmp_path / "d", "label: gpt\nstart=2048,size=2048\nstart=4096,size=2048\n", 16)
    with attached(tmp_path / "d") as disk:
        disk.reload()
        with Path(disk.partition_device(1)).open("rb"):
            sh(
                "sfdisk",
                "--quiet",
                "--no-reread",
                "--no-tell-kernel",
                "-N2",
                disk.device,
                stdin="start=4096,size=8192\n",
            )
            disk.reload()
        assert known(disk) == {1: (2048, 2048), 2: (4096, 8192)}


@pytest.mark.root
def test_the_table_is_read_once_until_it_is_reloaded(tmp_path: Path) -> None:
    table_of(tmp_path / "d", "label: gpt\nsize=2048\n", 16)
    with attached(tmp_path / "d") as disk:
        before = disk.table
        sh("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk.device, stdin="label: gpt\nsize=4096\n")
        assert disk.table is before
        assert disk.reload() != before


@pytest.mark.root
def test_a_partition_that_is_not_there_is_refused(tmp_path: Path) -> None:
    table_of(tmp_path / "d", "label: gpt\nsize=2048\nsize=2048\n", 16)
    with attached(tmp_path / "d") as disk, pytest.raises(GuestError, match=r"no partition 7 .*1, 2"):
        disk.partition_device(7)
