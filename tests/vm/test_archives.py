# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps restored by the installed create in the real helper VM, by its own restore: compared file by file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from block_devices import loop_device
from images.inspection import fsck, partition_table
from images.partitions import SECTOR
from provider import Instance, Provider
from unit.helper.disk_images import private_mounts, sh
from unit.helper.new_trees import MIB, Seen, file_system, seen
from unit.helper.test_unpacking import at_whole_seconds, plant

pytestmark = pytest.mark.vm

NAME = "dumped.example.com"
OWN_KERNEL = {"INSTANCE_HV_kernel_path": "/boot/vmlinuz"}


@pytest.mark.image_row(9, 15, 16, 18)
def test_a_dump_is_restored_whole_and_a_cut_one_is_told(provider: Provider) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        room, image, disk = Path(name), provider.images / "guest.dump", Path(name, "disk")
        kernels = provider.images / "kernels.dump"
        with private_mounts():
            with file_system(room / "guest", 64) as root:
                plant(root)
                truth = at_whole_seconds(seen(root))
            with file_system(room / "kernels", 16) as boot:
                (boot / "System.map").write_bytes(b"symbols")
            for file, dump in (("guest", image), ("kernels", kernels)):
                with loop_device(room / file, "--read-only") as device:
                    sh("dump", "-0", "-q", "-z9", "-f", str(dump), str(device))
        disk.touch()
        os.truncate(disk, 256 * MIB)
        properties = {"EXCLUDE_ALL_TASKS": "yes", "FILESYSTEM": "ext4", "BOOT_IMAGE": kernels.name}
        parameters = {"img_id": image.name, "img_format": "dump", "img_properties": properties}
        instance = Instance(NAME, (disk,), parameters=parameters)
        outcome = provider.run(instance, **OWN_KERNEL)
        assert outcome.code == 0, outcome.log
        (partition,) = partition_table(disk).partitions
        fsck(disk, partition.number)
        found = _files_of(disk, partition.start * SECTOR, room / "found")
        same = truth.keys() - {b".", b"boot", b"etc"}  # their dates are those of what is put there afterwards
        assert {path: found[path] for path in same} == {path: truth[path] for path in same}
        made = {b"etc/fstab", b"dev", b"proc", b"run", b"sys", b"tmp"}
        assert found.keys() - truth.keys() == {*made, b"boot/System.map"}
        os.truncate(image, image.stat().st_size // 2)
        outcome = provider.run(instance, **OWN_KERNEL)
        image.unlink()
        kernels.unlink()
        assert outcome.code != 0
        assert "cannot be unpacked" in outcome.log
        assert "cut short" in outcome.log


def _files_of(disk: Path, offset: int, place: Path) -> dict[bytes, Seen]:
    place.mkdir()
    with private_mounts(), loop_device(disk, "--read-only", f"--offset={offset}") as device:
        sh("mount", "-o", "ro,noload", str(device), str(place))
        try:
            return seen(place)
        finally:
            sh("umount", str(place))
