# SPDX-License-Identifier: GPL-2.0-or-later
"""An instance whose disk is a URI and nothing else: an NBD server on a unix socket, without the kernel's help."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ganeti.cluster import NODE, SMALL, Cluster, Order
from ganeti.guests import read_guest

pytestmark = pytest.mark.ganeti

NAME, IMPORTED = "remote.example.com", "remote-twin.example.com"
HASH = "$6$remote$hash"
DISK = "size=600M,provider=nbdfile,access=userspace"
ORDER = Order(
    NAME,
    {
        "img_id": SMALL,
        "img_format": "diskdump",
        "img_properties": '{"EXCLUDE_TASK_DELETESSHKEYS": "yes"}',
        "hostname": "known.example.com",  # which spares the import a helper VM: there is nothing to rename
    },
    secret={"img_passwd_hash": HASH},
    disks=(DISK,),
    template="ext",
    hypervisor="kvm",  # the only one that Ganeti 3.1 lets have such a disk
)


@pytest.fixture(scope="module")
def volume(cluster: Cluster) -> Iterator[Path]:
    """The file behind the NBD server, after the instance was added."""
    cluster.add(ORDER)
    (file,) = cluster.volumes("nbdfile")
    yield file
    cluster.remove(NAME)


@pytest.mark.row(97)
def test_the_guest_on_a_disk_that_is_a_uri_is_what_was_ordered(volume: Path) -> None:
    guest = read_guest(volume)
    assert (guest.hostname, guest.shadow[1]) == ("known.example.com", HASH)
    assert "inet dhcp" not in guest.interfaces  # it has no NIC


@pytest.mark.row(22)
def test_a_disk_that_is_a_uri_is_exported_and_imported(cluster: Cluster, volume: Path) -> None:
    cluster.gnt("backup", "export", f"--node={NODE}", NAME)
    exports = cluster.node.root / "var/lib/ganeti/export" / NAME
    (dump,) = [path for path in exports.iterdir() if path.name != "config.ini"]
    assert dump.read_bytes() == volume.read_bytes()
    source = (f"--src-node={NODE}", f"--src-dir={NAME}")
    target = (f"--node={NODE}", "-t", "ext", f"--disk=0:{DISK}", "--no-ip-check", "--no-name-check")
    said = cluster.gnt("backup", "import", *source, *target, IMPORTED)
    assert "not imported" not in said
    (imported,) = set(cluster.volumes("nbdfile")) - {volume}
    assert imported.read_bytes() == volume.read_bytes()
    cluster.remove(IMPORTED)
    cluster.gnt("backup", "remove", NAME)
