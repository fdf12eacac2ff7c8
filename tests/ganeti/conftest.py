# SPDX-License-Identifier: GPL-2.0-or-later
"""The cluster that all tests here share, once with each release of Debian: Ganeti 3.0 and 3.1, QEMU 7.2 and 10."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganeti.cluster import BOOTABLE, NODE, NOISE, SMALL, Cluster
from ganeti.node import Node, running_node
from images.ganeti_node import SUITES
from images.guests import guest_image
from images.layouts import layout
from packages.debs import built_debs


@pytest.fixture(scope="package", params=SUITES)
def cluster(request: pytest.FixtureRequest, cache: Path) -> Iterator[Cluster]:
    """A cluster on a node where our packages were installed, with the helper image and the images of the cache."""
    suite = request.param
    release, _ = SUITES[suite]
    with running_node(suite, cache, NODE) as node:
        for deb in built_debs(cache, release):
            shutil.copy(deb, node.root / "root")
        node.run("sh", "-c", "dpkg --install /root/*.deb")
        _configure(node, cache)
        yield Cluster.initialise(node)


def _configure(node: Node, cache: Path) -> None:
    settings = "HELPER_ACCEL=tcg  # what /dev/kvm is worth here, other tests ask\n"
    with (node.root / "etc/snf-image/snf-image.conf").open("a") as file:
        file.write(settings)
    # An administrator's own variant, as snf-image-creator writes them.
    with (node.root / "etc/ganeti/snf-image/variants.list").open("a") as variants:
        variants.write("small\n")
    node.write("/etc/ganeti/snf-image/variants/small.conf", f"IMG_ID=$'{SMALL}'\nDEFAULT_NIC_CONFIG=''\n")
    images = node.root / "var/lib/snf-image"
    images.mkdir(exist_ok=True)
    # Links, because another build may take the originals away.
    shutil.copytree(cache / "helper", images / "helper", copy_function=os.link, dirs_exist_ok=True)
    os.link(layout("ext4-mbr-primary", cache), images / SMALL)
    os.link(guest_image("ifupdown", cache), images / BOOTABLE)
    (images / NOISE).write_bytes(random.Random(1).randbytes(4 << 20))
