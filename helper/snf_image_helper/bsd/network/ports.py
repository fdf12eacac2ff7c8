# SPDX-License-Identifier: GPL-2.0-or-later
"""A network card under the name that a BSD gives it, and what renderers are told of the guest and answer.

A name is a driver's and a number, counted by driver in the order in which the kernel finds the cards, which is
Ganeti's. Some of QEMU's cards belong to one driver or the other as the release goes: what is written for both names
does no harm under that of no card.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from snf_image_helper.network.addresses import Network
from snf_image_helper.network.cards import DEFAULTS, Card
from snf_image_helper.network.rendering import HEADER, FileContent, Rendered, hidden, suffixed
from snf_image_helper.system import OsFamily
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic, Route

RESOLV_CONF = "/etc/resolv.conf"
PARAVIRTUAL = "paravirtual"  # Ganeti's default (lib/constants, HV_NIC_TYPE of KVM)
_USUAL_METRIC = {False: 0, True: 1024}  # what Linux makes of none, for IPv6 or not: metrics are ordered by it
# Interfaces that are no cards: what a guest says of them is its own business.
_PSEUDO = re.compile(
    r"(?:aggr|bridge|carp|disc|edsc|enc|epair|etherip|faith|gif|gre|ieee80211|ipfw|ipsec|l2tp|lagg|lo|me|mobileip|mpe"
    r"|mpip|mpw|mvgre|ng|npppd|nvgre|ovpn|pair|pf|pflog|pflow|pfsync|plip|ppp|pppoe|rdomain|sec|sl"
    r"|stf|strip|svlan|tagg|tap|tpmr|trunk|tun|tunnel|veb|vether|vlan|vport|vxlan|wg|wlan)[0-9]*"
)

# Ganeti's types of cards (HT_KVM_VALID_NIC_TYPES, HT_HVM_VALID_NIC_TYPES), drivers of FreeBSD, NetBSD and OpenBSD.
# QEMU's rtl8139 is of revision 0x20, an 8139C+: FreeBSD's rl(4) leaves it to re(4) (if_rl.c), and so do the others.
# FreeBSD 13 has lost ed(4) and pcn(4); le(4) takes the second one's cards.
_Drivers = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
_VIRTIO: _Drivers = (("vtnet",), ("vioif",), ("vio",))
_INTEL: _Drivers = (("em",), ("wm",), ("em",))
_NE2000: _Drivers = (("ed",), ("ne",), ("ne",))
_FXP: _Drivers = (("fxp",), ("fxp",), ("fxp",))
_DRIVERS: Mapping[str, _Drivers] = {
    PARAVIRTUAL: _VIRTIO,
    "rtl8139": (("rl", "re"), ("re", "rtk"), ("rl", "re")),
    "ne2k_pci": _NE2000,
    "ne2k_isa": _NE2000,
    "i82551": _FXP,
    "i82557b": _FXP,
    "i82559er": _FXP,
    "pcnet": (("pcn", "le"), ("pcn", "le"), ("pcn",)),
    "e1000": _INTEL,
    "e1000e": _INTEL,
    "vmxnet3": (("vmx",), ("vmx",), ("vmx",)),
}
_COLUMNS = {OsFamily.FREEBSD: 0, OsFamily.NETBSD: 1, OsFamily.OPENBSD: 2}


@dataclass(frozen=True)
class Port:
    """A card, and the names under which the guest may know it, the likelier in old releases first."""

    card: Card
    names: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """`texts` are files of the guest that are changed in place; `there` those that are replaced, or would compete.

    `matches_mac`: files may be named after hardware addresses. `autoconf`: OpenBSD from 6.9 on. `dhcp6c`: the port of
    that name is installed.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    there: tuple[str, ...] = ()
    matches_mac: bool = True
    autoconf: bool = True
    dhcp6c: bool = False


@dataclass(frozen=True)
class Files:
    """`rendered` are whole files; `edited` are files of the guest with what is ours in them. `warnings` are told."""

    rendered: Rendered
    edited: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Way:
    """A route, through this port."""

    port: Port
    route: Route

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.route.destination

    @property
    def is_default(self) -> bool:
        return self.route.destination in DEFAULTS

    @property
    def address(self) -> str:
        """Of the destination, without its prefix."""
        return self.route.destination.partition("/")[0]

    @property
    def prefix(self) -> int:
        return int(self.route.destination.partition("/")[2])

    @property
    def is_link_local(self) -> bool:
        """Whether the gateway has to be named with its card."""
        return (self.route.gateway or "").startswith("fe80:")

    @property
    def metric(self) -> int:
        return self.route.metric or _USUAL_METRIC[self.is_ipv6]

    @property
    def waits_for_dhcp(self) -> bool:
        """Whether the gateway is in no network that the card has before a DHCP server has answered."""
        card, route = self.port.card, self.route
        if card.ipv4 is not Ipv4Method.DHCP or self.is_ipv6 or route.gateway is None or route.on_link:
            return False
        gateway = Network.parse(f"{route.gateway}/32").address
        return not any(gateway in network for network in card.v4.addresses)


