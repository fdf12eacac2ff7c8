# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of the BSDs behind loop devices: found, grown, and read back by sfdisk, sgdisk and the tests' own decoder."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from images.bsd_disks import BSD_LAYOUTS, BsdLayout, make_bsd_disk, read_label
from images.bsd_labels import FFS, Label, Slice, System
from images.inspection import check_table, partition_table
from snf_image_helper.bsd.roots import ZfsRootError
from snf_image_helper.detection import find
from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.growth import filling
from snf_image_helper.system import OsFamily
from snf_image_helper.tasks import filesystem_resize_unmounted, fix_partition_table
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import MIB, Listener, attached, job, sh

pytestmark = pytest.mark.root

GROWN = 80  # MiB
TOTAL = GROWN * 2048
LABELLED = [name for name, layout in BSD_LAYOUTS.items() if layout.label]
# Of two UFS the one with /etc/fstab is the root, which only a kernel with UFS can tell: tests/vm/test_bsd.py.
MOUNTABLE = [name for name, layout in BSD_LAYOUTS.items() if layout.volumes and name != "freebsd-gpt-data"]
WHOLE = {System.FREEBSD: "c", System.NETBSD: "cd", System.OPENBSD: "c"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with each layout once, with a root that holds /etc/fstab."""
    place = tmp_path_factory.mktemp("bsd")
    for name, layout in BSD_LAYOUTS.items():
        tree = place / f"tree-{name}"
        (tree / "etc").mkdir(parents=True)
        (tree / "etc/fstab").write_text(layout.fstab())
        make_bsd_disk(layout, tree, place / name)
    return place


def copy_of(images: Path, name: str, place: Path, mib: int = GROWN) -> Path:
    """The image at the begin of a disk of `mib` MiB."""
    disk = place / "disk"
    subprocess.run(["cp", "--sparse=always", str(images / name), str(disk)], check=True)
    os.truncate(disk, mib * MIB)
    return disk


def fix(disk: Disk, **properties: str) -> list[str]:
    """What both tasks of the disk warn of, after the system was found."""
    listener = Listener()
    find(disk, job(**properties), listener.reporter)
    for task in (fix_partition_table.TASK, filesystem_resize_unmounted.TASK):
        task.run(disk, job(**properties), listener.reporter)
    return [warning for warning in listener.warnings if not warning.startswith("Property ")]


@contextmanager
def relabelled(path: Path, layout: BsdLayout, label: Label | bytes) -> Iterator[Disk]:
    """The disk with another label in its place."""
    start = next(piece.start for piece in layout.pieces if piece.number == layout.labelled)
    with path.open("r+b") as file:
        file.seek((start + 1) * 512)
        file.write(label if isinstance(label, bytes) else label.encode())
    with attached(path) as disk:
        yield disk


def kernel_extents(disk: Disk) -> dict[int, tuple[int, int]]:
    """Number -> start and size in sectors."""
    found = {}
    for entry in Path("/sys/block", Path(disk.device).name).glob("*/partition"):
        start, size = ((int((entry.parent / name).read_text())) for name in ("start", "size"))
        found[int(entry.read_text())] = (start, size)
    return found


@pytest.mark.row(114)
@pytest.mark.parametrize("name", MOUNTABLE)
def test_family_and_root_are_found(images: Path, tmp_path: Path, name: str) -> None:
    layout = BSD_LAYOUTS[name]
    with attached(copy_of(images, name, tmp_path)) as disk:
        system = find(disk, job(), Listener().reporter)
        assert (system.family, system.root_partition) == (OsFamily(layout.system), layout.root.number)
        extents = kernel_extents(disk)
        assert all(extents[volume.number] == (volume.start, volume.size) for volume in layout.volumes)
        assert layout.labelled not in extents


@pytest.mark.row(114)
def test_properties_that_name_a_slice_are_believed(images: Path, tmp_path: Path) -> None:
    with attached(copy_of(images, "openbsd-mbr", tmp_path)) as disk:
        system = find(disk, job(OSFAMILY="openbsd", ROOT_PARTITION="7"), Listener().reporter)
        assert system.root_partition == 7
        with pytest.raises(GuestError, match=r"ROOT_PARTITION: '4' is not the number of a partition .* \(5, 6, 7\)"):
            find(disk, job(OSFAMILY="openbsd", ROOT_PARTITION="4"), Listener().reporter)


def test_freebsd_on_zfs_is_recognised_and_its_disk_grows_when_no_file_is_to_change(
    images: Path, tmp_path: Path
) -> None:
    path = copy_of(images, "freebsd-zfs", tmp_path)
    with attached(path) as disk:
        for told in ({}, {"OSFAMILY": "freebsd", "ROOT_PARTITION": "4"}):
            with pytest.raises(ZfsRootError, match=r"root on ZFS here \(partition 4\).*CLOUD_INIT_SEED=partition"):
                find(disk, job(**told), Listener().reporter)
        fix(disk, EXCLUDE_MOUNTED_TASKS="yes")
    assert partition_table(path).partition(4).end == TOTAL - 2049


@pytest.mark.row(135)
@pytest.mark.parametrize("name", ["freebsd-gpt", "netbsd-gpt"])
def test_the_root_of_a_gpt_grows_and_all_else_stays(images: Path, tmp_path: Path, name: str) -> None:
    path = copy_of(images, name, tmp_path)
    with attached(path) as disk:
        assert fix(disk) == []
        assert kernel_extents(disk)[BSD_LAYOUTS[name].root.number][0] == BSD_LAYOUTS[name].root.start
    before, after = partition_table(images / name), partition_table(path)
    assert after.partitions[:-1] == before.partitions[:-1]
    assert after.partitions[-1] == replace(before.partitions[-1], size=TOTAL - 2048 - before.partitions[-1].start)
    check_table(path)


@pytest.mark.row(135)
@pytest.mark.parametrize("name", LABELLED)
def test_the_last_slice_of_a_label_grows_with_its_partition(images: Path, tmp_path: Path, name: str) -> None:
    layout, path = BSD_LAYOUTS[name], copy_of(images, name, tmp_path)
    with attached(path) as disk:
        warnings = fix(disk)
        extents, place = kernel_extents(disk), filling(disk, None)
    swap_is_last = name == "netbsd-mbr-live"
    assert len(warnings) == (2 if swap_is_last else 0)
    check_table(path)
    parent = partition_table(path).partition(layout.labelled)
    assert parent.end == (TOTAL - 2049 if layout.table == "gpt" else TOTAL - 1)
    label = read_label(path, layout.labelled, layout.system)
    base = parent.start if layout.system is System.FREEBSD else 0
    own = {letter: item for letter, item in label.slices.items() if letter not in WHOLE[layout.system] + "i"}
    old = layout.label.slices if layout.label else {}
    last = max(own, key=lambda letter: own[letter].start)
    assert {letter: own[letter] for letter in own if letter != last} == {
        letter: old[letter] for letter in own if letter != last
    }
    if swap_is_last:
        assert (own[last], place) == (old[last], None)
        return
    end = own[last].start + own[last].size + base
    assert parent.end - 31 <= end - 1 <= parent.end
    assert place and place.slice and place.slice.letter == last
    assert extents[place.number] == (own[last].start + base, own[last].size)


@pytest.mark.row(135)
@pytest.mark.parametrize("name", [name for name in LABELLED if BSD_LAYOUTS[name].table == "dos"])
def test_util_linux_reads_the_grown_label_as_we_do(images: Path, tmp_path: Path, name: str) -> None:
    path = copy_of(images, name, tmp_path)
    with attached(path) as disk:
        fix(disk)
        extents = kernel_extents(disk)
    rows = sh("partx", "--raw", "--noheadings", "--output", "NR,START,SECTORS", str(path)).splitlines()
    told = {int(number): (int(start), int(size)) for number, start, size in map(str.split, rows)}
    assert {number: extent for number, extent in told.items() if number > 4} == extents


@pytest.mark.row(135)
@pytest.mark.parametrize("name", LABELLED)
def test_nothing_but_label_and_table_is_written(images: Path, tmp_path: Path, name: str) -> None:
    layout, path = BSD_LAYOUTS[name], copy_of(images, name, tmp_path)
    before = bytearray(path.read_bytes())
    with attached(path) as disk:
        fix(disk)
    after = path.read_bytes()
    at = (next(piece.start for piece in layout.pieces if piece.number == layout.labelled) + 1) * 512
    allowed = [range(at, at + 404)]
    if layout.table == "dos":
        entry = 446 + 16 * (layout.labelled - 1)
        allowed += [range(entry + 5, entry + 8), range(entry + 12, entry + 16)]
    else:
        allowed += [range(446, 34 * 512), *(range((end - 33) * 512, end * 512) for end in (layout.mib * 2048, TOTAL))]
    for place in allowed:
        before[place.start : place.stop] = after[place.start : place.stop]
    is_same = before == after
    assert is_same


@pytest.mark.row(135)
@pytest.mark.parametrize("name", MOUNTABLE)
def test_a_second_run_changes_nothing(images: Path, tmp_path: Path, name: str) -> None:
    path = copy_of(images, name, tmp_path)
    with attached(path) as disk:
        first = fix(disk)
    before = path.read_bytes()
    with attached(path) as disk:
        assert fix(disk) == first
    assert path.read_bytes() == before


def test_a_disk_that_is_no_larger_stays_byte_for_byte(images: Path, tmp_path: Path) -> None:
    for name in ("openbsd-mbr", "netbsd-mbr"):
        path = copy_of(images, name, tmp_path, BSD_LAYOUTS[name].mib)
        with attached(path) as disk:
            fix(disk)
        assert path.read_bytes() == (images / name).read_bytes()


def test_what_stands_behind_the_partition_of_the_label_stays(images: Path, tmp_path: Path) -> None:
    path = copy_of(images, "netbsd-mbr", tmp_path)
    with path.open("r+b") as file:
        file.seek(446 + 16)
        file.write(struct.pack("<8sII", b"\0\0\0\0\x83\0\0\0", 150000, 2048))
    with attached(path) as disk:
        warnings = fix(disk)
    assert [warning for warning in warnings if "partition 2 stands behind partition 1" in warning]
    label = BSD_LAYOUTS["netbsd-mbr"].label
    assert label and read_label(path, 1, System.NETBSD).slices["a"] == label.slices["a"]


def test_a_gpt_in_which_nothing_grows_still_gets_its_backup_moved(images: Path, tmp_path: Path) -> None:
    path = copy_of(images, "openbsd-gpt", tmp_path)
    with attached(path) as disk:
        fix(disk)
    sh("sgdisk", "--set-alignment=1", f"--new=5:{TOTAL - 1000}:{TOTAL - 900}", str(path))
    os.truncate(path, 2 * GROWN * MIB)
    with attached(path) as disk:
        assert [warning for warning in fix(disk) if "partition 5 stands behind partition 4" in warning]
    check_table(path)


def test_a_label_in_an_msdos_table_ends_at_two_tib(images: Path, tmp_path: Path) -> None:
    path = copy_of(images, "netbsd-mbr", tmp_path, 3 << 20)
    with attached(path) as disk:
        assert any("2 TiB" in warning for warning in fix(disk))
    label = read_label(path, 1, System.NETBSD)
    assert label.slices["a"].start + label.slices["a"].size == 1 << 32
    assert (label.total, label.cylinders) == ((1 << 32) - 1, 16383)


def test_no_partition_is_made_for_swap(images: Path, tmp_path: Path) -> None:
    path = copy_of(images, "freebsd-gpt", tmp_path)
    with attached(path) as disk:
        assert fix(disk, SWAP="5:16") == []
    assert len(partition_table(path).partitions) == 4


def test_an_msdos_partition_without_a_label_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(32 * MIB)
    sh("sfdisk", "--quiet", str(path), stdin="label: dos\nsize=4096, type=a5\n")
    with attached(path) as disk, pytest.raises(GuestError, match="no disklabel in the msdos partition of freebsd"):
        fix(disk)


def _hostile(layout: BsdLayout) -> dict[str, Label | bytes]:
    label = layout.label
    assert label
    a = label.slices["a"]
    raw = bytearray(label.encode())
    raw[200] ^= 1
    return {
        "wrong checksum": bytes(raw),
        "53 partitions": replace(label, count=53),
        "overlapping": replace(label, slices=label.slices | {"e": Slice(a.start + 8, 8, FFS)}),
        "reaches beyond": replace(label, slices=label.slices | {"e": Slice(a.start, 0xFFFFFFFF, FFS)}),
        "geometry": replace(label, track=0),
    }


@pytest.mark.parametrize("words", ["wrong checksum", "53 partitions", "overlapping", "reaches beyond", "geometry"])
@pytest.mark.parametrize("name", ["netbsd-mbr", "openbsd-mbr", "openbsd-gpt"])
def test_a_hostile_label_is_refused_before_anything_is_written(
    images: Path, tmp_path: Path, name: str, words: str
) -> None:
    layout, path = BSD_LAYOUTS[name], copy_of(images, name, tmp_path)
    with relabelled(path, layout, _hostile(layout)[words]) as disk:
        before = path.read_bytes()
        with pytest.raises(GuestError, match=words):
            fix(disk)
    assert path.read_bytes() == before
