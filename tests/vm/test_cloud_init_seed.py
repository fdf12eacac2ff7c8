# SPDX-License-Identifier: GPL-2.0-or-later
"""A root that nobody can read, in the real helper VM: its cloud-init is told all on a partition."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from images.inspection import partition_table
from images.partitions import MIB, Partition, Table, TableType, Type, create_disk
from provider import Instance, Provider
from snf_image_shared.process import run

pytestmark = pytest.mark.vm

NAME = "sealed.example.com"
_UUID = "3a9f7e2c-525d-4c9c-8b1d-1f4b8f0204{:02}"
_SECTORS = MIB // 512
_LUKS = b"LUKS\xba\xbe\x00\x02" + bytes(range(256)) * 64  # what tells it, and noise


def test_an_encrypted_root_stays_as_it_is_and_cloud_init_finds_its_seed(provider: Provider, tmp_path: Path) -> None:
    image = provider.images / "sealed.diskdump"
    root = Partition(1, _SECTORS, 24 * _SECTORS, Type.LINUX)
    create_disk(image, Table(TableType.GPT, _UUID.format(99), 26, (root,)))
    with image.open("r+b") as file:
        file.seek(MIB)
        file.write(_LUKS)
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(64 * MIB)
    properties = {"CLOUD_INIT": "yes", "CLOUD_INIT_SEED": "partition", "USERS": "root"}
    parameters = {"img_id": "sealed.diskdump", "img_format": "diskdump", "img_passwd": "a secret"}
    outcome = provider.run(Instance(NAME, (disk,), parameters=parameters | {"img_properties": properties}))
    assert outcome.code == 0, outcome.log
    found = partition_table(disk).partitions
    assert found[0] == partition_table(image).partitions[0]
    assert disk.read_bytes()[MIB : 25 * MIB] == image.read_bytes()[MIB : 25 * MIB]
    place = tmp_path / "seed"
    place.mkdir()
    run(["mcopy", "-n", "-i", f"{disk}@@{found[1].start * 512}", "::/*", str(place)])
    assert json.loads((place / "meta-data").read_text())["local-hostname"] == NAME
    assert "root:$6$" in (place / "vendor-data").read_text()
    assert "[WARNING] No other task runs: CLOUD_INIT_SEED=partition" in outcome.log
    assert "a secret" not in outcome.log
