# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks full of somebody else's bytes that the helper VM divides for an archive, one after the other on one disk."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from block_devices import loop_device
from images.inspection import Probe, Tree, check_table, exists, fsck, partition_table, probe, read_file
from images.partitions import MIB
from provider import Instance, Outcome, Provider
from sparse_disks import copy_disk

pytestmark = pytest.mark.vm

NAME = "divided.example.com"
TENANT = b"of the former tenant"
SIZE = 600  # MiB
FILES = {
    "etc/os-release": b"ID=debian\nVERSION_ID=12\n",
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/shadow": b"root:*:19000:0:99999:7:::\n",
    "etc/group": b"root:x:0:\n",
    "etc/fstab": b"UUID=dead-beef / ext3 defaults 0 1\nnas:/home /home nfs rw 0 0\n/dev/sdc1 /data ext4 defaults 0 2\n",
    "boot/vmlinuz": b"a kernel",
    "boot/efi/EFI/BOOT/BOOTX64.EFI": b"a loader",
    "usr/lib/systemd/systemd": b"",
}


@dataclass(frozen=True)
class Divided:
    """The disk after a deployment, its file systems by number, and what was said."""

    disk: Path
    outcome: Outcome
    on: dict[int, Probe]

    def fstab(self, root: int) -> list[str]:
        return read_file(Tree(self.disk, root), "/etc/fstab").decode().splitlines()


@pytest.fixture(scope="module")
def disks(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Divided, Divided]]:
    """A disk with sectors of 4096 bytes: first for UEFI, with CLEAR_DISK, and reinstalled for a BIOS with less."""
    directory = tmp_path_factory.mktemp("divided")
    disk = directory / "disk"
    with disk.open("wb") as file:
        for _ in range(SIZE):
            file.write((TENANT + b"\n") * (MIB // (len(TENANT) + 1) + 1))
        file.truncate(SIZE * MIB)
    _pack(provider.images / "small.tar")
    provider.configure(HELPER_DIR=_setting(provider, "HELPER_DIR"), CLEAR_DISK="yes")
    modern = {"PARTITION_TABLE": "gpt", "BOOT_MODE": "uefi", "FILESYSTEM": "xfs", "FILESYSTEM_FEATURES": "current"}
    modern |= {"BOOT_SIZE": "100", "SWAP_SIZE": "60", "ESP_SIZE": "64"}
    with loop_device(disk, "--sector-size=4096") as device:
        first = _deployed(provider, device, disk, modern, directory / "first")
        provider.configure(HELPER_DIR=_setting(provider, "HELPER_DIR"))
        second = _deployed(provider, device, disk, {"FILESYSTEM": "btrfs", "SWAP_SIZE": "60"}, directory / "second")
    yield first, second
    shutil.rmtree(directory)


def _deployed(provider: Provider, device: Path, disk: Path, properties: dict[str, str], copy: Path) -> Divided:
    parameters = {"img_id": "small.tar", "img_format": "tarball", "img_properties": properties}
    outcome = provider.run(
        Instance(NAME, (device,), parameters=parameters), INSTANCE_HV_kernel_path="/boot/vmlinuz-of-the-node"
    )
    assert outcome.code == 0, outcome.log
    copy_disk(disk, copy)
    on = {each.number: probe(copy, each.number) for each in partition_table(copy).partitions}
    return Divided(copy, outcome, on)


def _pack(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size, entry.mode = len(content), 0o755 if "systemd" in name else 0o644
            archive.addfile(entry, io.BytesIO(content))


def _setting(provider: Provider, name: str) -> str:
    text = (provider.root / "etc/snf-image/snf-image.conf").read_text()
    return next(line.split("=", 1)[1].strip("'") for line in text.splitlines() if line.startswith(f"{name}="))


@pytest.mark.image_row(9, 34)
def test_the_guest_sees_a_valid_table_with_the_numbers_of_instance_image(disks: tuple[Divided, Divided]) -> None:
    modern, reinstalled = disks
    check_table(modern.disk)
    assert {number: (found.type, found.label) for number, found in modern.on.items()} == {
        1: ("ext4", "/boot"),
        2: ("swap", ""),
        3: ("xfs", "/"),
        4: ("vfat", "ESP"),
    }
    check_table(reinstalled.disk)
    assert {number: (found.type, found.label) for number, found in reinstalled.on.items()} == {
        1: ("swap", ""),
        2: ("btrfs", "/"),
    }
    assert partition_table(reinstalled.disk).label == "dos"
    assert partition_table(reinstalled.disk).partition(2).bootable
    for divided, numbers in ((modern, (1, 3, 4)), (reinstalled, (2,))):
        for number in numbers:
            fsck(divided.disk, number)


@pytest.mark.image_row(38)
def test_fstab_has_the_new_file_systems_and_what_else_still_means_something(disks: tuple[Divided, Divided]) -> None:
    modern, reinstalled = disks
    kept = ["nas:/home /home nfs rw 0 0", "# Not on this instance's disk: /dev/sdc1 /data ext4 defaults 0 2"]
    uuid = {number: found.uuid for number, found in modern.on.items()}
    assert modern.fstab(3)[1:] == [
        f"UUID={uuid[3]} / xfs defaults 0 1",
        "proc /proc proc defaults 0 0",
        f"UUID={uuid[1]} /boot ext4 defaults 1 2",
        f"UUID={uuid[4]} /boot/efi vfat umask=0077 0 2",
        f"UUID={uuid[2]} swap swap defaults 0 0",
        *kept,
    ]
    assert reinstalled.fstab(2)[1:] == [
        f"UUID={reinstalled.on[2].uuid} / btrfs defaults 0 1",
        "proc /proc proc defaults 0 0",
        f"UUID={reinstalled.on[1].uuid} swap swap defaults 0 0",
        *kept,
    ]
    assert "disk for /data is not here" in modern.outcome.log


def test_each_file_lies_where_the_guest_finds_it(disks: tuple[Divided, Divided]) -> None:
    modern, reinstalled = disks
    assert read_file(Tree(modern.disk, 1), "/vmlinuz") == b"a kernel"
    assert read_file(Tree(modern.disk, 4), "/EFI/BOOT/BOOTX64.EFI") == b"a loader"
    assert not exists(Tree(modern.disk, 1), "/efi/EFI")
    assert read_file(Tree(modern.disk, 3), "/etc/hostname").decode() == f"{NAME}\n"
    assert read_file(Tree(reinstalled.disk, 2), "/boot/efi/EFI/BOOT/BOOTX64.EFI") == b"a loader"


def test_nothing_of_the_former_tenant_is_left_where_the_disk_was_to_be_cleared(disks: tuple[Divided, Divided]) -> None:
    content = disks[0].disk.read_bytes()
    assert len(content) == SIZE * MIB
    assert TENANT not in content


@pytest.mark.image_row(37)
def test_a_reinstallation_has_identities_of_its_own(disks: tuple[Divided, Divided]) -> None:
    seen = [found.uuid for divided in disks for found in divided.on.values()]
    assert len(set(seen)) == len(seen) == 6


def test_no_task_grows_what_is_full_and_none_has_to_find_the_root(disks: tuple[Divided, Divided]) -> None:
    for divided in disks:
        assert "Task FixPartitionTable skipped: the helper has just divided the disk" in divided.outcome.log
        assert "Property ROOT_PARTITION is not given" not in divided.outcome.log
