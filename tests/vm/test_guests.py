# SPDX-License-Identifier: GPL-2.0-or-later
"""Real Debian images, deployed by the installed create, booted as instances, logged into with what was ordered."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from guest_console import Machine, boot
from images.distribution import DISTRIBUTIONS, MACHINE_ID, debian
from images.inspection import Tree, check_table, read_file
from provider import Instance, Provider

pytestmark = pytest.mark.vm

MAC = "aa:00:00:0b:00:7e"
PASSWORD = "correct horse: battery 'staple'"
# SHA-512 of PASSWORD, as openssl-passwd(1) made it.
HASH = "$6$snfimage$LgxpcO9yW6Zyojp8UxEfCa.pZtsC3hT1T/Dh8CGBXhFAPjILk8szqDUbibu.jyhvBE49UUydD7f.y5bgd3VaD."
DISK_SIZE = 3 << 30


@dataclass(frozen=True)
class Case:
    """A distribution, what its instance is ordered with, and the address that it must have afterwards."""

    suite: str
    secret: Mapping[str, str]
    address: str
    nic: Mapping[str, str] = field(default_factory=dict)
    spec: Mapping[str, object] = field(default_factory=dict)
    shown_by_ip: tuple[str, ...] = ()


CASES = [
    # Address, netmask and gateway from Ganeti's network, the rest of the card and the name from a spec; Debian 13 with
    # systemd-networkd on GPT.
    Case(
        "trixie",
        {"img_passwd": PASSWORD},
        "198.51.100.9/24",
        {"IP": "198.51.100.9", "NETWORK_SUBNET": "198.51.100.0/24", "NETWORK_GATEWAY": "198.51.100.1"},
        {
            "hostname": "www.example.org",
            "network": {
                "nics": [
                    {
                        "mac": MAC,
                        "addresses": ["2001:db8::9/64", "2001:db8::a/64"],
                        "gateway6": "fe80::1",
                        "mtu": 1400,
                        "routes": [{"to": "10.99.0.0/16", "via": "198.51.100.254", "metric": 77}],
                    }
                ]
            },
        },
        (
            *("inet6 2001:db8::9/64", "inet6 2001:db8::a/64", "mtu 1400", "default via fe80::1"),
            *("default via 198.51.100.1", "10.99.0.0/16 via 198.51.100.254", "metric 77"),
        ),
    ),
    # Nothing known of the only NIC, so DEFAULT_NIC_CONFIG: DHCP; Debian 12 with ifupdown on an MBR.
    Case("bookworm", {"img_passwd_hash": HASH}, "10.0.2.15/24"),
]


@pytest.mark.parametrize("case", CASES, ids=[case.suite for case in CASES])
def test_a_debian_instance_is_what_was_ordered(provider: Provider, cache: Path, tmp_path: Path, case: Case) -> None:
    image = debian(case.suite, cache)
    shutil.copy(image, provider.images / f"{case.suite}.diskdump")
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(DISK_SIZE)
    name = f"{case.suite}.example.com"
    parameters: dict[str, object] = {"img_id": f"{case.suite}.diskdump", "img_format": "diskdump", **case.secret}
    parameters["spec"] = {"img_properties": {"SWAP": "4:128"}, **case.spec}
    instance = Instance(name, (disk,), ({"MAC": MAC, "MODE": "bridged", **case.nic},), parameters)
    outcome = provider.run(instance)
    assert outcome.code == 0, outcome.log
    check_table(disk)
    with boot(disk, Machine(mac=MAC, name=case.suite)) as guest:
        guest.login("root", PASSWORD)
        assert guest.run("hostname").output == case.spec.get("hostname", name)
        assert int(guest.run("df --block-size=1 --output=size / | tail -1").output) > 2 << 30
        wait = f"timeout 90 sh -c 'until ip addr | grep -q {case.address}; do sleep 1; done'"
        assert guest.run(f"{wait}; ip addr").output.count(case.address) == 1
        network = guest.run("ip addr; ip route; ip -6 route").output
        assert [text for text in case.shown_by_ip if text not in network] == []
        assert guest.run("swapon --show=NAME --noheadings").output == "/dev/vda4"
        machine_id = guest.run("cat /etc/machine-id").output
        assert len(machine_id) == 32
        assert machine_id != MACHINE_ID
        template = read_file(Tree(image, DISTRIBUTIONS[case.suite].root.number), "/etc/ssh/ssh_host_ed25519_key.pub")
        assert guest.run("cat /etc/ssh/ssh_host_ed25519_key.pub").output.strip() != template.decode().strip()
        assert guest.run("systemctl is-active ssh").output == "active"
        assert guest.run("systemctl --failed --plain --no-legend").output == ""
        guest.poweroff()
