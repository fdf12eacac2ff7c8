# SPDX-License-Identifier: GPL-2.0-or-later
"""Instances with more than one disk, with a disk that is no file, and with no image at all."""

from __future__ import annotations

import base64
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from block_devices import loop_device
from images.inspection import Tree, check_table, probe, read_file
from images.layouts import HOSTNAME, layout
from leaks import nothing_left
from nbd_server import nbd_server
from provider import Instance, Provider
from sparse_disks import copy_disk

pytestmark = pytest.mark.vm

NAME = "disks.example.com"


@pytest.fixture
def image(provider: Provider, cache: Path) -> str:
    """The img_id of a small image."""
    copy_disk(layout("ext4-gpt", cache), provider.images / "disks.diskdump")
    return "disks.diskdump"


def sparse(path: Path, mib: int) -> Path:
    """A file disk."""
    with path.open("wb") as file:
        file.truncate(mib << 20)
    return path


@pytest.mark.row(5, 94, 95, 96)
def test_every_disk_reaches_the_helper_in_order_but_for_the_firmwares_and_the_second_becomes_swap(
    provider: Provider, image: str, tmp_path: Path
) -> None:
    """14 disks with commas and blanks in their names, of a Xen instance, and Ganeti's firmware disk among them."""
    disks = [sparse(tmp_path / f"disk {index},='\"", 1024 if not index else 16 + index) for index in range(14)]
    firmware = tmp_path / "firmware"
    firmware.write_bytes(b"GNTOVMF\0" + os.urandom(1 << 20))
    before = (firmware.read_bytes(), firmware.stat().st_mtime_ns)
    script = (
        '#!/bin/sh\nfor d in /sys/block/vd*; do echo "$(cat $d/serial) $(cat $d/size) $(cat $d/ro)" >&2; done; exit 9'
    )
    parameters = {
        "img_id": image,
        "img_format": "diskdump",
        "img_properties": {"SWAP": "b", "CUSTOM_TASK": base64.b64encode(script.encode()).decode()},
    }
    instance = Instance(NAME, (*disks[:7], firmware, *disks[7:]), parameters=parameters)
    with firmware.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # a lock that the provider would have to wait for
        outcome = provider.run(
            instance, DISK_14_ACCESS="ro", HYPERVISOR="xen-pvm", INSTANCE_HV_disk_type="ide", DISK_0_FRONTEND_TYPE="ide"
        )
    assert outcome.code == 6, "the custom task fails, so that what it says is told"
    listed = [line for line in outcome.log.splitlines() if "snf-disk-" in line]
    # The last ten lines of a failed program are told; the disks' are the alphabetical last, and the config device's.
    for index, disk in list(enumerate(disks))[5:]:
        sectors, readonly = disk.stat().st_size // 512, int(index == 13)
        assert any(f"snf-disk-{index} {sectors} {readonly}" in line for line in listed), listed
    assert (firmware.read_bytes(), firmware.stat().st_mtime_ns) == before


@pytest.mark.row(97)
def test_disks_behind_uris_are_deployed_like_files(provider: Provider, image: str, tmp_path: Path) -> None:
    disks = (sparse(tmp_path / "one", 1024), sparse(tmp_path / "two", 64), tmp_path / "three")
    disks[2].write_bytes(b"left alone" * 100_000)
    parameters = {"img_id": image, "img_format": "diskdump", "img_properties": {"SWAP": "b"}}
    with nothing_left(tmp_path), ExitStack() as stack:
        uris = [stack.enter_context(nbd_server(disk)) for disk in disks]
        remote = {f"DISK_{index}_PATH": "" for index in range(3)} | {f"DISK_{i}_URI": uri for i, uri in enumerate(uris)}
        outcome = provider.run(Instance(NAME, disks, parameters=parameters), DISK_2_ACCESS="ro", **remote)
        assert outcome.code == 0, outcome.log
    check_table(disks[0])
    assert read_file(Tree(disks[0], 1), "/etc/hostname").decode() == NAME + "\n"
    assert b"SWAPSPACE2" in disks[1].read_bytes()[:4096]
    assert disks[2].read_bytes() == b"left alone" * 100_000
    assert not [path for path in (provider.root / "run/snf-image").iterdir() if not path.name.startswith("kvm-")]


def test_a_killed_deployment_leaves_no_disk_behind_a_uri_that_boots(
    provider: Provider, image: str, tmp_path: Path
) -> None:
    disk = sparse(tmp_path / "one", 1024)
    parameters = {"img_id": image, "img_format": "diskdump"}
    with nbd_server(disk) as uri:
        with nothing_left(tmp_path):
            process = provider.start(Instance(NAME, (disk,), parameters=parameters), DISK_0_PATH="", DISK_0_URI=uri)
            assert process.stdout
            assert next((line for line in process.stdout if "task-start" in line), None), "no task was started"
            assert disk.read_bytes()[:512].strip(b"\0"), "the boot sector is there already"
            process.kill()
            process.communicate(timeout=600)
        with disk.open("rb") as file:
            assert not any(file.read(1 << 20))
            file.seek(-(1 << 20), os.SEEK_END)
            assert not any(file.read(1 << 20))


