# SPDX-License-Identifier: GPL-2.0-or-later
"""blkid's answers about many devices, whatever is on them, and the kernel's about what is mounted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snf_image_helper.disks.filesystems import FileSystem, mount_table, mounted_types, probe, spelled
from unit.helper.disk_images import MIB, private_mounts, sh


def blank(path: Path, mib: int = 1) -> str:
    path.write_bytes(b"")
    os.truncate(path, mib * MIB)
    return str(path)


def made(path: Path, *command: str, mib: int = 16) -> str:
    device = blank(path, mib)
    sh(*command, device)
    return device


def test_all_devices_are_seen_though_blkid_stops_at_an_empty_one(tmp_path: Path) -> None:
    devices = [
        blank(tmp_path / "a"),
        made(tmp_path / "b", "mkfs.ext4", "-q"),
        blank(tmp_path / "c"),
        blank(tmp_path / "d"),
        made(tmp_path / "e", "mkswap"),
        blank(tmp_path / "f"),
    ]
    assert [item.type for item in probe(devices).values()] == ["", "ext4", "", "", "swap", ""]


def test_an_ambiguous_device_is_nothing(tmp_path: Path) -> None:
    both = made(tmp_path / "a", "mkfs.ext4", "-q")
    sh("dd", "if=" + made(tmp_path / "b", "mkfs.xfs", "-q", mib=320), f"of={both}", "bs=512", "count=1", "conv=notrunc")
    after = made(tmp_path / "c", "mkswap")
    assert [item.type for item in probe([both, after]).values()] == ["", "swap"]


@pytest.mark.parametrize(
    "label", ["plain", "two words", 'a"b\\c', "x=y", "$`<>", "caf\u00e9", "tab\there", "\u4e2d\x7f"]
)
def test_a_label_is_spelled_as_blkid_does_it(tmp_path: Path, label: str) -> None:
    device = made(tmp_path / "a", "mkfs.ext4", "-q", "-L", label)
    assert probe([device])[device].label == spelled(label)


def test_the_uuid_is_told(tmp_path: Path) -> None:
    uuid = "01234567-89ab-4def-8123-456789abcdef"
    device = made(tmp_path / "a", "mkswap", "-U", uuid)
    assert probe([device])[device] == FileSystem(device, "swap", uuid)


def test_a_missing_device_is_nothing(tmp_path: Path) -> None:
    after = made(tmp_path / "c", "mkswap")
    assert [item.type for item in probe([str(tmp_path / "none"), after]).values()] == ["", "swap"]


@pytest.mark.parametrize(("table", "field"), [("/proc/self/mounts", 1), ("/proc/self/mountinfo", 4)])
def test_a_mount_point_may_hold_what_looks_like_the_end_of_a_line(tmp_path: Path, table: str, field: int) -> None:
    place = tmp_path / "a b\nc\rd\x0ce\x85f\u2028g\\h"
    place.mkdir()
    with private_mounts():
        sh("mount", "-t", "tmpfs", "ours", str(place))
        try:
            assert [fields[field] for fields in mount_table(table)].count(str(place)) == 1
            assert mounted_types()["ours"] == ("tmpfs", str(place))
        finally:
            sh("umount", str(place))
