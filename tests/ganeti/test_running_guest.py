# SPDX-License-Identifier: GPL-2.0-or-later
"""An instance on a block device, started by Ganeti's own hypervisor kvm and logged into over its serial port."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ganeti.cluster import BOOTABLE, GATEWAY, NETWORK, Cluster, Order
from guest_console import GuestConsole, attached

pytestmark = pytest.mark.ganeti

NAME = "web.example.com"
ADDRESS = "192.0.2.99"
PASSWORD = "correct horse, battery=staple"
ORDER = Order(
    NAME,
    public={"img_id": BOOTABLE, "img_format": "diskdump"},
    secret={"img_passwd": PASSWORD},
    disks=("size=1600M,provider=loopfile",),
    nics=(f"ip={ADDRESS},network={NETWORK}",),
    template="ext",
    hypervisor="kvm:kvm_extra=-device virtio-rng-pci",
    memory="512M",
)
_SOCKET = f"/var/run/ganeti/kvm-hypervisor/ctrl/{NAME}.serial"


@pytest.fixture(scope="module")
def guest(cluster: Cluster) -> Iterator[GuestConsole]:
    """The instance's console, after a login with the password that was ordered."""
    cluster.gnt("instance", *ORDER.arguments())
    with attached(cluster.node.command("socat", "-", f"UNIX-CONNECT:{_SOCKET}"), NAME) as console:
        console.login("root", PASSWORD)
        yield console
    cluster.remove(NAME)


@pytest.mark.row(5)
def test_the_instance_has_the_name_that_ganeti_knows_it_by(cluster: Cluster, guest: GuestConsole) -> None:
    assert guest.run("hostname").output == NAME
    assert cluster.gnt("instance", "list", "--no-headers", "--output=status", NAME).strip() == "running"


def test_the_instance_has_the_address_that_ganeti_gave_it_and_reaches_its_gateway(guest: GuestConsole) -> None:
    wait = f"timeout 90 sh -c 'until ip addr | grep -q {ADDRESS}; do sleep 1; done'"
    assert f"inet {ADDRESS}/24" in guest.run(f"{wait}; ip -oneline addr").output
    assert f"default via {GATEWAY} " in guest.run("ip route").output


def test_the_file_system_of_the_instance_fills_the_disk_that_was_ordered(guest: GuestConsole) -> None:
    assert int(guest.run("df --block-size=1M --output=size / | tail -1").output) > 1400
