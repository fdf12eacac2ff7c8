# SPDX-License-Identifier: GPL-2.0-or-later
"""An image as a virtual appliance has it, by the installed `create` alone: inspected, decoded, copied, customised."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from images.inspection import Tree, check_table, fsck, partition_table, read_file
from images.layouts import layout
from provider import Instance, Provider

NAME = "appliance.example.com"


@pytest.mark.vm
def test_a_vmdk_becomes_an_instance_of_its_own(provider: Provider, cache: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        image, disk = provider.images / "appliance", Path(name, "disk")
        raw = layout("ext4-gpt", cache)
        convert = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]
        subprocess.run([*convert, raw, image], check=True)
        disk.touch()
        os.truncate(disk, raw.stat().st_size + (64 << 20))
        digest = hashlib.sha256(image.read_bytes()).hexdigest()
        parameters = {"img_id": image.name, "img_format": "vmdk", "img_checksum": f"sha256:{digest}"}
        outcome = provider.run(Instance(NAME, (disk,), parameters=parameters))
        image.unlink()
        assert outcome.code == 0, outcome.log
        check_table(disk)
        root = partition_table(disk).partitions[-1]
        fsck(disk, root.number)
        assert read_file(Tree(disk, root.number), "/etc/hostname").decode() == NAME + "\n"