def drivers_of(nic: Nic, number: int, family: OsFamily) -> tuple[str, ...]:
    """The drivers that may take this card. Raises GuestError for a type that is not known."""
    found = _DRIVERS.get(nic.model.strip().lower() or PARAVIRTUAL)
    if found is None:
        raise GuestError(
            f"NIC {number}: nobody knows what {family} calls a card of the type {nic.model[:40]!r}; "
            f"set the hypervisor parameter nic_type to one of {', '.join(_DRIVERS)}"
        )
    return found[_COLUMNS[family]]


def ports_of(cards: Sequence[Card], nics: Sequence[Nic], family: OsFamily, *, named: bool = True) -> tuple[Port, ...]:
    """The cards with their names; without `named` a card of an unknown type has none.

    Raises GuestError for such a card that has to have one.
    """
    counts: dict[str, int] = {}
    ports = []
    for card, nic in zip(cards, nics, strict=True):
        try:
            drivers = drivers_of(nic, card.number, family)
        except GuestError:
            if named:
                raise
            drivers = ()
        number = max((counts.get(driver, 0) for driver in drivers), default=0)
        counts.update(dict.fromkeys(drivers, number + 1))
        ports.append(Port(card, tuple(f"{driver}{number}" for driver in drivers)))
    return tuple(ports)


def is_card(interface: str) -> bool:
    """Whether an interface of this name may be a network card, for all that is known of other ones."""
    return _PSEUDO.fullmatch(interface) is None


def ways_of(ports: Sequence[Port]) -> tuple[Way, ...]:
    """All routes, those on a link before those by a gateway."""
    ways = [Way(port, route) for port in ports for route in port.card.routes]
    return tuple(sorted(ways, key=lambda way: way.route.gateway is not None))


def without_metrics(ports: Sequence[Port]) -> tuple[tuple[Way, ...], tuple[str, ...]]:
    """The routes that a system without metrics can have, one to each destination, and warnings of the others."""

    def destination(way: Way) -> str:
        return way.route.destination

    kept, warnings = set(), []
    for name, group in groupby(sorted(ways_of(ports), key=destination), key=destination):
        best, *others = sorted(group, key=lambda way: way.metric)
        kept.add(best)
        warnings += [
            f"NIC {way.port.card.number}: the route to {name} by {way.route.gateway or 'its link'} is left out: "
            "this system has one route to a destination, and another one has a lower metric"
            for way in others
        ]
    return tuple(way for way in ways_of(ports) if way in kept), tuple(warnings)


def listens(card: Card) -> bool:
    """Whether the card takes router advertisements."""
    return card.ipv6 not in {Ipv6Method.NONE, Ipv6Method.STATIC}


def asks(card: Card) -> bool:
    """Whether somebody else may tell the card of name servers."""
    return card.ipv4 is Ipv4Method.DHCP or listens(card)


def wants_dhcp6(card: Card) -> bool:
    """Whether the card is to ask a server of DHCPv6."""
    return card.ipv6 in {Ipv6Method.DHCP, Ipv6Method.SLAAC_DHCP}


def netmasks(addresses: Sequence[Network]) -> Iterable[tuple[Network, str]]:
    """IPv4 addresses of a card with their netmasks: one in the network of an earlier one stands alone, ifconfig(8)."""
    for number, own in enumerate(addresses):
        is_alone = any(own.address in other for other in addresses[:number])
        yield own, "255.255.255.255" if is_alone else own.netmask


def retired(there: Sequence[str], ours: Collection[str], files: Mapping[str, FileContent]) -> dict[str, str]:
    """New names for files of the image that are replaced or would compete.

    What is `ours` only goes where it is written anew. In rc.conf.d/NAME/ every file is read that has no dot in front.
    """
    found: dict[str, str] = {}
    for path in there:
        if path in files or path not in ours:
            is_inside = "/" in path.partition("/rc.conf.d/")[2]
            found.update(hidden((path,)) if is_inside else suffixed((path,)))
    return found


def resolv_conf(ports: Sequence[Port], *, first: str = "") -> dict[str, FileContent]:
    """resolv.conf(5) with all name servers; nothing without any. `first` is a line of its own."""
    servers = dict.fromkeys(server for port in ports for server in port.card.nameservers)
    search = dict.fromkeys(domain for port in ports for domain in port.card.search)
    if not servers:
        return {}
    lines = [first] if first else []
    lines += [f"search {' '.join(search)}"] if search else []
    lines += [f"nameserver {server}" for server in servers]
    return {RESOLV_CONF: FileContent(HEADER + "".join(f"{line}\n" for line in lines))}
