# SPDX-License-Identifier: GPL-2.0-or-later
"""The definition `image` on a cluster, with the files of a cluster that had instance-image, and a watch over the node.

The guest is a small tree like a Devuan's, which Ganeti gives its kernel: other tests make boot loaders, and boot them.
"""

from __future__ import annotations

import random
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ganeti.cluster import NODE, RESOLVABLE, Cluster, Order
from ganeti.traces import files
from ganeti.watch import Watch
from images.inspection import Tree, partition_table, probe, read_file, stat_file
from phony_guests import PHONY
from snf_image_shared.process import run

pytestmark = pytest.mark.ganeti

NAME, RENAMED, IMPORTED, RESTORED = "old.example.com", RESOLVABLE, "copy.example.com", "restored.example.com"
KERNEL = "/boot/vmlinuz-of-the-node"
IMAGES, ETC = "/var/cache/ganeti-instance-image", "/etc/ganeti/instance-image"
SWAP, ROOT = 1, 2
MIB = 1 << 20
# As an administrator of 0.7.3 had it, but for FDISK=sfdisk, which was the default.
DEFAULTS = f"""# Default settings for ganeti-instance-image
CDINSTALL="no"
SWAP=yes
SWAP_SIZE="32"
FILESYSTEM='ext4'
FDISK="parted"
IMAGE_NAME="tiny"
IMAGE_TYPE="tarball"
ARCH="x86_64"
IMAGE_DIR="{IMAGES}"
OVERLAY="greeting"
"""
VARIANTS = {
    "default": "",
    "dumped": 'IMAGE_TYPE="dump"\nIMAGE_NAME="tiny"\nOVERLAY=""\n',
    "whole": 'IMAGE_TYPE="raw"\nIMAGE_NAME="noise"\nNOMOUNT="yes"\n',
    "cd": 'CDINSTALL="yes"\n',
}
HOOK = """#!/bin/bash
set -e
. common.sh
get_os_type
echo "$OS_TYPE $INSTANCE_NAME $IMAGE_TYPE" >"$TARGET/etc/hooked"
"""
# As 0.7.3 exports: the file system as a compressed dump, below "./" in a tar. $1 the directory, $2 the tree.
OLD_EXPORT = """
cd "$1"
mkdir mounted stream
truncate --size=200M file-system
mkfs.ext3 -Fq -L / file-system
loop=$(losetup --find --show file-system)
mount "$loop" mounted
cp --archive "$2/." mounted
umount mounted
dump -0 -q -z9 -f stream/root.dump "$loop"
losetup --detach "$loop"
tar --create --file stream.tar --directory stream .
"""


@dataclass(frozen=True)
class Guest:
    """What the tests want to know of a deployed disk, read from it at once."""

    hostname: str
    interfaces: str
    fstab: str
    motd: bytes
    hooked: str
    owner: tuple[int, int]


def order(name: str, variant: str = "default", size: int = 256) -> Order:
    """An instance of `image` on one disk of so many MiB."""
    kvm = f"kvm:kernel_path={KERNEL}"
    return Order(name, disks=(f"size={size}M",), nics=("ip=none",), hypervisor=kvm, os=f"image+{variant}")


