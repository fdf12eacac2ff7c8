# SPDX-License-Identifier: GPL-2.0-or-later
"""Tarballs that want to write onto the node, through the installed create, with a watch over the whole machine."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ganeti.node import Node
from ganeti.watch import Watch
from images.inspection import Tree, exists, partition_table, read_file
from leaks import nothing_left
from phony_guests import PHONY
from provider import Instance, Outcome, Provider

pytestmark = pytest.mark.vm

NAME = "hostile.example.com"
CANARY = b"what the node has\n"
_KERNEL = {"INSTANCE_HV_kernel_path": "/boot/vmlinuz-of-the-node"}
_VDA = (254, 0)  # the helper's first disk


@contextmanager
def hostile_archive(provider: Provider, own: Path) -> Iterator[tarfile.TarFile]:
    """The image, an archive of a guest, to which the block adds."""
    path = provider.as_image().images / "hostile-x86.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.add(PHONY["phony-devuan-5"].make(own / "tree"), ".")
        yield archive


def member(archive: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, to: str = "", text: bytes = b"") -> None:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size, found.mode = kind, to, len(text), 0o6777
    found.devmajor, found.devminor = _VDA
    archive.addfile(found, io.BytesIO(text))


def deployed(provider: Provider, disk: Path, own: Path) -> Outcome:
    """By `image`, with the hooks that write names and networks; nothing of it may be seen on this machine."""
    image = provider.as_image()
    image.configure(IMAGE_NAME="hostile", ARCH="x86", IMAGE_TYPE="tarball", FILESYSTEM="ext4", SWAP="no")
    (provider.root / "etc/ganeti/instance-image/hooks/interfaces").chmod(0o755)
    with disk.open("wb") as file:
        file.truncate(256 << 20)
    nic = {"MAC": "aa:00:00:0b:00:7e", "MODE": "bridged"}
    with nothing_left(own), Watch.over(Node(own / "no-root", os.getpid())) as watch:
        outcome = image.run(Instance(NAME, (disk,), (nic,)), **_KERNEL)
    assert sorted(watch.seen) == []
    return outcome


@pytest.mark.image_row(14, 94, 95)
def test_links_devices_and_names_that_lead_out_of_the_guest_stay_in_it(provider: Provider, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(CANARY)
    with hostile_archive(provider, tmp_path) as archive:
        for path in ("./etc/fstab", "./etc/hostname", "./etc/hosts", "./etc/network/interfaces"):
            member(archive, path, tarfile.SYMTYPE, str(canary))
        member(archive, str(canary), text=b"absolute")
        member(archive, "./etc/disk", tarfile.BLKTYPE)
        member(archive, "./etc/pipe", tarfile.FIFOTYPE)
        member(archive, "./etc/\x1b]0;title\x07\nname", text=b"a name for a terminal")
    disk = tmp_path / "disk"
    outcome = deployed(provider, disk, tmp_path)
    assert canary.read_bytes() == CANARY
    assert "\x1b" not in outcome.log
    assert outcome.code == 0, outcome.log
    tree = Tree(disk, 1)
    assert read_file(tree, str(canary)) != CANARY  # where all these links lead within the guest
    assert exists(tree, "/etc/pipe")
    assert partition_table(disk).label == "dos"


@pytest.mark.image_row(14, 20)
def test_a_member_that_is_written_through_a_link_ends_the_deployment(provider: Provider, tmp_path: Path) -> None:
    with hostile_archive(provider, tmp_path) as archive:
        member(archive, "./way-out", tarfile.SYMTYPE, "/run")
        member(archive, "./way-out/canary", text=b"through a link")
    disk = tmp_path / "disk"
    outcome = deployed(provider, disk, tmp_path)
    assert outcome.code != 0
    assert "way-out/canary" in outcome.last_line
    assert set(disk.read_bytes()[: 1 << 20]) == {0}
