# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures of roots on xfs, in subvolumes and on LVM, and of all disks of an instance on another node, by real VMs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from images.captured_roots import ROOTS
from images.file_systems import copy_into
from images.inspection import extent, partition_table
from images.layouts import Volume, lay_out
from images.lived import fill, lived_in_disk, manifest
from images.partitions import MIB
from leaks import nothing_left
from other_node import NODE, OtherNode, other_node
from processes import children, command_line
from provider import TIMEOUT, Instance, Provider

pytestmark = pytest.mark.vm

SWAP = "a-group/swap"
SECOND = 10**9  # nanoseconds: dump(8) knows no smaller part of a time


def captured(provider: Provider, disk: Path, *words: str) -> tuple[list[Path], dict[str, Any]]:
    """The images, vouched for by what lies beside them, of a disk that is as it was."""
    before = hashlib.sha256(disk.read_bytes()).digest()
    command = [str(provider.root / "usr/sbin/snf-image-capture"), "-d", str(provider.images), f"--disk={disk}", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(disk.read_bytes()).digest() == before
    return vouched([Path(line) for line in done.stdout.splitlines()])


def vouched(images: list[Path]) -> tuple[list[Path], dict[str, Any]]:
    """The images, when what lies beside them fits, and that."""
    for image in images:
        subprocess.run(["sha256sum", "--check", "--strict", f"{image.name}.sha256"], check=True, cwd=image.parent)
    facts = json.loads(Path(f"{images[0]}.json").read_text())
    assert [each["name"] for each in facts["files"]] == [image.name for image in images]
    return images, facts


def empty_disk(disk: Path, mib: int) -> Path:
    with disk.open("wb") as file:
        file.truncate(mib * MIB)
    return disk


def without_capabilities(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What restore of Debian 13 leaves: it gives such a file its owner last, and all but root:root's lose them then."""
    return {
        path: (*entry[:6], {name: value for name, value in entry[6].items() if name != "security.capability"}, entry[7])
        for path, entry in tree.items()
    }


@contextmanager
def seen_of(disk: Path, volume: Volume, place: Path, subvolume: str = "") -> Iterator[Path]:
    """A file system of the disk at `place`, mounted by this machine's kernel; nothing is written to it."""
    where = extent(disk, volume.where)
    options = {"loop": "", "ro": "", "offset": str(where.offset), "sizelimit": str(where.length)}
    options |= {"subvol": subvolume} if subvolume else {}
    words = ",".join(f"{name}={value}".rstrip("=") for name, value in options.items())
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", words, str(disk), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def put_swap(disk: Path, scratch: Path) -> None:
    """Swap space on the logical volume that has nothing."""
    where = extent(disk, f"2:{SWAP}")
    area = empty_disk(scratch / "swap", where.length // MIB)
    subprocess.run(["mkswap", "--quiet", str(area)], check=True)
    copy_into(area, disk, where.offset)


def made(name: str, scratch: Path) -> tuple[Path, dict[str, object], dict[str, object]]:
    """A disk of that layout in ROOTS, and what its root and /boot hold; times of the latter in seconds."""
    wanted, root, disk = ROOTS[name], scratch / "root", scratch / "captured"
    root.mkdir()
    fill(root)
    (root / "etc/fstab").write_text(wanted.fstab() + "/swapfile none swap sw 0 0\n")
    (root / "boot/vmlinuz").write_bytes(b"a kernel" * 1000)
    lay_out(wanted, root, disk)
    if SWAP in wanted.logical:
        put_swap(disk, scratch)
    volumes = {volume.mount_point: volume for volume in wanted.volumes}
    unit = SECOND if "/boot" in volumes else 1
    with seen_of(disk, volumes["/"], scratch / "seen", wanted.subvolume) as place:
        found = dict(manifest(place, unit=unit))
    boot: dict[str, object] = {}
    if "/boot" in volumes:
        with seen_of(disk, volumes["/boot"], scratch / "seen") as place:
            boot = dict(manifest(place, unit=unit))
    for at, subvolume in volumes["/"].subvolumes.items():
        if at != "/":
            with seen_of(disk, volumes["/"], scratch / "seen", subvolume) as place:
                found |= {f"{at[1:]}/{path}": entry for path, entry in manifest(place).items() if path != "."}
                del found[at[1:]]  # of which the upper one is empty
    return disk, found, boot


def with_links_below(tree: Mapping[str, Any], top: str) -> dict[str, Any]:
    """First names of files that a subvolume's own manifest has without the path to it."""
    return {
        path: (*entry[:5], f"{top}/{entry[5]}", *entry[6:]) if path.startswith(f"{top}/") else entry
        for path, entry in tree.items()
    }


@pytest.mark.image_row(90)
@pytest.mark.parametrize("name", ["xfs", "btrfs"])
def test_a_guest_on_xfs_or_in_subvolumes_is_the_same_when_it_is_deployed_again(
    provider: Provider, name: str, tmp_path: Path
) -> None:
    disk, before, _ = made(name, tmp_path)
    assert "var/deep/er" in before
    (image,), facts = captured(provider, disk, "-t", "tarball", "--compress", "zst", "-n", name)
    assert facts["properties"] == {
        "OSFAMILY": "linux",
        "FILESYSTEM": name,
        "BOOT_SIZE": "0",
        "SWAP_SIZE": "0",
        "PARTITION_TABLE": "gpt",
    }
    again = empty_disk(tmp_path / "disk", 400)
    properties = {**facts["properties"], "EXCLUDE_ALL_TASKS": "yes"}
    parameters = {"img_id": image.name, "img_format": facts["format"], "img_properties": properties}
    outcome = provider.run(Instance("again.example.com", (again,), parameters=parameters))
    assert outcome.code == 0, outcome.log
    (root,) = [each for each in partition_table(again).partitions if each.size > 200 * 2048]
    with seen_of(again, Volume(root.number, ROOTS[name].kind, "/"), tmp_path / "seen") as place:
        found = manifest(place)
        lines = (place / "etc/fstab").read_text().splitlines()
    assert [line.split()[1:3] for line in lines if line.startswith(("UUID=", "/"))] == [["/", name]]
    if name == "btrfs":
        before = with_links_below(before, "var")
        assert found.keys() - before.keys() == {"var"}
    assert {path: found.get(path) for path in before} == before


@pytest.mark.image_row(90)
def test_a_guest_on_lvm_is_the_same_when_it_is_deployed_again_from_dumps(provider: Provider, tmp_path: Path) -> None:
    disk, before, boot_before = made("lvm", tmp_path)
    images, facts = captured(provider, disk, "-t", "dump", "--compress", "gz", "-n", "lvm")
    assert [image.name for image in images] == ["lvm-x86_64-root.dump", "lvm-x86_64-boot.dump"]
    assert facts["properties"] == {
        "OSFAMILY": "linux",
        "FILESYSTEM": "ext4",
        "BOOT_SIZE": "40",
        "SWAP_SIZE": "32",
        "PARTITION_TABLE": "msdos",
    }
    node = provider.as_image()
    node.configure(IMAGE_TYPE="dump", IMAGE_NAME="lvm", ARCH="x86_64", IMAGE_DIR=str(provider.images))
    again = empty_disk(tmp_path / "disk", 300)
    parameters = {"img_properties": {**facts["properties"], "EXCLUDE_ALL_TASKS": "yes"}}
    outcome = node.run(Instance("again.example.com", (again,), parameters=parameters))
    assert outcome.code == 0, outcome.log
    numbers = {"/boot": 1, "/": 3}
    assert len(partition_table(again).partitions) == len(numbers) + 1
    volumes = {at: Volume(number, ROOTS["lvm"].kind, at) for at, number in numbers.items()}
    with seen_of(again, volumes["/"], tmp_path / "seen") as place:
        assert manifest(place, unit=SECOND) == without_capabilities(before)
    with seen_of(again, volumes["/boot"], tmp_path / "seen") as place:
        assert manifest(place, unit=SECOND) == boot_before


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("lived")
    lived_in_disk(directory / "disk", directory)
    return directory / "disk"


@pytest.fixture
def node(provider: Provider, tmp_path: Path) -> Iterator[OtherNode]:
    """Another node, where the provider is installed."""
    scratch = tmp_path / "node"
    scratch.mkdir()
    with other_node(scratch) as node:
        node.has_program(provider.root / "usr/sbin/snf-image-capture")
        yield node


@pytest.mark.image_row(91)
@pytest.mark.parametrize("kind", ["qcow2", "raw"])
def test_all_disks_of_an_instance_are_captured_on_the_node_where_they_are(
    provider: Provider, lived_in: Path, node: OtherNode, kind: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.write_bytes(bytes(3 * MIB) + os.urandom(MIB) + bytes(MIB))
    node.has_disks(lived_in, data)
    words = ["-t", kind, "--all-disks", "-n", f"all-{kind}", "-d", str(provider.images)]
    command = node.capture("web1", *words)
    out, errors = command.communicate(timeout=TIMEOUT)
    assert command.returncode == 0, errors
    names = [line.removeprefix(f"{NODE}:") for line in out.splitlines()]
    assert names == [f"{provider.images}/all-{kind}-x86_64{end}.{kind}" for end in ("", "-disk1")]
    images, _ = vouched([Path(name) for name in names])
    for disk, image in zip((lived_in, data), images, strict=True):
        subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", kind, str(disk), str(image)], check=True)
    assert node.asked[-1] == "gnt-instance deactivate-disks"


@pytest.mark.image_row(91)
def test_a_capture_that_is_interrupted_here_leaves_no_helper_vm_on_the_other_node(
    provider: Provider, lived_in: Path, node: OtherNode, tmp_path: Path
) -> None:
    node.has_disks(lived_in)
    before = sorted(path.name for path in provider.images.iterdir())
    with nothing_left(tmp_path):
        command = node.capture("web1", "-t", "tarball", "-n", "interrupted", "-d", str(provider.images))
        deadline = time.monotonic() + TIMEOUT
        while not (running := helper_vms(node)):
            assert command.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        command.terminate()
        out, errors = command.communicate(timeout=TIMEOUT)
    assert (command.returncode, out) == (128 + 15, "")
    assert "snf-image-capture was ended by SIGHUP; everything is cleaned up" in errors
    assert not [pid for pid in running if "qemu" in command_line(pid)]
    assert sorted(path.name for path in provider.images.iterdir()) == before
    assert node.asked[-1] == "gnt-instance deactivate-disks"


def helper_vms(node: OtherNode) -> list[int]:
    """Those that run there now."""
    return [pid for pid in children(node.pid) if "qemu-system" in command_line(pid).partition("\0")[0]]
