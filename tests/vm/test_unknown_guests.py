# SPDX-License-Identifier: GPL-2.0-or-later
"""Systems that no task may change, in the real helper VM: delivered to the byte, or set up by Ignition."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from images.file_systems import Content, FileSystem, Kind, write_file_system
from images.inspection import Tree, partition_table, read_file
from images.partitions import MIB, Partition, Table, TableType, Type, create_disk
from phony_guests import PHONY
from provider import Instance, Provider
from snf_image_shared.process import run

pytestmark = pytest.mark.vm

NAME = "unknown.example.com"
_UUID = "3a9f7e2c-525d-4c9c-8b1d-1f4b8f0203{:02}"
_SECTORS = MIB // 512


def image(path: Path, contents: Mapping[int, FileSystem], types: Mapping[int, tuple[str, str]]) -> bytes:
    """A GPT with these file systems in partitions of 24 MiB, and types and names; its bytes."""
    partitions = [
        Partition(number, (1 + 24 * place) * _SECTORS, 24 * _SECTORS, Type.LINUX)
        for place, number in enumerate(sorted({*contents, *types}))
    ]
    create_disk(path, Table(TableType.GPT, _UUID.format(99), 2 + 24 * len(partitions), tuple(partitions)))
    for number, (kind, name) in types.items():
        run(["sfdisk", "--quiet", "--part-type", str(path), str(number), kind])
        run(["sfdisk", "--quiet", "--part-label", str(path), str(number), name])
    for partition in partitions:
        if partition.number in contents:
            write_file_system(path, partition, contents[partition.number], path.parent)
    return path.read_bytes()


def directory(path: Path, guest: str = "") -> tuple[Content, ...]:
    path.mkdir()
    if guest:
        PHONY[guest].make(path)
    return (Content(path),)


def sparse(path: Path, mib: int) -> Path:
    with path.open("wb") as file:
        file.truncate(mib << 20)
    return path


@pytest.mark.row(116)
@pytest.mark.parametrize("property_", [("UNKNOWN_GUEST", "deliver"), ("EXCLUDE_ALL_TASKS", "yes")])
def test_what_cannot_or_must_not_be_customised_is_delivered_to_the_byte(
    provider: Provider, tmp_path: Path, property_: tuple[str, str]
) -> None:
    content = directory(tmp_path / "root", "phony-nixos-25.05")
    name, value = property_
    img_id = f"{name}.diskdump"
    bytes_of_image = image(provider.images / img_id, {1: FileSystem(Kind.EXT4, _UUID.format(1), content)}, {})
    disk = sparse(tmp_path / "disk", 64)
    parameters = {"img_id": img_id, "img_format": "diskdump", "img_passwd": "x"}
    outcome = provider.run(Instance(NAME, (disk,), parameters=parameters | {"img_properties": {name: value}}))
    assert outcome.code == 0, outcome.log
    assert disk.read_bytes() == bytes_of_image.ljust(64 << 20, b"\0")
    warnings = [line for line in outcome.log.splitlines() if line.startswith("[WARNING] No task runs: ")]
    assert len(warnings) == 1
    assert name in warnings[0]


def test_flatcar_is_left_as_it_is_but_for_the_configuration_of_its_first_boot(
    provider: Provider, tmp_path: Path
) -> None:
    flag = tmp_path / "esp" / "flatcar"
    esp = directory(tmp_path / "esp")
    flag.mkdir()
    (flag / "first_boot").write_text("Flatcar Container Linux first boot!\n")
    systems = {
        1: FileSystem(Kind.VFAT, "6C9B-1F7A", esp, "EFI-SYSTEM", ("-F", "16")),
        6: FileSystem(Kind.EXT4, _UUID.format(6), directory(tmp_path / "oem"), "OEM"),
        9: FileSystem(Kind.EXT4, _UUID.format(9), directory(tmp_path / "root", "phony-flatcar-root"), "ROOT"),
    }
    types = {
        1: (Type.ESP, "EFI-SYSTEM"),
        3: ("5DFBF5F4-2848-4BAC-AA5E-0D9A20B745A6", "USR-A"),
        9: ("3884DD41-8582-4404-B9A8-E9B84F2DF50E", "ROOT"),
    }
    image(provider.images / "flatcar.diskdump", systems, types)
    before = partition_table(provider.images / "flatcar.diskdump").partitions
    disk = sparse(tmp_path / "disk", 256)
    parameters = {"img_id": "flatcar.diskdump", "img_format": "diskdump", "img_passwd": "a secret"}
    outcome = provider.run(Instance(NAME, (disk,), parameters=parameters))
    assert outcome.code == 0, outcome.log
    assert partition_table(disk).partitions == before
    outer = json.loads(read_file(Tree(disk, 6), "/config.ign"))
    ours = json.loads(base64.b64decode(outer["ignition"]["config"]["merge"][0]["source"].partition(",")[2]))
    assert ours["passwd"]["users"][0]["name"] == "core"
    (hostname,) = (item for item in ours["storage"]["files"] if item["path"] == "/etc/hostname")
    assert base64.b64decode(hostname["contents"]["source"].partition(",")[2]) == f"{NAME}\n".encode()
    assert "[WARNING] Task AssignHostname skipped: Ignition sets this guest up at its first boot" in outcome.log
