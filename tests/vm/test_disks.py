# SPDX-License-Identifier: GPL-2.0-or-later
"""Instances with more than one disk, with a disk that is no file, and with no image at all."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import pytest

from block_devices import loop_device
from images.inspection import Tree, check_table, probe, read_file
from images.layouts import HOSTNAME, layout
from provider import Instance, Provider

pytestmark = pytest.mark.vm

NAME = "disks.example.com"


@pytest.fixture
def image(provider: Provider, cache: Path) -> str:
    """The img_id of a small image."""
    shutil.copy(layout("ext4-gpt", cache), provider.images / "disks.diskdump")
    return "disks.diskdump"


def sparse(path: Path, mib: int) -> Path:
    """A file disk."""
    with path.open("wb") as file:
        file.truncate(mib << 20)
    return path


def test_every_disk_reaches_the_helper_in_order_and_the_second_becomes_swap(
    provider: Provider, image: str, tmp_path: Path
) -> None:
    disks = tuple(sparse(tmp_path / f"disk {index},=", 1024 if not index else 16 + index) for index in range(14))
    script = (
        '#!/bin/sh\nfor d in /sys/block/vd*; do echo "$(cat $d/serial) $(cat $d/size) $(cat $d/ro)" >&2; done; exit 9'
    )
    parameters = {
        "img_id": image,
        "img_format": "diskdump",
        "img_properties": {"SWAP": "b", "CUSTOM_TASK": base64.b64encode(script.encode()).decode()},
    }
    outcome = provider.run(Instance(NAME, disks, parameters=parameters), DISK_13_ACCESS="ro")
    assert outcome.code == 6, "the custom task fails, so that what it says is told"
    listed = [line for line in outcome.log.splitlines() if "snf-disk-" in line]
    # The last ten lines of a failed program are told; the disks' are the alphabetical last, and the config device's.
    for index, disk in list(enumerate(disks))[5:]:
        sectors, readonly = disk.stat().st_size // 512, int(index == 13)
        assert any(f"snf-disk-{index} {sectors} {readonly}" in line for line in listed), listed


def test_a_whole_disk_becomes_swap(provider: Provider, image: str, tmp_path: Path) -> None:
    disks = (sparse(tmp_path / "one", 1024), sparse(tmp_path / "two", 64))
    parameters = {"img_id": image, "img_format": "diskdump", "img_properties": {"SWAP": "b"}}
    outcome = provider.run(Instance(NAME, disks, parameters=parameters))
    assert outcome.code == 0, outcome.log
    assert b"SWAPSPACE2" in disks[1].read_bytes()[:4096]
    assert b" swap " in read_file(Tree(disks[0], 1), "/etc/fstab").replace(b"\t", b" ")


def test_a_block_device_is_deployed_like_a_file(provider: Provider, image: str, tmp_path: Path) -> None:
    backing = sparse(tmp_path / "backing", 1024)
    with loop_device(backing) as device:
        parameters = {"img_id": image, "img_format": "diskdump", "img_passwd": "x"}
        outcome = provider.run(Instance(NAME, (device,), parameters=parameters))
        assert outcome.code == 0, outcome.log
    check_table(backing)
    assert read_file(Tree(backing, 1), "/etc/hostname").decode() == NAME + "\n"


def test_null_customises_what_is_on_the_disk(provider: Provider, cache: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    shutil.copy(layout("ext4-mbr-primary", cache), disk)
    disk.chmod(0o600)
    outcome = provider.run(Instance(NAME, (disk,), parameters={"img_id": "null", "img_format": "diskdump"}))
    assert outcome.code == 0, outcome.log
    assert read_file(Tree(disk, 1), "/etc/hostname").decode() == NAME + "\n"


def test_null_leaves_the_disk_bootable_when_the_customisation_fails(
    provider: Provider, cache: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    shutil.copy(layout("ext4-mbr-primary", cache), disk)
    disk.chmod(0o600)
    head = disk.read_bytes()[:512]
    parameters = {"img_id": "null", "img_format": "diskdump", "img_properties": {"USERS": "nobody-of-that-name"}}
    outcome = provider.run(Instance(NAME, (disk,), parameters=parameters | {"img_passwd": "x"}))
    assert outcome.code == 6
    assert "nobody-of-that-name" in outcome.last_line
    assert "/etc/shadow" in outcome.last_line
    assert disk.read_bytes()[:440] == head[:440]
    assert probe(disk, 1).type == "ext4"


@pytest.mark.parametrize(
    ("properties", "done", "undone"),
    [
        ({"EXCLUDE_ALL_TASKS": "yes"}, set(), {"FixPartitionTable", "MountImage"}),
        (
            {"EXCLUDE_MOUNTED_TASKS": True},
            {"FixPartitionTable", "FilesystemResizeUnmounted"},
            {"MountImage", "AssignHostname", "UmountImage"},
        ),
        ({"exclude_task_assignhostname": 1}, {"FixPartitionTable", "DeleteSSHKeys"}, {"AssignHostname"}),
        ({"EXCLUDE_FILESYSTEMRESIZE_TASKS": "on"}, {"FixPartitionTable", "AssignHostname"}, set()),
    ],
)
def test_what_is_excluded_is_not_done(
    provider: Provider, image: str, tmp_path: Path, properties: dict[str, object], done: set[str], undone: set[str]
) -> None:
    disk = sparse(tmp_path / "disk", 1024)
    parameters = {"img_id": image, "img_format": "diskdump", "img_properties": properties}
    outcome = provider.run(Instance(NAME, (disk,), parameters=parameters))
    assert outcome.code == 0, outcome.log
    skipped = {line.split()[2] for line in outcome.log.splitlines() if line.startswith("[WARNING] Task ")}
    ended = {str(message["task"]) for message in outcome.messages if message.get("subtype") == "task-end"}
    assert done <= ended - skipped
    assert not undone & (ended - skipped)
    assert properties == {"EXCLUDE_ALL_TASKS": "yes"} or undone <= ended
    hostname = read_file(Tree(disk, 1), "/etc/hostname").decode().strip()
    assert hostname == (HOSTNAME if "AssignHostname" in undone or not done else NAME)


def test_a_payload_too_large_for_a_floppy_arrives_all_the_same(provider: Provider, image: str, tmp_path: Path) -> None:
    disk = sparse(tmp_path / "disk", 1024)
    # One environment string is at most 128 KiB, so the large set of files comes from a variant, as creators write it.
    contents = base64.b64encode(bytes(range(256)) * 8000).decode()
    provider.configure("large", IMG_PERSONALITY=f'[{{"path": "/srv/large", "contents": "{contents}"}}]')
    instance = Instance(NAME, (disk,), parameters={"img_id": image, "img_format": "diskdump"})
    outcome = provider.run(instance, OS_VARIANT="large")
    assert outcome.code == 0, outcome.log
    assert read_file(Tree(disk, 1), "/srv/large") == bytes(range(256)) * 8000


@pytest.mark.parametrize("device", ["floppy", "disk"])
def test_the_job_arrives_on_either_device(
    provider: Provider, cache: Path, image: str, tmp_path: Path, device: str
) -> None:
    disk = sparse(tmp_path / "disk", 1024)
    provider.configure(HELPER_DIR=str(cache / "helper"), HELPER_CONFIG_DEVICE=device)
    try:
        outcome = provider.run(Instance(NAME, (disk,), parameters={"img_id": image, "img_format": "diskdump"}))
    finally:
        provider.configure(HELPER_DIR=str(cache / "helper"))
    assert outcome.code == 0, outcome.log
    assert read_file(Tree(disk, 1), "/etc/hostname").decode() == NAME + "\n"
