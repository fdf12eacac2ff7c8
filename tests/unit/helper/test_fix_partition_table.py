# SPDX-License-Identifier: GPL-2.0-or-later
"""FixPartitionTable on real tables behind loop devices, checked with sfdisk and sgdisk."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snf_image_helper.disks.disk import Disk
from snf_image_helper.system import OsFamily, System
from snf_image_helper.tasks.fix_partition_table import TASK
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import MIB, Listener, attached, job, sh, table_of

pytestmark = pytest.mark.root

LAST = 100 * 2048 - 2049  # of a disk of 100 MiB, in sectors of 512 bytes
GPT_SWAP = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
GPT = """\
label: gpt
label-id: 11111111-2222-3333-4444-555555555555
start=227328, size=40960, uuid=AAAAAAAA-0000-0000-0000-000000000001, name="my: é", attrs="RequiredPartition GUID:60"
{device}14 : start=2048, size=8192, type=21686148-6449-6E6F-744E-656564454649
{device}15 : start=10240, size=20480, type=U
"""


@contextmanager
def enlarged(path: Path, script: str, sector_size: int = 512, mib: int = 100) -> Iterator[Disk]:
    """A disk of `mib` MiB whose table was made when it had 64."""
    table_of(path, script, 64)
    os.truncate(path, mib * MIB)
    with attached(path, sector_size=sector_size) as disk:
        yield disk


def fix(disk: Disk, root: int | None = None, **properties: str) -> Listener:
    """The task's warnings; the root is the partition that begins last, unless a test says otherwise."""
    listener = Listener()
    if root is None and disk.table:
        starts = {place.partition.start: place.number for place in disk.places() if place.partition}
        root = starts[max(starts)] if starts else 1
    disk.system = System(OsFamily.LINUX, root or 0)
    TASK.run(disk, job(**properties), listener.reporter)
    return listener


def found(disk: Disk) -> dict[int, tuple[int, int, str]]:
    """Number -> first and last sector and type, as sfdisk sees them."""
    table = json.loads(sh("sfdisk", "--json", disk.device))["partitiontable"]
    return {
        int(re.sub(r".*?([0-9]+)$", r"\1", item["node"].removeprefix(disk.device))): (
            item["start"],
            item["start"] + item["size"] - 1,
            item["type"],
        )
        for item in table["partitions"]
    }


def kernel_sectors(disk: Disk, number: int) -> int:
    name = Path(disk.device).name
    return int(Path(f"/sys/block/{name}/{name}p{number}/size").read_text())


@pytest.mark.row(119)
def test_a_primary_partition_grows(tmp_path: Path) -> None:
    with enlarged(tmp_path / "d", "label: dos\nstart=2048,size=4096,bootable\nstart=8192,size=4096\n") as disk:
        fix(disk)
        assert found(disk) == {1: (2048, 6143, "83"), 2: (8192, LAST, "83")}
        assert kernel_sectors(disk, 2) == LAST - 8192 + 1


def test_boot_code_and_disk_signature_stay(tmp_path: Path) -> None:
    path = tmp_path / "d"
    table_of(path, "label: dos\nstart=2048,size=4096,bootable\n", 64)
    with path.open("r+b") as file:
        file.write(os.urandom(440))
    before = path.read_bytes()[:446]
    os.truncate(path, 100 * MIB)
    with attached(path) as disk:
        fix(disk)
    assert path.read_bytes()[:446] == before


@pytest.mark.row(121)
def test_a_logical_partition_grows_with_its_container(tmp_path: Path) -> None:
    script = (
        "label: dos\nstart=2048,size=4096\nstart=8192,size=40960,type=5\nstart=10240,size=4096\nstart=16384,size=8192\n"
    )
    with enlarged(tmp_path / "d", script) as disk:
        fix(disk)
        assert found(disk) == {
            1: (2048, 6143, "83"),
            2: (8192, LAST, "5"),
            5: (10240, 14335, "83"),
            6: (16384, LAST, "83"),
        }


@pytest.mark.row(123)
def test_a_primary_numbered_after_the_container_is_not_mistaken_for_the_last(tmp_path: Path) -> None:
    path = tmp_path / "d"
    places = ("1 : start=8192,size=40960,type=5", "3 : start=2048,size=4096", "5 : start=10240,size=4096")
    script = "label: dos\n" + "".join(f"{path}{place}\n" for place in places)
    with enlarged(path, script) as disk:
        fix(disk)
        assert found(disk) == {1: (8192, LAST, "5"), 3: (2048, 6143, "83"), 5: (10240, LAST, "83")}


@pytest.mark.row(120, 122)
def test_a_gpt_grows_and_keeps_every_identity(tmp_path: Path) -> None:
    path = tmp_path / "d"
    table_of(path, GPT.format(device=path), 150)
    before = sh("sfdisk", "--dump", str(path))
    os.truncate(path, 200 * MIB)
    with attached(path) as disk:
        fix(disk)
        assert found(disk)[1][1] == 200 * 2048 - 2049
        assert "No problems found" in sh("sgdisk", "--verify", disk.device)
    after = sh("sfdisk", "--dump", str(path))
    varying = r"last-lba: \d+|size= *\d+"
    assert re.sub(varying, "", after) == re.sub(varying, "", before)


