# SPDX-License-Identifier: GPL-2.0-or-later
"""The OS definition `image` through a real helper VM, as Ganeti calls it."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from http_server import Answer, http_server
from images.inspection import Tree, partition_table, read_file
from images.layouts import LAYOUTS, layout
from provider import Instance, Provider

pytestmark = pytest.mark.vm

MIB = 1 << 20
NAME = "web1.example.com"
NIC = {"MAC": "aa:00:00:af:2b:34", "MODE": "bridged"}


@pytest.fixture
def image(provider: Provider, tmp_path: Path) -> Iterator[Provider]:
    """The definition `image`, whose settings are put back."""
    etc = provider.root / "etc/ganeti/instance-image"
    shutil.copytree(etc, tmp_path / "before", symlinks=True)
    yield provider.as_image()
    shutil.rmtree(etc)
    shutil.copytree(tmp_path / "before", etc, symlinks=True)


def switch_on(image: Provider, *names: str) -> None:
    hooks = image.root / "etc/ganeti/instance-image/hooks"
    for hook in hooks.iterdir():
        hook.chmod(0o755 if hook.name in names else 0o644)


@pytest.mark.image_row(8, 21, 24, 39, 43, 71, 76, 81, 98, 99)
def test_a_qcow2_is_deployed_and_what_is_switched_on_is_done_and_nothing_else(
    image: Provider, cache: Path, tmp_path: Path
) -> None:
    """On a disk that is larger, with the files that a cluster has, as an old Ganeti asks for it."""
    raw = layout("ext4-mbr-primary", cache)
    shutil.rmtree(image.images / "snf-image", ignore_errors=True)
    convert = [
        "qemu-img",
        "convert",
        "-f",
        "raw",
        "-O",
        "qcow2",
        str(raw),
        str(image.images / "debian-13-x86_64.qcow2"),
    ]
    subprocess.run(convert, check=True)
    image.configure(ARCH="x86_64", IMAGE_TYPE="qcow2")
    (image.root / "etc/ganeti/instance-image/variants/default.conf").write_text(
        'SUITE=13\nexport SUITE\nIMAGE_NAME="debian-$SUITE"\n'
    )
    networks = image.root / "etc/ganeti/instance-image/networks"
    (networks / "instances" / NAME).write_text("ADDRESS=192.0.2.7\nSUBNET=office\n")
    (networks / "subnets/office").write_text("NETMASK=255.255.255.0\nGATEWAY=192.0.2.1\n")
    switch_on(image, "interfaces", "ssh")
    disks = (tmp_path / "disk0", tmp_path / "disk1")
    for disk, size in zip(disks, (raw.stat().st_size + 64 * MIB, 4 * MIB), strict=True):
        disk.write_bytes(b"\xa5" * size)

    instance = Instance(NAME, disks, (NIC,))
    serial = {"INSTANCE_HV_serial_console": "True", "INSTANCE_HV_serial_speed": "38400"}
    outcome = image.run(instance, OS_API_VERSION="15", **serial)

    assert outcome.code == 0, outcome.log
    tree, before = Tree(disks[0], LAYOUTS["ext4-mbr-primary"].root), Tree(raw, LAYOUTS["ext4-mbr-primary"].root)
    assert read_file(tree, "/etc/hostname") == b"web1\n"  # as the hook did it in the family of Debian
    interfaces = read_file(tree, "/etc/network/interfaces").decode()
    assert {"address 192.0.2.7", "netmask 255.255.255.0", "gateway 192.0.2.1"} <= set(
        map(str.strip, interfaces.split("\n"))
    )
    key = "/etc/ssh/ssh_host_ed25519_key"
    assert read_file(tree, key) != read_file(before, key)
    assert read_file(tree, "/etc/fstab") == read_file(before, "/etc/fstab")
    assert partition_table(disks[0]) == partition_table(raw)
    with disks[0].open("rb") as deployed, raw.open("rb") as source:
        assert deployed.read(440) == source.read(440)  # the boot sector's program: no loader was installed
    assert disks[1].read_bytes() == b"\xa5" * (4 * MIB)
    assert "The kernel's arguments stay as they are" in outcome.log


@pytest.mark.image_row(17, 86)
def test_both_dumps_have_to_be_at_the_url_before_anything_is_written(image: Provider, tmp_path: Path) -> None:
    # The first record of a dump: its type, the volume, and the magic number.
    root = struct.pack("<i8xi8xi", 1, 1, 60012).ljust(1 << 16, b"\0")
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xa5" * (4 * MIB))
    with http_server({"/deb-x86-root.dump": Answer(root)}) as server:
        image.configure(IMAGE_URL=server.url, IMAGE_VERIFY="no", SWAP="no")
        image.configure("default", IMAGE_NAME="deb", ARCH="x86")
        outcome = image.run(Instance(NAME, (disk,)))
        assert [each.target for each in server.asked if each.target.endswith("-boot.dump")], outcome.log
    assert (outcome.code, "boot.dump" in outcome.last_line) == (4, True)
    assert disk.read_bytes() == b"\xa5" * (4 * MIB)
