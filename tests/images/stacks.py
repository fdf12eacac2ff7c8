# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian systems that differ in what sets their network up: packages, and the files that their publisher would ship.

What each template has seen of a network, of cloud-init and of its own name lies in it, so that a test can tell what of
it is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_INTERFACES = "source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n"
_NETPLAN = "/etc/netplan/90-template.yaml"
_STUB = "../run/systemd/resolve/stub-resolv.conf"
# What sysvinit's own package brings, without its comments.
_INITTAB = """id:2:initdefault:
si::sysinit:/etc/init.d/rcS
~~:S:wait:/sbin/sulogin --force
l0:0:wait:/etc/init.d/rc 0
l1:1:wait:/etc/init.d/rc 1
l2:2:wait:/etc/init.d/rc 2
l6:6:wait:/etc/init.d/rc 6
1:2345:respawn:/sbin/getty 38400 tty1
"""


@dataclass(frozen=True)
class Stack:
    """`files` are path -> text, `links` path -> target; `enabled` and `masked` are units of systemd.

    `traces` are files that the template's own life has left, which an instance must not have.
    """

    suite: str
    packages: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    enabled: tuple[str, ...] = ()
    traces: Mapping[str, str] = field(default_factory=dict)
    init: tuple[str, ...] = ("systemd-sysv", "libpam-systemd")

    @property
    def systemd(self) -> bool:
        return "systemd-sysv" in self.init


_DHCLIENT_LEASE = 'lease {\n  interface "eth0";\n  fixed-address 10.66.66.66;\n  expire 2 2030/01/01 00:00:00;\n}\n'
_NETPLAN_DHCP = "network:\n  version: 2\n  ethernets:\n    all-en:\n      match: {name: 'en*'}\n      dhcp4: true\n"
STACKS = {
    "ifupdown": Stack(
        "bookworm",
        ("ifupdown", "isc-dhcp-client"),
        files={"/etc/network/interfaces": _INTERFACES},
        traces={"/var/lib/dhcp/dhclient.eth0.leases": _DHCLIENT_LEASE},
    ),
    "networkd": Stack(
        "trixie",
        (),
        files={"/etc/systemd/network/80-template-dhcp.network": "[Match]\nName=en*\n\n[Network]\nDHCP=yes\n"},
        enabled=("systemd-networkd.service",),
    ),
    "netplan-networkd": Stack(
        "trixie",
        ("netplan.io", "systemd-resolved", "libnss-resolve"),
        files={_NETPLAN: _NETPLAN_DHCP},
        links={"/etc/resolv.conf": _STUB},
        enabled=("systemd-networkd.service", "systemd-resolved.service"),
    ),
    "netplan-networkmanager": Stack(
        "bookworm",
        ("netplan.io", "network-manager"),
        files={
            _NETPLAN: "network:\n  version: 2\n  renderer: NetworkManager\n",
            "/etc/network/interfaces": _INTERFACES,
        },
        enabled=("NetworkManager.service",),
        traces={"/var/lib/NetworkManager/secret_key": "nm-v2:template-template-template-template-template\n"},
    ),
    "networkmanager": Stack(
        "trixie",
        ("network-manager",),
        files={
            "/etc/NetworkManager/system-connections/template.nmconnection": (
                "[connection]\nid=template\nuuid=3f0e4b8e-3e5c-4c0e-9d1b-7b5f0a0c0d01\ntype=ethernet\n\n"
                "[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
            ),
        },
        enabled=("NetworkManager.service",),
        traces={"/var/lib/NetworkManager/secret_key": "nm-v2:template-template-template-template-template\n"},
    ),
    # The pieces of Debian's own image "genericcloud".
    "cloud-init": Stack(
        "trixie",
        ("cloud-init", "cloud-guest-utils", "netplan.io", "systemd-resolved", "libnss-resolve", "python3-minimal"),
        files={_NETPLAN: _NETPLAN_DHCP},
        links={"/etc/resolv.conf": _STUB},
        enabled=("systemd-networkd.service", "systemd-resolved.service"),
        traces={
            "/var/lib/cloud/instances/i-template/datasource": "DataSourceNone\n",
            "/var/lib/cloud/data/instance-id": "i-template\n",
        },
    ),
    "sysvinit": Stack(
        "bookworm",
        ("ifupdown", "isc-dhcp-client"),
        files={"/etc/network/interfaces": _INTERFACES, "/etc/inittab": _INITTAB},
        traces={"/var/lib/dhcp/dhclient.eth0.leases": _DHCLIENT_LEASE},
        init=("sysvinit-core", "initscripts"),
    ),
}