@pytest.fixture(scope="module")
def watch(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Settles the node like one that had instance-image, and watches it until all tests here are over."""
    node = cluster.node
    before = files(node)
    node.write(KERNEL, "")
    node.write("/etc/default/ganeti-instance-image", DEFAULTS)
    node.write(f"{ETC}/variants.list", "".join(f"{name}\n" for name in VARIANTS))
    for name, text in VARIANTS.items():
        node.write(f"{ETC}/variants/{name}.conf", text)
    node.write(f"{ETC}/networks/subnets/lab", "NETMASK=255.255.255.0\nGATEWAY=192.0.2.1\n")
    node.write(f"{ETC}/networks/instances/{NAME}", "ADDRESS=192.0.2.99\nSUBNET=lab\n")
    node.write(f"{ETC}/overlays/greeting/etc/motd", "from the overlay\n", 0o640)
    node.write(f"{ETC}/hooks/50-note", HOOK, 0o755)
    for hook in ("interfaces", "overlays"):
        (node.root / f"{ETC[1:]}/hooks" / hook).chmod(0o755)
    scratch = tmp_path_factory.mktemp("tiny")
    images = node.root / IMAGES[1:]
    images.mkdir(parents=True, exist_ok=True)
    tree = PHONY["phony-devuan-5"].make(scratch / "tree")
    shutil.chown(tree / "etc/hosts", 4711, 4712)
    with tarfile.open(images / "tiny-x86_64.tar.gz", "w:gz") as archive:
        archive.add(tree, ".")
    run(["unshare", "--mount", "bash", "-euc", OLD_EXPORT, "old", str(scratch), str(tree)])
    shutil.copy(scratch / "stream/root.dump", images / "tiny-x86_64-root.dump")
    shutil.copy(scratch / "stream.tar", images / "stream.tar")
    (images / "noise-x86_64.raw").write_bytes(random.Random(7).randbytes(4 * MIB))
    settled = files(node) - before
    with Watch.over(node) as watching:
        yield watching
    for name in set(cluster.instances()) & {NAME, RENAMED, IMPORTED, RESTORED, "cd.example.com", "whole.example.com"}:
        cluster.remove(name)
    if RENAMED in cluster.gnt("backup", "list", "--no-headers", "--output=export"):
        cluster.gnt("backup", "remove", RENAMED)
    for path in (node.root / name for name in sorted(settled, reverse=True)):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.fixture(scope="module")
def added(cluster: Cluster, watch: Watch) -> Guest:
    cluster.add(order(NAME))
    return guest(cluster, NAME)


@pytest.fixture(scope="module")
def reinstalled(cluster: Cluster, added: Guest) -> Guest:
    """Installed again, from a dump, over a disk whose head was lost."""
    with cluster.disks(NAME)[0].open("r+b") as disk:
        disk.write(bytes(2 * MIB))
    cluster.gnt("instance", "reinstall", "-f", "-o", "image+dumped", NAME)
    return guest(cluster, NAME)


@pytest.fixture(scope="module")
def renamed(cluster: Cluster, reinstalled: Guest) -> Guest:
    cluster.gnt("instance", "rename", NAME, RENAMED)
    return guest(cluster, RENAMED)


@pytest.fixture(scope="module")
def exported(cluster: Cluster, renamed: Guest) -> Path:
    """The stream that Ganeti keeps of the only disk."""
    before = cluster.disks(RENAMED)[0].read_bytes()
    cluster.gnt("backup", "export", f"--node={NODE}", RENAMED)
    assert cluster.disks(RENAMED)[0].read_bytes() == before
    directory = cluster.node.root / "var/lib/ganeti/export" / RENAMED
    (stream,) = (path for path in directory.iterdir() if path.name != "config.ini")
    return stream


def guest(cluster: Cluster, name: str) -> Guest:
    tree = Tree(cluster.disks(name)[0], ROOT)

    def text(path: str) -> str:
        try:
            return read_file(tree, path).decode()
        except FileNotFoundError:
            return ""

    owner = stat_file(tree, "/etc/hosts")
    return Guest(
        text("/etc/hostname").strip(),
        text("/etc/network/interfaces"),
        text("/etc/fstab"),
        text("/etc/motd").encode(),
        text("/etc/hooked").strip(),
        (owner.uid, owner.gid),
    )


def imported(cluster: Cluster, name: str) -> str:
    """Import what lies in the directory of the export."""
    source = (f"--src-node={NODE}", f"--src-dir={RENAMED}", f"--node={NODE}", "-t", "file")
    return cluster.gnt("backup", "import", *source, "--no-ip-check", "--no-name-check", "--net", "0:mac=generate", name)


@pytest.mark.image_row(8, 99)
def test_ganeti_finds_the_definition_valid_with_the_administrators_variants(cluster: Cluster, watch: Watch) -> None:
    said = cluster.gnt("os", "diagnose")
    assert "image" in said.split()
    listed = cluster.gnt("os", "list", "--no-headers").split()
    assert {f"image+{variant}" for variant in VARIANTS} <= set(listed)


@pytest.mark.image_row(10, 11, 27, 99)
def test_add_unpacks_the_tarball_into_the_old_layout(cluster: Cluster, added: Guest) -> None:
    disk = cluster.disks(NAME)[0]
    found = partition_table(disk)
    assert [(each.number, each.type, each.bootable) for each in found.partitions] == [(1, "82", False), (2, "83", True)]
    assert (probe(disk, SWAP).type, probe(disk, ROOT).type, probe(disk, ROOT).label) == ("swap", "ext4", "/")
    assert f"UUID={probe(disk, ROOT).uuid}" in added.fstab
    assert added.owner == (4711, 4712)


@pytest.mark.image_row(64, 65, 66, 71, 82)
def test_hooks_overlay_and_network_files_of_the_node_reach_the_guest(added: Guest) -> None:
    assert added.motd == b"from the overlay\n"
    assert added.hooked == f"debian {NAME} tarball"
    assert "192.0.2.99" in added.interfaces
    assert added.hostname == NAME.partition(".")[0]


@pytest.mark.image_row(15, 18)
def test_reinstall_makes_the_guest_anew_from_a_dump(cluster: Cluster, reinstalled: Guest) -> None:
    assert reinstalled.hooked == f"debian {NAME} dump"
    assert (reinstalled.motd, reinstalled.owner) == (b"", (4711, 4712))
    assert probe(cluster.disks(NAME)[0], ROOT).type == "ext4"


@pytest.mark.image_row(56)
def test_rename_renames_the_guest(renamed: Guest) -> None:
    assert renamed.hostname == RENAMED.partition(".")[0]


@pytest.mark.image_row(45, 46, 49)
def test_export_is_the_old_stream_and_leaves_the_disk_as_it_was(exported: Path) -> None:
    with tarfile.open(exported, "r:") as stream:
        names = [member.name.removeprefix("./") for member in stream if member.isreg()]
    assert names == ["root.dump"]


@pytest.mark.image_row(45, 52)
def test_import_under_another_name_makes_an_equal_guest_of_that_name(cluster: Cluster, exported: Path) -> None:
    said = imported(cluster, IMPORTED)
    assert "not imported" not in said
    there = guest(cluster, IMPORTED)
    assert (there.hooked, there.owner) == (f"debian {NAME} dump", (4711, 4712))
    assert there.hostname == IMPORTED.partition(".")[0]
    cluster.remove(IMPORTED)


@pytest.mark.image_row(45, 59)
def test_a_stream_of_the_predecessor_comes_in_and_its_foreign_guest_keeps_its_name(
    cluster: Cluster, exported: Path
) -> None:
    shutil.copyfile(cluster.node.root / IMAGES[1:] / "stream.tar", exported)
    said = imported(cluster, RESTORED)
    assert "not imported" not in said
    there = guest(cluster, RESTORED)
    assert (there.hostname, there.hooked, there.owner) == ("devuan", "", (4711, 4712))
    assert "Instance has a different hostname (devuan)" in cluster.logs("rename-*")[-1].read_text()
    assert f"UUID={probe(cluster.disks(RESTORED)[0], ROOT).uuid}" in there.fstab


@pytest.mark.image_row(40, 21)
def test_a_variant_with_nomount_copies_the_image_and_no_more(cluster: Cluster, watch: Watch) -> None:
    cluster.add(order("whole.example.com", "whole", 8))
    image = (cluster.node.root / IMAGES[1:] / "noise-x86_64.raw").read_bytes()
    assert cluster.disks("whole.example.com")[0].read_bytes()[: len(image)] == image


@pytest.mark.image_row(42)
def test_a_variant_with_cdinstall_leaves_the_disk_alone_at_a_reinstall_too(cluster: Cluster, watch: Watch) -> None:
    cluster.add(order("cd.example.com", "cd", 8))
    disk = cluster.disks("cd.example.com")[0]
    assert set(disk.read_bytes()) == {0}
    disk.write_bytes(random.Random(8).randbytes(8 * MIB))
    cluster.gnt("instance", "reinstall", "-f", "cd.example.com")
    assert disk.read_bytes() == random.Random(8).randbytes(8 * MIB)


@pytest.mark.image_row(94)
def test_the_node_mounted_looped_mapped_and_ran_nothing_all_the_while(watch: Watch) -> None:
    assert watch.looks > 100
    assert sorted(watch.seen) == []