def test_block_devices_are_deployed_like_files_and_the_whole_second_becomes_swap(
    provider: Provider, image: str, tmp_path: Path
) -> None:
    files = (sparse(tmp_path / "one", 1024), sparse(tmp_path / "two", 64))
    with loop_device(files[0]) as first, loop_device(files[1]) as second:
        parameters = {"img_id": image, "img_format": "diskdump", "img_passwd": "x", "img_properties": {"SWAP": "b"}}
        outcome = provider.run(Instance(NAME, (first, second), parameters=parameters))
        assert outcome.code == 0, outcome.log
    check_table(files[0])
    assert read_file(Tree(files[0], 1), "/etc/hostname").decode() == NAME + "\n"
    assert b"SWAPSPACE2" in files[1].read_bytes()[:4096]
    assert b" swap " in read_file(Tree(files[0], 1), "/etc/fstab").replace(b"\t", b" ")


@pytest.mark.row(59)
def test_null_customises_what_is_on_the_disk(provider: Provider, cache: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    copy_disk(layout("ext4-mbr-primary", cache), disk)
    disk.chmod(0o600)
    outcome = provider.run(Instance(NAME, (disk,), parameters={"img_id": "null", "img_format": "diskdump"}))
    assert outcome.code == 0, outcome.log
    assert read_file(Tree(disk, 1), "/etc/hostname").decode() == NAME + "\n"


@pytest.mark.row(59)
def test_null_leaves_the_disk_bootable_when_the_customisation_fails(
    provider: Provider, cache: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    copy_disk(layout("ext4-mbr-primary", cache), disk)
    disk.chmod(0o600)
    head = disk.read_bytes()[:512]
    parameters = {"img_id": "null", "img_format": "diskdump", "img_properties": {"USERS": "nobody-of-that-name"}}
    outcome = provider.run(Instance(NAME, (disk,), parameters=parameters | {"img_passwd": "x"}))
    assert outcome.code == 6
    assert "nobody-of-that-name" in outcome.last_line
    assert "/etc/shadow" in outcome.last_line
    assert disk.read_bytes()[:440] == head[:440]
    assert probe(disk, 1).type == "ext4"


@pytest.fixture
def device(request: pytest.FixtureRequest, provider: Provider, cache: Path) -> Iterator[str]:
    """On what the job comes; the settings are put back afterwards."""
    provider.configure(HELPER_DIR=str(cache / "helper"), HELPER_CONFIG_DEVICE=request.param)
    yield request.param
    provider.configure(HELPER_DIR=str(cache / "helper"))


@pytest.mark.parametrize(
    ("device", "properties", "done", "undone"),
    [
        (
            "disk",
            {"EXCLUDE_MOUNTED_TASKS": True},
            {"FixPartitionTable", "FilesystemResizeUnmounted"},
            {"MountImage", "AssignHostname", "UmountImage"},
        ),
        ("disk", {"exclude_task_assignhostname": 1}, {"FixPartitionTable", "DeleteSSHKeys"}, {"AssignHostname"}),
        ("floppy", {"EXCLUDE_FILESYSTEMRESIZE_TASKS": "on"}, {"FixPartitionTable", "AssignHostname"}, set()),
    ],
    indirect=["device"],
)
def test_the_job_arrives_on_either_device_and_what_it_excludes_is_not_done(
    provider: Provider,
    image: str,
    tmp_path: Path,
    device: str,
    properties: dict[str, object],
    done: set[str],
    undone: set[str],
) -> None:
    disk = sparse(tmp_path / "disk", 1024)
    parameters = {"img_id": image, "img_format": "diskdump", "img_properties": properties}
    outcome = provider.run(Instance(NAME, (disk,), parameters=parameters))
    assert outcome.code == 0, outcome.log
    skipped = {line.split()[2] for line in outcome.log.splitlines() if line.startswith("[WARNING] Task ")}
    ended = {str(message["task"]) for message in outcome.messages if message.get("subtype") == "task-end"}
    assert done <= ended - skipped
    assert not undone & (ended - skipped)
    assert undone <= ended
    hostname = read_file(Tree(disk, 1), "/etc/hostname").decode().strip()
    assert hostname == (HOSTNAME if "AssignHostname" in undone else NAME)


def test_a_payload_too_large_for_a_floppy_arrives_all_the_same(provider: Provider, image: str, tmp_path: Path) -> None:
    disk = sparse(tmp_path / "disk", 1024)
    # One environment string is at most 128 KiB, so the large set of files comes from a variant, as creators write it.
    contents = base64.b64encode(bytes(range(256)) * 8000).decode()
    provider.configure("large", IMG_PERSONALITY=f'[{{"path": "/srv/large", "contents": "{contents}"}}]')
    instance = Instance(NAME, (disk,), parameters={"img_id": image, "img_format": "diskdump"})
    outcome = provider.run(instance, OS_VARIANT="large")
    assert outcome.code == 0, outcome.log
    assert read_file(Tree(disk, 1), "/srv/large") == bytes(range(256)) * 8000
