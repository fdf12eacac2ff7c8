# SPDX-License-Identifier: GPL-2.0-or-later
"""The instance's cards for Windows, found by MAC address: in the answer file, and in scripts for what it cannot say.

Cards that get all by DHCP or from a router are left as Windows has a new card: so. Pure.
Sources: Microsoft, "Unattended Windows Setup Reference": Microsoft-Windows-TCPIP, whose settings of an interface must
stand in one order, Microsoft-Windows-DNS-Client; "netsh interface"; WMI's Win32_NetworkAdapterConfiguration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from snf_image_helper.network.addresses import Network
from snf_image_helper.network.cards import Card, Stack
from snf_image_helper.windows.answer_file import Element
from snf_image_shared.job import Ipv4Method, Ipv6Method, Route

TCPIP = "Microsoft-Windows-TCPIP"
DNS_CLIENT = "Microsoft-Windows-DNS-Client"
FIRST_WITH_COEXISTENCE = 15063  # the build: addresses of its own beside DHCP's, "dhcpstaticipcoexistence"
_LARGEST_METRIC = 9999
_LEAST_MTU_OF_IPV6 = 1280
_ON_LINK = {4: "0.0.0.0", 6: "::"}  # noqa: S104  # what Windows calls the next hop where there is none
_BY_ROUTER = frozenset({Ipv6Method.SLAAC, Ipv6Method.SLAAC_DHCP, Ipv6Method.DHCP})
_BY_DHCP = frozenset({Ipv6Method.SLAAC_DHCP, Ipv6Method.DHCP})


@dataclass(frozen=True)
class Answers:
    """What goes below each of the two components; nothing where there is nothing to say."""

    tcpip: tuple[Element, ...]
    dns_client: tuple[Element, ...]


def answers(cards: Sequence[Card]) -> Answers:
    """For Vista and later."""
    tcpip = tuple(_interface(card) for card in cards if _is_told(card))
    servers = tuple(_servers(card) for card in cards if card.nameservers or card.search)
    domains = tuple(dict.fromkeys(domain for card in cards for domain in card.search))
    suffixes = (Element("DNSSuffixSearchOrder", _keyed("DomainName", domains)),) if domains else ()
    return Answers(
        (Element("Interfaces", tcpip),) if tcpip else (),
        (*suffixes, Element("Interfaces", servers)) if servers else (),
    )


def scripts(cards: Sequence[Card], build: int) -> tuple[str, ...]:
    """Scripts of PowerShell for what no answer file can say, one for each card that needs any."""
    return tuple(
        "; ".join((_INDEX.format(card.mac.upper()), *commands))
        for card in cards
        if (commands := _commands(card, build))
    )


def left_out(cards: Sequence[Card], build: int) -> tuple[str, ...]:
    """What this Windows cannot do, for a warning."""
    return tuple(
        f"NIC {card.number}: the addresses {', '.join(map(str, card.v4.addresses))} beside DHCP are left out: Windows "
        f"has that since build {FIRST_WITH_COEXISTENCE}; drop them, or let DHCP give all"
        for card in cards
        if _coexists(card) and build < FIRST_WITH_COEXISTENCE
    )


# The program of PowerShell 5, which is part of every Windows since 8 and has no Get-NetAdapter in 2008 R2.
_INDEX = (
    "$card = Get-WmiObject Win32_NetworkAdapter -Filter \"MACAddress='{}'\" | Select-Object -First 1; "
    "$index = $card.InterfaceIndex"
)


def _is_told(card: Card) -> bool:
    """Whether the card is to have something that a new one does not have by itself."""
    has_own = card.addresses or card.routes
    is_off = card.ipv4 is Ipv4Method.NONE
    return bool(has_own) or is_off


def _coexists(card: Card) -> bool:
    return card.ipv4 is Ipv4Method.DHCP and bool(card.v4.addresses)


def _interface(card: Card) -> Element:
    by_dhcp, by_router = card.ipv4 is Ipv4Method.DHCP, card.ipv6 in _BY_ROUTER
    # Addresses beside those of DHCP would turn DHCP off.
    addresses = card.v6.addresses if by_dhcp else card.addresses
    routes = (*_routes(card.v4, 4), *_routes(card.v6, 6))
    parts = [
        _settings("Ipv4Settings", dhcp=by_dhcp, discovery=False),
        _settings("Ipv6Settings", dhcp=card.ipv6 in _BY_DHCP, discovery=by_router),
        Element("Identifier", _identifier(card)),
    ]
    if addresses:
        parts.append(Element("UnicastIpAddresses", _keyed("IpAddress", [str(address) for address in addresses])))
    if routes:
        numbered = (_route(number, route) for number, route in enumerate(routes, 1))
        parts.append(Element("Routes", tuple(numbered)))
    return Element("Interface", tuple(parts), is_listed=True)


def _settings(name: str, *, dhcp: bool, discovery: bool) -> Element:
    values = (("DhcpEnabled", dhcp), ("RouterDiscoveryEnabled", discovery))
    return Element(name, tuple(Element(key, "true" if value else "false") for key, value in values))


def _routes(stack: Stack, version: int) -> Iterator[Route]:
    """With the way to each gateway that lies in none of the card's networks, which Windows needs first."""
    known = {route.destination for route in stack.all_routes}
    for route in stack.all_routes:
        if route.on_link and route.gateway:
            way = f"{route.gateway}/{32 if version == 4 else 128}"
            if way not in known:
                known.add(way)
                yield Route(way)
    yield from stack.all_routes


def _route(number: int, route: Route) -> Element:
    version = 6 if ":" in route.destination else 4
    metric = (Element("Metric", str(min(route.metric, _LARGEST_METRIC))),) if route.metric else ()
    return Element(
        "Route",
        (
            Element("Identifier", str(number)),
            *metric,
            Element("NextHopAddress", route.gateway or _ON_LINK[version]),
            Element("Prefix", route.destination),
        ),
        is_listed=True,
    )


def _servers(card: Card) -> Element:
    domain = (Element("DNSDomain", card.search[0]),) if card.search else ()
    order = (Element("DNSServerSearchOrder", _keyed("IpAddress", card.nameservers)),) if card.nameservers else ()
    return Element("Interface", (Element("Identifier", _identifier(card)), *domain, *order), is_listed=True)


def _keyed(name: str, texts: Sequence[str]) -> tuple[Element, ...]:
    """Setup sorts them by their keys."""
    return tuple(Element(name, text, is_listed=True, key=str(number)) for number, text in enumerate(texts, 1))


def _identifier(card: Card) -> str:
    return card.mac.upper().replace(":", "-")


def _commands(card: Card, build: int) -> tuple[str, ...]:
    found = []
    if card.mtu:
        for version in ("ipv4", "ipv6") if card.mtu >= _LEAST_MTU_OF_IPV6 else ("ipv4",):
            found.append(f"netsh interface {version} set subinterface $index mtu={card.mtu} store=persistent")
    if _coexists(card) and build >= FIRST_WITH_COEXISTENCE:
        found.append("netsh interface ipv4 set interface $index dhcpstaticipcoexistence=enabled")
        found += [f"netsh interface ipv4 add address $index {_with_mask(address)}" for address in card.v4.addresses]
    return tuple(found)


def _with_mask(address: Network) -> str:
    return f"{address.address} {address.netmask}"
