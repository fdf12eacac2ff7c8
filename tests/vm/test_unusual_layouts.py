# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests on LVM, on f2fs, on old xfs, on disks without a table, before an ESP: each deployed once by a helper VM."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from images.inspection import Tree, check_table, extent, filesystem_size, fsck, partition_table, probe, read_file
from images.layouts import HOSTNAME, UNUSUAL, Layout, layout
from provider import TIMEOUT, Instance, Outcome, Provider
from snf_image_shared.process import Limits, run
from sparse_disks import copy_disk

pytestmark = pytest.mark.vm

NAME = "unusual.example.com"
GROWN_MIB = 300
# What no program outside can read, the last task of the deployment tells.
TELL = """\
#!/bin/sh
echo "hostname is $(cat "$SNF_IMAGE_TARGET/etc/hostname")"
grep " $SNF_IMAGE_TARGET" /proc/mounts
"""
# mkfs.xfs(8), "protofile": what a Linux guest has at least.
PROTO = """\
/boot
0 0
d--755 0 0
etc d--755 0 0
fstab ---644 0 0 {directory}/fstab
hostname ---644 0 0 {directory}/hostname
os-release ---644 0 0 {directory}/os-release
$
$
"""


@dataclass(frozen=True)
class Deployed:
    """A layout after create."""

    name: str
    layout: Layout
    image: Path
    disk: Path
    outcome: Outcome


def deploy(image: Path, provider: Provider, disk: Path, **properties: str) -> Outcome:
    """Deploy an image onto a disk that is GROWN_MIB larger."""
    copy_disk(image, provider.images / "unusual.diskdump")
    with disk.open("wb") as file:
        file.truncate(image.stat().st_size + (GROWN_MIB << 20))
    wanted = {"CUSTOM_TASK": base64.b64encode(TELL.encode()).decode(), **properties}
    parameters = {"img_id": "unusual.diskdump", "img_format": "diskdump", "img_properties": wanted}
    return provider.run(Instance(NAME, (disk,), parameters=parameters))


@pytest.fixture(scope="module", params=UNUSUAL)
def deployed(
    request: pytest.FixtureRequest, provider: Provider, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Deployed:
    """Each layout once, found without a property."""
    image = layout(request.param, cache)
    disk = tmp_path_factory.mktemp(request.param) / "disk"
    outcome = deploy(image, provider, disk)
    assert outcome.code == 0, outcome.log
    return Deployed(request.param, UNUSUAL[request.param], image, disk, outcome)


def test_every_file_system_is_sound_and_keeps_its_identity(deployed: Deployed) -> None:
    for volume in deployed.layout.volumes:
        fsck(deployed.disk, volume.where)
        assert probe(deployed.disk, volume.where) == probe(deployed.image, volume.where)


@pytest.mark.row(124, 125, 129)
def test_the_root_fills_the_disk_unless_something_stands_behind_it(deployed: Deployed) -> None:
    place = deployed.layout.root_place
    before, after = (filesystem_size(disk, place) for disk in (deployed.image, deployed.disk))
    if deployed.name == "ext2-esp-last":
        assert after == before
    else:
        # Less by the free MiB at the end, and a part of an extent or segment; LVM may have had room of its own.
        assert after - before > GROWN_MIB - 16 << 20
        length = extent(deployed.disk, place).length
        assert length - (16 << 20) < after <= length


def test_the_table_is_sound_and_what_does_not_grow_stays(deployed: Deployed) -> None:
    if deployed.layout.table.type == "":
        return
    check_table(deployed.disk)
    before, after = partition_table(deployed.image), partition_table(deployed.disk)
    grown = [old.number for old, new in zip(before.partitions, after.partitions, strict=True) if old != new]
    assert grown == ([] if deployed.name == "ext2-esp-last" else [deployed.layout.root])


def test_the_guest_has_its_name(deployed: Deployed) -> None:
    if deployed.name == "f2fs-gpt":
        assert f"hostname is {NAME}" in deployed.outcome.log
    else:
        assert read_file(Tree(deployed.disk, deployed.layout.root_place), "/etc/hostname").decode() == NAME + "\n"


@pytest.mark.row(139)
def test_all_that_fstab_names_was_mounted(deployed: Deployed) -> None:
    for volume in deployed.layout.volumes:
        at = volume.mount_point.rstrip("/")
        assert f" /run/snf-image/target{at} {volume.kind} rw," in deployed.outcome.log


def test_no_warning_but_what_is_said_of_the_layout(deployed: Deployed) -> None:
    warnings = [line for line in deployed.outcome.log.splitlines() if line.startswith("[WARNING]")]
    expected = {
        "ext2-esp-last": ["the last one on the disk and is never grown", "no file system is resized"],
        "ext4-whole-disk": ["its file system has the whole disk"],
        "xfs-whole-disk": ["its file system has the whole disk"],
    }
    told = [line for line in warnings if "Property " not in line and " skipped: " not in line]
    assert len(told) == len(expected.get(deployed.name, [])), warnings
    for line, words in zip(told, expected.get(deployed.name, []), strict=True):
        assert words in line


def test_an_xfs_of_the_old_format_grows_and_is_written(provider: Provider, tmp_path: Path) -> None:
    """Its content is made by mkfs.xfs: kernels since 6.18 do not mount it, while that of the helper does."""
    for name, text in {
        "fstab": "/dev/vda / xfs defaults 0 0\n",
        "hostname": "old\n",
        "os-release": "ID=centos\nVERSION_ID=7\n",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "proto").write_text(PROTO.format(directory=tmp_path))
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(320 << 20)
    run(["mkfs.xfs", "-q", "-m", "crc=0", "-p", str(tmp_path / "proto"), str(image)])
    disk = tmp_path / "disk"
    outcome = deploy(image, provider, disk)
    assert outcome.code == 0, outcome.log
    assert f"hostname is {NAME}" in outcome.log
    fsck(disk, 0)
    assert filesystem_size(disk, 0) > (320 + GROWN_MIB - 16) << 20


def test_a_guest_on_lvm_is_inspected_and_renamed(provider: Provider, cache: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    copy_disk(layout("lvm-ext4", cache), disk)
    disk.chmod(0o600)
    said = run([str(provider.root / "usr/sbin/snf-image-inspect"), "--json", str(disk)], limits=Limits(timeout=TIMEOUT))
    found = json.loads(said.stdout)["disk"]
    assert (found["system"]["root_partition"], found["system"]["volume"]) == (2, "the-group/the-root")
    assert found["system"]["distribution"] == "debian"
    assert [(item["name"], item["layout"], item["content"]["type"]) for item in found["volumes"]] == [
        ("the-group/data", "linear", "ext4"),
        ("the-group/swap", "linear", ""),
        ("the-group/the-root", "linear", "ext4"),
    ]
    assert found["problems"] == []
    renamed = provider.run(Instance(NAME, (disk,)), "rename", OLD_INSTANCE_NAME=HOSTNAME)
    assert renamed.last_line == f"[INFO] The guest bears the instance's new name, {NAME}.", renamed.log
    assert read_file(Tree(disk, "2:the-group/the-root"), "/etc/hostname").decode() == NAME + "\n"
    fsck(disk, "2:the-group/the-root")
