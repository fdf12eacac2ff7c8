# SPDX-License-Identifier: GPL-2.0-or-later
"""Who watches a node sees what must not be done there, also in a namespace of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ganeti.node import Node
from ganeti.watch import Watch
from snf_image_shared.process import run

_MOUNT = """
truncate --size=4M "$1/file-system"
mkfs.ext4 -q "$1/file-system"
mkdir "$1/mounted"
mount -o loop "$1/file-system" "$1/mounted"
sleep 1
"""


@pytest.mark.root
def test_a_mount_in_a_namespace_of_its_own_is_seen(tmp_path: Path) -> None:
    with Watch.over(Node(tmp_path / "root", os.getpid())) as watch:
        run(["unshare", "--mount", "bash", "-euc", _MOUNT, "mount", str(tmp_path)])
    assert [seen for seen in watch.seen if f"{tmp_path}/mounted" in seen]