def test_a_gpt_whose_last_partition_stays_still_gets_its_backup_moved(tmp_path: Path) -> None:
    with enlarged(tmp_path / "d", "label: gpt\nsize=4096\nsize=4096,type=U\n") as disk:
        listener = fix(disk)
        assert found(disk)[2] == (6144, 10239, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
        assert "No problems found" in sh("sgdisk", "--verify", disk.device)
        assert "EFI system" in listener.warnings[0]


@pytest.mark.row(132)
def test_swap_on_gpt_is_made_under_its_number(tmp_path: Path) -> None:
    with enlarged(tmp_path / "d", "label: gpt\nsize=4096\n") as disk:
        fix(disk, SWAP="15:16")
        start = LAST - 16 * 2048 + 1
        assert found(disk) == {
            1: (2048, start - 1, "0FC63DAF-8483-4772-8E79-3D69D8477DE4"),
            15: (start, LAST, GPT_SWAP),
        }
        assert "No problems found" in sh("sgdisk", "--verify", disk.device)


@pytest.mark.row(132)
def test_primary_swap_is_made_under_its_number(tmp_path: Path) -> None:
    with enlarged(tmp_path / "d", "label: dos\nsize=4096\n") as disk:
        fix(disk, SWAP="3:16")
        start = LAST - 16 * 2048 + 1
        assert found(disk) == {1: (2048, start - 1, "83"), 3: (start, LAST, "82")}


@pytest.mark.row(132)
def test_logical_swap_gets_its_container(tmp_path: Path) -> None:
    with enlarged(tmp_path / "d", "label: dos\nsize=4096\n") as disk:
        fix(disk, SWAP="5:16")
        start = LAST - 16 * 2048 + 1
        assert found(disk) == {1: (2048, start - 2049, "83"), 2: (start - 2048, LAST, "5"), 5: (start, LAST, "82")}


def test_logical_swap_follows_a_logical_partition(tmp_path: Path) -> None:
    with enlarged(tmp_path / "d", "label: dos\nstart=8192,size=40960,type=5\nstart=10240,size=4096\n") as disk:
        fix(disk, SWAP="6:16")
        start = LAST - 16 * 2048 + 1
        assert found(disk) == {1: (8192, LAST, "5"), 5: (10240, start - 2049, "83"), 6: (start, LAST, "82")}


@pytest.mark.row(132)
@pytest.mark.parametrize(("label", "swap"), [("gpt", "15:16"), ("dos", "3:16"), ("dos", "5:16")])
def test_a_second_run_leaves_the_table_with_its_swap_as_it_is(tmp_path: Path, label: str, swap: str) -> None:
    path = tmp_path / "d"
    with enlarged(path, f"label: {label}\nsize=4096\n") as disk:
        fix(disk, SWAP=swap)
    before = path.read_bytes()
    with attached(path) as disk:
        assert fix(disk, root=1, SWAP=swap).warnings == []
        with pytest.raises(GuestError, match="exists already"):
            fix(disk, root=1, SWAP=swap.replace("16", "8"))
    assert path.read_bytes() == before


@pytest.mark.row(137)
def test_disks_of_4096_byte_sectors_work(tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.write_bytes(b"")
    os.truncate(path, 64 * MIB)
    with attached(path, sector_size=4096) as disk:
        sh("sfdisk", "--quiet", "--no-reread", disk.device, stdin="label: gpt\nsize=2048\n")
    os.truncate(path, 100 * MIB)
    with attached(path, sector_size=4096) as disk:
        fix(disk, SWAP="2:16")
        last = 100 * 256 - 257
        assert found(disk)[1][:2] == (256, last - 16 * 256)
        assert found(disk)[2][:2] == (last - 16 * 256 + 1, last)
        assert "No problems found" in sh("sgdisk", "--verify", disk.device)


@pytest.mark.row(137)
def test_an_image_made_for_other_sectors_is_refused(tmp_path: Path) -> None:
    with (
        enlarged(tmp_path / "d", "label: gpt\nsize=4096\n", sector_size=4096) as disk,
        pytest.raises(GuestError, match="another sector size"),
    ):
        fix(disk)


@pytest.mark.row(136)
def test_an_msdos_table_ends_at_two_tib(tmp_path: Path) -> None:
    with enlarged(tmp_path / "d", "label: dos\nsize=4096\n", mib=3 << 20) as disk:
        listener = fix(disk)
        assert found(disk)[1] == (2048, (1 << 32) - 2049, "83")
        assert "2 TiB" in listener.warnings[0]


def test_a_disk_that_is_no_larger_stays_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "d"
    table_of(path, f"label: gpt\nsize={64 * 2048 - 4096}\n", 64)
    before = path.read_bytes()
    with attached(path) as disk:
        fix(disk)
    assert path.read_bytes() == before


def test_a_disk_that_a_file_system_has_for_itself_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.write_bytes(b"")
    os.truncate(path, 16 * MIB)
    sh("mkfs.ext4", "-q", str(path))
    before = path.read_bytes()
    with attached(path) as disk:
        assert fix(disk).warnings == ["the image has no partition table: its file system has the whole disk"]
        with pytest.raises(GuestError, match=r"property SWAP: 2:16 .* no partition table; write the letter"):
            fix(disk, SWAP="2:16")
    assert path.read_bytes() == before


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_a_table_without_partitions_is_refused(tmp_path: Path, label: str) -> None:
    with enlarged(tmp_path / "d", f"label: {label}\n") as disk, pytest.raises(GuestError, match="is empty"):
        fix(disk)


def test_other_kinds_of_table_are_refused(tmp_path: Path) -> None:
    with enlarged(tmp_path / "d", "label: sgi\n") as disk, pytest.raises(GuestError, match="only msdos and gpt"):
        fix(disk)


def test_a_hybrid_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d"
    table_of(path, "label: gpt\nsize=4096\n", 64)
    sh("sgdisk", "--hybrid=1", str(path))
    with attached(path) as disk, pytest.raises(GuestError, match="both an msdos and a GPT"):
        fix(disk)


def test_an_msdos_table_over_an_old_gpt_is_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "d", tmp_path / "o"
    table_of(path, "label: gpt\nsize=4096\n", 64)
    table_of(other, "label: dos\nsize=8192\n", 64)
    with path.open("r+b") as file:
        file.write(other.read_bytes()[:512])
    with attached(path) as disk, pytest.raises(GuestError, match="both an msdos and a GPT"):
        fix(disk)


def test_a_looping_chain_of_logical_partitions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d"
    table_of(path, "label: dos\nstart=2048,size=40960,type=5\nstart=4096,size=2048\nstart=8192,size=2048\n", 64)
    with path.open("r+b") as file:
        file.seek(2048 * 512 + 462)
        link = bytearray(file.read(16))
        second = 2048 + int.from_bytes(link[8:12], "little")
        file.seek(second * 512 + 462)
        file.write(link)
    with attached(path) as disk, pytest.raises(GuestError, match=r"overlap|chain"):
        fix(disk)


def test_more_logical_partitions_than_sfdisk_reads_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d"
    numbers = range(5, 60)
    lines = "".join(f"start={4096 + 512 * n},size=128\n" for n in numbers)
    table_of(path, f"label: dos\nstart=2048,size=100000,type=5\n{lines}", 64)
    before = path.read_bytes()
    with attached(path) as disk:
        assert disk.require_table().partition(59)
    os.truncate(path, 64 * MIB)
    assert path.read_bytes() == before
    sh("parted", "-s", "-a", "none", str(path), "unit", "s", "mkpart", "logical", "80000s", "81000s")
    sh("parted", "-s", "-a", "none", str(path), "unit", "s", "mkpart", "logical", "90000s", "91000s")
    with attached(path) as disk, pytest.raises(GuestError, match="chain"):
        fix(disk)


# Signature, own place, place, number, size and checksum of the entries: UEFI, "GPT Header".
DAMAGES = (0, 16, 24, 72, 80, 84, 88)


@pytest.mark.parametrize("offset", DAMAGES)
def test_a_damaged_gpt_without_a_backup_at_the_end_is_refused(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "d"
    table_of(path, "label: gpt\nsize=4096\n", 64)
    os.truncate(path, 100 * MIB)
    with path.open("r+b") as file:
        file.seek(512 + offset)
        file.write(b"\xff" * 4)
    with attached(path) as disk, pytest.raises(GuestError, match="no valid GPT"):
        fix(disk)


@pytest.mark.parametrize("offset", DAMAGES)
def test_a_damaged_gpt_is_repaired_from_a_backup_at_the_end(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "d"
    table_of(path, "label: gpt\nsize=4096\n", 64)
    with path.open("r+b") as file:
        file.seek(512 + offset)
        file.write(b"\xff" * 4)
    with attached(path) as disk:
        fix(disk)
        assert "No problems found" in sh("sgdisk", "--verify", disk.device)


@pytest.mark.parametrize("swap", ["1:16", "2:9999"])
def test_impossible_swap_changes_nothing(tmp_path: Path, swap: str) -> None:
    path = tmp_path / "d"
    with enlarged(path, "label: dos\nsize=4096\n") as disk:
        before = path.read_bytes()
        with pytest.raises(GuestError, match="property SWAP"):
            fix(disk, SWAP=swap)
    assert path.read_bytes() == before


def test_a_wrong_swap_is_refused_while_planning() -> None:
    with pytest.raises(GuestError, match="property SWAP"):
        TASK.skip(job(SWAP="2:0"))
