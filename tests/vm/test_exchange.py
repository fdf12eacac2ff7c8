# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests of `image` that go from node to node: old streams are imported, and so is what is exported."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from exchange_streams import RANDOM, RULES, old_export
from images.inspection import Tree, check_table, fsck, list_directory, partition_table, read_file, stat_file
from images.layouts import layout
from leaks import nothing_left
from provider import Instance, Outcome, Provider
from sparse_disks import copy_disk, digest

pytestmark = pytest.mark.vm

MIB = 1 << 20
KERNEL = {"INSTANCE_HV_kernel_path": "/boot/vmlinuz-of-the-node"}


@pytest.fixture
def node(provider: Provider) -> Provider:
    image = provider.as_image()
    image.configure(FILESYSTEM="ext4", SWAP="yes", SWAP_SIZE="32")
    return image


def disk_of(tmp_path: Path, name: str, mib: int) -> Path:
    disk = tmp_path / name
    disk.write_bytes(os.urandom(MIB))  # what a former instance has left
    os.truncate(disk, mib * MIB)
    return disk


def transferred(node: Provider, script: str, disk: Path, stream: Path, **extra: str) -> tuple[Outcome, str]:
    return node.transfer(Instance("web1.example.com", (disk,)), script, stream, **extra)


def check_guest(disk: Path, partition: int, boot: str) -> None:
    """What exchange_streams has put there, and what an import changes."""
    root = Tree(disk, partition)
    fsck(disk, partition)
    assert read_file(root, "/etc/hostname") == b"web1\n"
    assert read_file(root, "/blob") == RANDOM
    blob, other, hole = (stat_file(root, path) for path in ("/blob", "/other-name", "/hole"))
    assert (blob.uid, blob.gid) == (4711, 4712)
    assert (other.size, hole.size) == (blob.size, 64 * MIB)
    assert not set(list_directory(root, "/etc/udev/rules.d")) & {Path(path).name for path in RULES}
    assert not [name for name in list_directory(root, "/") if "restore" in name or name.startswith(".")]
    if boot:
        assert read_file(root, f"{boot}/vmlinuz-6.1") == RANDOM
    table = read_file(root, "/etc/fstab").decode()
    assert re.search(r"^UUID=\S+\s+/\s+ext4\s", table, re.MULTILINE)
    assert "nas:/x /x nfs noauto" in table
    assert "444444444444" not in table


@pytest.mark.image_row(41, 45, 46, 47, 49, 52, 53, 55, 56, 59, 60, 61)
def test_an_old_stream_is_imported_and_what_is_exported_is_imported_onto_a_larger_disk(
    node: Provider, tmp_path: Path
) -> None:
    # Exported with /boot, of which this node's instance has none: its hypervisor brings the kernel.
    disk = disk_of(tmp_path, "disk", 400)
    with nothing_left(tmp_path):
        imported, _ = transferred(node, "import", disk, old_export(tmp_path), **KERNEL)
    assert imported.code == 0, imported.log
    check_table(disk)
    assert [item.type for item in partition_table(disk).partitions] == ["82", "83"]
    check_guest(disk, 2, "/boot")
    before, stream = digest(disk), tmp_path / "exported"
    with nothing_left(tmp_path):
        exported, said = transferred(node, "export", disk, stream, **KERNEL)
    assert exported.code == 0, exported.log
    assert said == f"{stream.stat().st_size}\n"
    assert digest(disk) == before
    with tarfile.open(stream) as archive:
        assert archive.getnames() == ["./root.dump"]
        head = archive.extractfile("./root.dump").read(1024)  # type: ignore[union-attr]
    assert os.uname().nodename.encode() not in head
    again = disk_of(tmp_path, "again", 500)
    imported, _ = transferred(node, "import", again, stream, **KERNEL)
    assert imported.code == 0, imported.log
    check_guest(again, 2, "/boot")
    check_rename(node, disk)


def check_rename(node: Provider, disk: Path) -> None:
    """A guest of another name is left alone; one with the short form of a deep name gets the new short form."""
    for old, code in (("mail.example.com", 1), ("web1.in.a.deep.example.com", 0)):
        renamed = node.run(Instance("web2.example.org", (disk,)), "rename", OLD_INSTANCE_NAME=old, **KERNEL)
        assert renamed.code == code, renamed.log
        if code:
            assert renamed.log.splitlines()[-2:] == [
                "[ERROR] Cannot rename from mail.example.com to web2.example.org:",
                "[ERROR] Instance has a different hostname (web1)",
            ]
        assert read_file(Tree(disk, 2), "/etc/hostname") == (b"web1\n" if code else b"web2\n")


@pytest.mark.image_row(48, 51)
def test_what_dumps_do_not_tell_is_exported_whole_and_what_breaks_off_does_not_boot(
    node: Provider, cache: Path, tmp_path: Path
) -> None:
    xfs = tmp_path / "xfs"
    copy_disk(layout("xfs-gpt", cache), xfs)
    stream = tmp_path / "exported"
    exported, said = transferred(node, "export", xfs, stream, **KERNEL)
    assert exported.code == 0, exported.log
    assert "exported whole, as an image: xfs cannot be dumped" in exported.log
    assert said == f"{stream.stat().st_size}\n"
    with tarfile.open(stream) as archive:
        member = archive.getmember("./disk.img")
        content = archive.extractfile(member)
        assert content
        whole = hashlib.sha256(content.read()).digest()
    with xfs.open("rb") as file:
        assert whole == hashlib.file_digest(file, "sha256").digest()
    # The first dump is whole, and the second one breaks off.
    old = old_export(tmp_path)
    os.truncate(old, old.stat().st_size * 3 // 4)
    disk = disk_of(tmp_path, "disk", 400)
    with nothing_left(tmp_path):
        imported, _ = transferred(node, "import", disk, old, **KERNEL)
    assert imported.code != 0
    assert "the stream ends too early" in imported.last_line
    with disk.open("rb") as file:
        assert not any(file.read(MIB))


@pytest.mark.image_row(50)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_export_that_is_killed_while_the_vm_makes_dumps_leaves_nothing(
    node: Provider, cache: Path, tmp_path: Path, number: signal.Signals
) -> None:
    disk = layout("ext4-mbr-primary", cache)
    before = digest(disk)
    instance = Instance("web1.example.com", (disk,))
    env = instance.environment() | KERNEL | {"OS_NAME": "image", "EXPORT_DEVICE": str(disk), "EXPORT_INDEX": "0"}
    command = [str(node.os_directory / "export")]
    with (
        nothing_left(tmp_path),
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, cwd=node.os_directory, env=env, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdout
        begun = process.stdout.read(16)
        process.send_signal(number)
        process.stdout.read()
    assert process.returncode != 0
    assert begun.startswith(b"./root.dump"), (tmp_path / "log").read_text()
    assert digest(disk) == before
