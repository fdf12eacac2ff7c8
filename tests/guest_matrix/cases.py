# SPDX-License-Identifier: GPL-2.0-or-later
"""What each guest of the matrix is ordered with, and what must then be true of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from guest_matrix.lan import BEHIND_ROUTE, DOMAIN, FAR4, FAR6, OTHER_ROUTER, ROUTED, ROUTER4, ROUTER6
from images.guests import DISKS, IMAGES
from images.stacks import STACKS

MACS = ("aa:00:00:0b:00:7e", "aa:00:00:0b:00:7f")
NOTHING: Mapping[str, object] = {"ipv4": "none", "ipv6": "none"}
STATIC6 = "2001:db8:1::9"
_NETWORK4 = {"IP": "192.0.2.9", "NETWORK_SUBNET": "192.0.2.0/24", "NETWORK_GATEWAY": ROUTER4}


@dataclass(frozen=True)
class Case:
    """`image` is a key of images.guests.IMAGES; `cards` are the `nics` of the parameter network, in order.

    `shown` must be in what ip(8) shows, `answers` are its addresses from outside, `reaches` are what it must reach.
    """

    image: str
    cards: tuple[Mapping[str, object], ...]
    shown: tuple[str, ...]
    answers: tuple[str, ...]
    reaches: tuple[str, ...]
    ganeti: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    hostname: str = ""
    in_ci: bool = False

    @property
    def systemd(self) -> bool:
        return STACKS[IMAGES[self.image].stack].systemd

    @property
    def cloud_init(self) -> bool:
        return "CLOUD_INIT" in self.properties

    @property
    def uefi(self) -> bool:
        """No BIOS could start it."""
        return DISKS[IMAGES[self.image].disk].core is None

    @property
    def traces(self) -> Mapping[str, str]:
        """Files of the template's own life, with what they must not say any more."""
        return STACKS[IMAGES[self.image].stack].traces


_DNS: Mapping[str, object] = {"dns": [ROUTER4], "search": [DOMAIN]}
# For images that do not have them.
_CONSOLE = {"CONSOLE": "serial", "KERNEL_ARGS": 'mitigations=off snf.motto="festina lente"'}
CASES = (
    # Ganeti's address, and from the user all that a card can have; a second card by DHCP.
    Case(
        "networkd",
        (
            {
                "addresses": [f"{STATIC6}/64", "2001:db8:1::a/64"],
                "gateway6": ROUTER6,
                "mtu": 1400,
                "routes": [{"to": "10.99.0.0/16", "via": OTHER_ROUTER, "metric": 77}],
                **_DNS,
            },
            {"ipv4": "dhcp", "ipv6": "none"},
        ),
        (
            *("inet 192.0.2.9/24", f"inet6 {STATIC6}/64", "inet6 2001:db8:1::a/64", "mtu 1400", "inet 198.51.100.1"),
            *(f"default via {ROUTER4}", f"default via {ROUTER6}", f"10.99.0.0/16 via {OTHER_ROUTER}", "metric 77"),
        ),
        ("192.0.2.9", STATIC6),
        (FAR4, FAR6, BEHIND_ROUTE),
        ganeti=_NETWORK4,
        properties={"SWAP": "4:128"},
        hostname="www.example.org",
        in_ci=True,
    ),
    # DHCP on one card, an address and an MTU on the other.
    Case(
        "ifupdown",
        ({"ipv4": "dhcp"}, {"addresses": ["198.51.100.9/24"], "mtu": 1400}),
        ("inet 192.0.2.10", f"default via {ROUTER4}", "inet 198.51.100.9/24", "mtu 1400"),
        (),
        (FAR4, "198.51.100.1"),
        properties={"SWAP": "2:128"},
    ),
    # An address of no subnet, whose gateway is on the link all the same; a card that must stay down.
    Case(
        "netplan-networkmanager",
        (
            {
                "addresses": [f"{ROUTED}/32", f"{STATIC6}/64"],
                "gateway4": ROUTER4,
                "gateway6": ROUTER6,
                "routes": [{"to": "10.99.0.0/16", "via": OTHER_ROUTER, "on_link": True}],
                **_DNS,
            },
            NOTHING,
        ),
        (f"inet {ROUTED}/32", f"inet6 {STATIC6}/64", f"default via {ROUTER4}", f"10.99.0.0/16 via {OTHER_ROUTER}"),
        (ROUTED, STATIC6),
        (FAR4, FAR6, BEHIND_ROUTE),
        properties={"SWAP": "4:128"},
        hostname="web2",
    ),
    # DHCP and router advertisements side by side, a second card with a route of its own.
    Case(
        "netplan-networkd",
        (
            {"ipv4": "dhcp", "ipv6": "slaac"},
            {"addresses": ["198.51.100.9/24"], "routes": [{"to": f"{BEHIND_ROUTE}/32", "via": "198.51.100.1"}]},
        ),
        ("inet 192.0.2.10", "inet6 2001:db8:1:", f"default via {ROUTER4}", "proto ra", f"{BEHIND_ROUTE} via 198.51"),
        (),
        (FAR4, FAR6, BEHIND_ROUTE),
    ),
    Case(
        "networkmanager",
        ({"ipv4": "dhcp", "ipv6": "dhcp"}, {"ipv4": "none", "addresses": ["2001:db8:2::9/64"], "mtu": 1400}),
        ("inet 192.0.2.10", "inet6 2001:db8:1::10", f"default via {ROUTER4}", "inet6 2001:db8:2::9/64", "mtu 1400"),
        (),
        (FAR4, "2001:db8:2::1"),
        properties={"SWAP": "4:128", **_CONSOLE},
    ),
    Case(
        "sysvinit",
        (
            {"ipv6": "slaac", "routes": [{"to": "10.99.0.0/16", "via": OTHER_ROUTER}], **_DNS},
            {"ipv4": "dhcp", "ipv6": "none"},
        ),
        ("inet 192.0.2.9/24", "inet6 2001:db8:1:", f"default via {ROUTER4}", "inet 198.51.100.1", "10.99.0.0/16 via"),
        ("192.0.2.9",),
        (FAR4, FAR6, BEHIND_ROUTE),
        ganeti=_NETWORK4,
        properties={"SWAP": "2:128", **_CONSOLE},
    ),
    Case(
        "cloud-init",
        (
            {"addresses": [f"{STATIC6}/64"], "gateway6": ROUTER6, "mtu": 1400, **_DNS},
            {"ipv4": "dhcp", "ipv6": "none"},
        ),
        (
            *("inet 192.0.2.9/24", f"inet6 {STATIC6}/64", f"default via {ROUTER4}", f"default via {ROUTER6}"),
            *("mtu 1400", "inet 198.51.100.1"),
        ),
        ("192.0.2.9", STATIC6),
        (FAR4, FAR6),
        ganeti=_NETWORK4,
        properties={"CLOUD_INIT": "yes", "HOSTNAME_POLICY": "fqdn"},
        hostname="cloud.example.org",
    ),
)
