# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump of a file system, from a program of the administrator's own to a disk that grows and whose loader starts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from images.grub import boot_sector, placed_core
from images.inspection import Tree, check_table, filesystem_size, fsck, partition_table, read_file
from images.layouts import LAYOUTS, layout
from images.partitions import MIB, SECTOR, SECTORS_PER_MIB
from provider import Instance, Outcome, Provider

pytestmark = pytest.mark.vm

NAME = "dump.example.com"
BLOCK = 4096
MODULES = ("biosdisk", "part_msdos", "ext2", "serial", "terminal", "echo", "cat", "reboot")
SCRIPT = """serial --unit=0 --speed=115200
terminal_output serial
echo this loader is in the instance of
cat (hd0,msdos1)/etc/hostname
reboot
"""
PROGRAM = """#!/bin/sh
case $1 in
-p) case $2 in test-store://*) echo yes;; *) echo no;; esac;;
-s) stat -c %s "{directory}/${{2#test-store://}}";;
*) cat "{directory}/${{1#test-store://}}";;
esac
"""


@dataclass(frozen=True)
class Deployed:
    """A dump, where it was deployed, and what was said."""

    dump: Path
    disk: Path
    outcome: Outcome


@pytest.fixture(scope="module")
def deployed(provider: Provider, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The dump on a disk that is 100 MiB larger than what it takes."""
    directory = tmp_path_factory.mktemp("dump")
    dump = directory / "debian.extdump"
    disk = directory / "disk"
    make_dump(layout("ext4-mbr-primary", cache), dump, directory)
    with disk.open("wb") as file:
        file.truncate(dump.stat().st_size + 101 * MIB)
    program = provider.os_directory / "backends/src/test-store"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM.format(directory=directory))
    program.chmod(0o755)
    parameters = {
        "img_id": "test-store://debian.extdump",
        "img_format": "extdump",
        "img_properties": {"EXCLUDE_TASK_DeleteSSHKeys": "yes"},  # new keys take long
    }
    try:
        outcome = provider.run(Instance(NAME, (disk,), parameters=parameters))
    finally:
        shutil.rmtree(provider.os_directory / "backends")
    assert outcome.code == 0, outcome.log
    yield Deployed(dump, disk, outcome)
    shutil.rmtree(directory)


def make_dump(image: Path, dump: Path, scratch: Path) -> None:
    """The root file system of the image, with GRUB in its first sector and in a file."""
    (root,) = LAYOUTS["ext4-mbr-primary"].table.partitions
    copy = ["dd", f"if={image}", f"of={dump}", "bs=1M", f"skip={root.offset // MIB}", f"count={root.length // MIB}"]
    subprocess.run([*copy, "conv=sparse", "status=none"], check=True)
    core, script = scratch / "core.img", scratch / "early.cfg"
    script.write_text(SCRIPT)
    make = ["grub-mkimage", "-O", "i386-pc", "-c", str(script), "-p", "/", "-o", str(core)]
    subprocess.run([*make, *MODULES], check=True)
    subprocess.run(["debugfs", "-w", "-R", f"write {core} /boot/core.img", dump], check=True, capture_output=True)
    told = subprocess.run(["debugfs", "-R", "blocks /boot/core.img", dump], check=True, capture_output=True, text=True)
    first, *blocks = map(int, told.stdout.split())
    assert blocks == list(range(first + 1, first + 1 + len(blocks))), "in one piece"
    sector = SECTORS_PER_MIB + first * BLOCK // SECTOR
    with dump.open("r+b") as file:
        loader = Path("/usr/lib/grub/i386-pc/boot.img").read_bytes()
        file.write(boot_sector(loader, bytes(70) + b"\x55\xaa", sector))
        file.seek(first * BLOCK)
        file.write(placed_core(core.read_bytes(), sector))


@pytest.mark.row(46, 73)
def test_what_the_format_says_reaches_the_helper_which_looks_for_nothing(deployed: Deployed) -> None:
    assert "is not given" not in deployed.outcome.log
    started = [message["task"] for message in deployed.outcome.messages if message.get("subtype") == "task-start"]
    assert {"FixPartitionTable", "FilesystemResizeUnmounted", "AssignHostname"} <= {*started}


@pytest.mark.row(72)
def test_the_partition_and_its_file_system_grow_to_the_end_of_the_disk(deployed: Deployed) -> None:
    check_table(deployed.disk)
    root = partition_table(deployed.disk).partition(1)
    assert (root.start, root.type, root.bootable) == (SECTORS_PER_MIB, "83", True)
    assert root.length == deployed.disk.stat().st_size - 2 * MIB
    assert filesystem_size(deployed.disk, 1) == root.length
    fsck(deployed.disk, 1)
    assert read_file(Tree(deployed.disk, 1), "/etc/hostname").decode() == NAME + "\n"


@pytest.mark.row(76)
def test_a_bios_starts_the_loader_of_the_dump_which_reads_its_file_system(deployed: Deployed, tmp_path: Path) -> None:
    machine = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "pc", "-accel", "tcg", "-m", "64"]
    machine += ["-display", "none", "-no-reboot", "-serial", f"file:{tmp_path}/said"]
    subprocess.run([*machine, "-drive", f"file={deployed.disk},format=raw,if=virtio"], check=True, timeout=600)
    said = " ".join((tmp_path / "said").read_text(errors="replace").split())
    assert f"this loader is in the instance of {NAME}" in said
