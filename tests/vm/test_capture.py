# SPDX-License-Identifier: GPL-2.0-or-later
"""Images made of a guest that was cut off while it ran, by real helper VMs, and guests made of these images again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from images.inspection import partition_table
from images.lived import BOOT, NEWEST, ROOT, TABLE, lived_in_disk, manifest, mounted
from images.partitions import MIB, Partition, Table, Type
from leaks import nothing_left
from provider import TIMEOUT, Instance, Provider
from sparse_disks import copy_disk, digest

pytestmark = pytest.mark.vm

LINUX = Type.MBR_LINUX
SECOND = 10**9  # nanoseconds: dump(8) knows no smaller part of a time
SIZE = 300  # MiB of the disk that a guest is made on again


@dataclass(frozen=True)
class Guest:
    """The disk that is captured, and what is in its file systems once the journal has been replayed."""

    disk: Path
    root: Mapping[str, object]
    boot: Mapping[str, object]
    in_seconds: Mapping[int, Mapping[str, Any]]


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    directory = tmp_path_factory.mktemp("lived")
    disk, again = directory / "disk", directory / "again"
    lived_in_disk(disk, directory)
    copy_disk(disk, again)
    with mounted(again, ROOT, directory) as root:
        found = manifest(root)
        in_seconds = {ROOT: manifest(root, unit=SECOND)}
    with mounted(again, BOOT, directory) as boot:
        boot_found = manifest(boot)
        in_seconds[BOOT] = manifest(boot, unit=SECOND)
    again.unlink()
    assert NEWEST in found
    return Guest(disk, found, boot_found, in_seconds)


def capture(provider: Provider, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(provider.root / "usr/sbin/snf-image-capture"), "-d", str(provider.images), "-n", "lived", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def captured(provider: Provider, guest: Guest, *words: str) -> tuple[list[Path], dict[str, Any]]:
    """The images, vouched for by what lies beside them, of a disk that is as it was."""
    before = digest(guest.disk)
    done = capture(provider, f"--disk={guest.disk}", *words)
    assert done.returncode == 0, done.stderr
    assert digest(guest.disk) == before
    images = [Path(line) for line in done.stdout.splitlines()]
    for image in images:
        subprocess.run(["sha256sum", "--check", "--strict", f"{image.name}.sha256"], check=True, cwd=image.parent)
    facts = json.loads(Path(f"{images[0]}.json").read_text())
    assert [each["name"] for each in facts["files"]] == [image.name for image in images]
    assert [each["size"] for each in facts["files"]] == [image.stat().st_size for image in images]
    return images, facts


def empty_disk(disk: Path) -> Path:
    with disk.open("wb") as file:
        file.truncate(SIZE * MIB)
    return disk


def table_of(disk: Path) -> Table:
    found = partition_table(disk).partitions
    return Table(TABLE.type, "", SIZE, tuple(Partition(each.number, each.start, each.size, LINUX) for each in found))


def without_capabilities(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What restore of Debian 13 leaves: it gives such a file its owner last, and all but root:root's lose them then."""
    return {
        path: (*entry[:6], {name: value for name, value in entry[6].items() if name != "security.capability"}, entry[7])
        for path, entry in tree.items()
    }


@pytest.mark.image_row(90)
def test_a_guest_captured_as_a_tarball_is_the_same_when_it_is_deployed_again(
    provider: Provider, guest: Guest, tmp_path: Path
) -> None:
    (image,), facts = captured(provider, guest, "-t", "tarball", "--compress", "zst")
    assert image.name == "lived-x86_64.tar.zst"
    assert facts["properties"] == {
        "OSFAMILY": "linux",
        "FILESYSTEM": "ext4",
        "BOOT_SIZE": "40",
        "SWAP_SIZE": "0",
        "PARTITION_TABLE": "msdos",
    }
    disk = empty_disk(tmp_path / "disk")
    properties = {**facts["properties"], "EXCLUDE_ALL_TASKS": "yes"}
    parameters = {"img_id": image.name, "img_format": facts["format"], "img_properties": properties}
    outcome = provider.run(Instance("again.example.com", (disk,), parameters=parameters))
    assert outcome.code == 0, outcome.log
    with mounted(disk, ROOT, tmp_path, table_of(disk)) as root:
        assert manifest(root) == guest.root
        assert not (root / "swapfile").exists()
        assert (root / "var/sparse").stat().st_blocks < 1000
    with mounted(disk, BOOT, tmp_path, table_of(disk)) as boot:
        assert manifest(boot) == guest.boot


@pytest.mark.image_row(90)
def test_a_guest_captured_as_dumps_is_the_same_when_it_is_deployed_again(
    provider: Provider, guest: Guest, tmp_path: Path
) -> None:
    images, _ = captured(provider, guest, "-t", "dump", "--compress", "gz")
    assert [image.name for image in images] == ["lived-x86_64-root.dump", "lived-x86_64-boot.dump"]
    node = provider.as_image()
    settings = {"IMAGE_TYPE": "dump", "IMAGE_NAME": "lived", "ARCH": "x86_64", "IMAGE_DIR": str(provider.images)}
    node.configure(**settings, BOOT_SIZE="40", FILESYSTEM="ext4", SWAP="no")
    disk = empty_disk(tmp_path / "disk")
    parameters = {"img_properties": {"EXCLUDE_ALL_TASKS": "yes"}}
    outcome = node.run(Instance("again.example.com", (disk,), parameters=parameters))
    assert outcome.code == 0, outcome.log
    with mounted(disk, ROOT, tmp_path, table_of(disk)) as root:
        assert manifest(root, unit=SECOND) == without_capabilities(guest.in_seconds[ROOT])
    with mounted(disk, BOOT, tmp_path, table_of(disk)) as boot:
        assert manifest(boot, unit=SECOND) == guest.in_seconds[BOOT]


@pytest.mark.image_row(90, 93)
def test_a_disk_captured_as_it_is_holds_the_same_bytes_and_its_image_is_never_overwritten(
    provider: Provider, guest: Guest, tmp_path: Path
) -> None:
    with nothing_left(tmp_path):
        (image,), facts = captured(provider, guest, "-t", "qcow2", "--compress", "zst")
    subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(guest.disk), str(image)], check=True)
    assert facts["properties"] == {"OSFAMILY": "linux", "ROOT_PARTITION": "2"}
    assert "wd" not in json.dumps(facts)
    before = image.read_bytes()
    again = capture(provider, f"--disk={guest.disk}", "-t", "qcow2")
    assert again.returncode == 2
    assert again.stderr == (
        f"[ERROR] {image} is there already, and is never overwritten: remove it, or give another -n\n"
    )
    assert image.read_bytes() == before
