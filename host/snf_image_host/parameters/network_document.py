# SPDX-License-Identifier: GPL-2.0-or-later
"""The OS parameter network: a JSON document that a person can type, about how network cards are to be configured.

What it says of a card wins over Ganeti's addresses, network tags and DEFAULT_NIC_CONFIG; what it leaves out stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from snf_image_host.parameters.addresses import (
    Address,
    Address4,
    Address6,
    AnyInterface,
    AnyNetwork,
    Destination,
    Interface,
)
from snf_image_host.parameters.documents import decode, validate
from snf_image_host.parameters.faults import shown
from snf_image_host.parameters.hostnames import domain_name
from snf_image_shared.errors import RequestError
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic, Route

MAX_NICS = 64
_MAX_ITEMS = 64  # addresses, servers, domains or routes of one card
_LEAST_MTU, _LARGEST_MTU = 576, 65535  # RFC 791; ETH_MAX_MTU of Linux
LEAST_MTU_OF_IPV6 = 1280  # RFC 8200


def _mac(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", text):
        raise ValueError(f"{shown(text)} is not a hardware address like aa:00:00:12:34:56")
    return text.lower()


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class RouteDocument(_Strict):
    """One route of a card."""

    to: Destination = Field(description='where it leads: a network such as 10.0.0.0/8, or "default"')
    via: Address | None = Field(None, description="the gateway; without one the destination is on the card's own link")
    on_link: bool = Field(False, description="the gateway is on the card's link, though in no subnet of the card")
    metric: int = Field(0, ge=0, le=2**32 - 1, description="the lower one wins; 0 leaves it to the guest")

    @property
    def destination(self) -> AnyNetwork:
        """With "default" as the network of all addresses of the gateway's family."""
        if self.to is not None:
            return self.to
        return IPv6Network("::/0") if self.via and self.via.version == 6 else IPv4Network("0.0.0.0/0")


class NicDocument(_Strict):
    """One card, by its index (Ganeti's order, from 0) or by its hardware address. A member left out changes nothing."""

    index: int | None = Field(None, ge=0, lt=MAX_NICS, description="which card, in Ganeti's order, from 0")
    mac: Annotated[str, AfterValidator(_mac)] | None = Field(
        None, description="which card, by its hardware address, in place of the index"
    )
    ipv4: Literal["none", "dhcp", "static"] | None = Field(
        None, description="how the IPv4 address comes; static if there is one among the addresses"
    )
    ipv6: Literal["none", "dhcp", "slaac", "slaac_dhcp", "static"] | None = Field(
        None, description="how the IPv6 address comes; static if there is one among the addresses"
    )
    addresses: tuple[Interface, ...] = Field(
        (),
        max_length=_MAX_ITEMS,
        description="IPv4 and IPv6 addresses with their prefix lengths; the first is the main one",
    )
    gateway4: Address4 | None = Field(None, description="IPv4 default gateway; it may lie outside the subnet")
    gateway6: Address6 | None = Field(None, description="IPv6 default gateway; it may lie outside the subnet")
    dns: tuple[Address, ...] = Field((), max_length=_MAX_ITEMS, description="name servers, the first one first")
    search: tuple[Annotated[str, AfterValidator(domain_name)], ...] = Field(
        (), max_length=_MAX_ITEMS, description="domains in which short names are looked up"
    )
    mtu: int | None = Field(None, ge=_LEAST_MTU, le=_LARGEST_MTU, description="bytes; at least 1280 with IPv6")
    routes: tuple[RouteDocument, ...] = Field((), max_length=_MAX_ITEMS, description="further routes")

    @property
    def addresses4(self) -> tuple[IPv4Interface, ...]:
        """Those of IPv4, in order."""
        return tuple(item for item in self.addresses if isinstance(item, IPv4Interface))

    @property
    def addresses6(self) -> tuple[IPv6Interface, ...]:
        """Those of IPv6, in order."""
        return tuple(item for item in self.addresses if isinstance(item, IPv6Interface))


class NetworkDocument(_Strict):
    """How network cards of the instance are to be configured."""

    nics: tuple[NicDocument, ...] = Field(
        max_length=MAX_NICS, description="the cards of which there is something to say"
    )


NETWORK = TypeAdapter(NetworkDocument)


def parse_network(text: str) -> NetworkDocument | None:
    """Read the document; empty text is none. Raises RequestError with a line for each fault: "nics[0].mtu: ..."."""
    if not text:
        return None
    document = validate(decode(text), NETWORK, secret=False)
    lines = [f"nics[{number}]{fault}" for number, nic in enumerate(document.nics) for fault in _faults(nic)]
    lines += _repetitions(document.nics)
    if lines:
        raise RequestError(*lines)
    return document


def _faults(nic: NicDocument) -> Iterator[str]:
    """What is wrong with one card's members beside each other."""
    if (nic.index is None) == (nic.mac is None):
        yield ": write either the index of the card or its mac"
    yield from _family_faults("4", nic.ipv4, bool(nic.addresses4), nic.gateway4 is not None)
    yield from _family_faults("6", nic.ipv6, bool(nic.addresses6), nic.gateway6 is not None)
    own = {item.ip for item in nic.addresses}
    for name, gateway in (("gateway4", nic.gateway4), ("gateway6", nic.gateway6)):
        if gateway in own:
            yield f".{name}: {gateway} is the card's own address"
        if any(gateway in ends for ends in _ends(nic)):
            yield f".{name}: {gateway} is the network's own or its broadcast address; write that of the router"
    if nic.mtu and nic.mtu < LEAST_MTU_OF_IPV6 and (nic.addresses6 or nic.ipv6 not in {None, "none"}):
        yield f".mtu: {nic.mtu} is too little for IPv6, which needs {LEAST_MTU_OF_IPV6}"
    for name, items in (("addresses", [item.ip for item in nic.addresses]), ("dns", nic.dns), ("search", nic.search)):
        for number, item in enumerate(items):
            if item in items[:number]:
                yield f".{name}[{number}]: {item} is given twice; keep one of them"
    for number, route in enumerate(nic.routes):
        for fault in _route_faults(nic, route, nic.routes[:number]):
            yield f".routes[{number}]{fault}"


def _ends(nic: NicDocument) -> Iterator[tuple[IPv4Address, IPv4Address]]:
    """The first and the last address of each IPv4 subnet, which no machine has."""
    for item in nic.addresses4:
        if item.network.num_addresses > 2:
            yield item.network.network_address, item.network.broadcast_address


def _family_faults(family: str, method: str | None, has_address: bool, has_gateway: bool) -> Iterator[str]:
    if method == "static" and not has_address:
        yield f".ipv{family}: static needs an IPv{family} address among the addresses"
    if method == "none" and has_address:
        yield f".ipv{family}: none, and yet there is an IPv{family} address among the addresses; drop one of the two"
    if has_gateway and method not in {None, "static"}:
        yield f".gateway{family}: goes with static addresses alone; write a route to the default instead"


def _route_faults(nic: NicDocument, route: RouteDocument, before: Sequence[RouteDocument]) -> Iterator[str]:
    target = route.destination
    if route.via is None and route.to is None:
        yield ".via: is missing; a default route needs a gateway"
        return
    if any((target, route.metric) == (other.destination, other.metric) for other in before):
        yield f".to: {target} is given twice; keep one of them, or give them different metrics"
    if route.via is None:
        if route.on_link:
            yield ".on_link: there is no gateway that could be on the link; give via"
        return
    subnets = [item.network for item in nic.addresses if item.version == route.via.version]
    if route.via.version != target.version:
        yield f".via: {route.via} is not an IPv{target.version} address, as {target} is"
    elif any(route.via == item.ip for item in nic.addresses):
        yield f".via: {route.via} is the card's own address"
    elif any(route.via in ends for ends in _ends(nic)):
        yield f".via: {route.via} is the network's own or its broadcast address; write that of the router"
    elif subnets and not (route.on_link or route.via.is_link_local or any(route.via in subnet for subnet in subnets)):
        yield f".via: {route.via} is in no subnet of the card; correct it, or set on_link if it is on the link even so"
    gateway = nic.gateway4 if target.version == 4 else nic.gateway6
    if not target.prefixlen and gateway is not None and not route.metric:
        yield f".to: gateway{target.version} is a default route as well; keep one of them, or give this one a metric"


def _repetitions(entries: Sequence[NicDocument]) -> Iterator[str]:
    """Cards and addresses that two entries name."""
    cards: set[object] = set()
    taken: set[object] = set()
    for number, entry in enumerate(entries):
        card = entry.index if entry.mac is None else entry.mac
        if card in cards:
            yield f"nics[{number}]: {card} is in an earlier entry already; write one entry for each card"
        if card is not None:
            cards.add(card)
        for place, item in enumerate(entry.addresses):
            if item.ip in taken:
                yield f"nics[{number}].addresses[{place}]: {item.ip} is on another card already"
        taken |= {item.ip for item in entry.addresses}


def configured(nics: Sequence[Nic], document: NetworkDocument | None) -> tuple[Nic, ...]:
    """The cards as Ganeti describes them, and over that what the document says.

    Raises RequestError with a line for each card that is not there, or that cannot be as the document wants it.
    """
    found = list(nics)
    named: set[int] = set()
    lines: list[str] = []
    for number, entry in enumerate(document.nics if document else ()):
        place = _place(entry, nics)
        if place is None:
            who = entry.index if entry.mac is None else entry.mac
            lines.append(f"nics[{number}]: the instance has no card {who}, but {len(nics)} cards; correct it")
            continue
        if place in named:
            lines.append(f"nics[{number}]: an earlier entry names the same card; write one entry for each card")
            continue
        named.add(place)
        found[place] = _overridden(nics[place], entry)
        lines += [f"nics[{number}]{fault}" for fault in _misfits(found[place], entry)]
    if lines:
        raise RequestError(*lines)
    return tuple(found)


def _place(entry: NicDocument, nics: Sequence[Nic]) -> int | None:
    """Where in `nics` the entry's card is."""
    matches = (n for n, nic in enumerate(nics) if (n == entry.index if entry.mac is None else nic.mac == entry.mac))
    return next(matches, None)


def _overridden(nic: Nic, entry: NicDocument) -> Nic:
    """Each family as the entry wants it, if it speaks of that family at all; the rest if it is given."""
    ipv4 = entry.ipv4 or ("static" if entry.addresses4 else None)
    ipv6 = entry.ipv6 or ("static" if entry.addresses6 else None)
    further: list[AnyInterface] = []
    if ipv4 is not None:
        main, others = _split(ipv4, entry.addresses4)
        further += others
        nic = replace(nic, ipv4=Ipv4Method(ipv4), address4=main, gateway4=None)
    if ipv6 is not None:
        main, others = _split(ipv6, entry.addresses6)
        further += others
        nic = replace(nic, ipv6=Ipv6Method(ipv6), address6=main, gateway6=None)
    return replace(
        nic,
        gateway4=str(entry.gateway4) if entry.gateway4 else nic.gateway4,
        gateway6=str(entry.gateway6) if entry.gateway6 else nic.gateway6,
        addresses=tuple(map(str, further)) or nic.addresses,
        routes=tuple(_route(route) for route in entry.routes) or nic.routes,
        nameservers=tuple(map(str, entry.dns)) or nic.nameservers,
        search=entry.search or nic.search,
        mtu=entry.mtu or nic.mtu,
    )


def _split(method: str, items: Sequence[AnyInterface]) -> tuple[str | None, Sequence[AnyInterface]]:
    """The main address of a static card, and those beside it."""
    return (str(items[0]), items[1:]) if method == "static" else (None, items)


def _route(route: RouteDocument) -> Route:
    gateway = None if route.via is None else str(route.via)
    return Route(str(route.destination), gateway, route.on_link, route.metric)


def _misfits(nic: Nic, entry: NicDocument) -> Iterator[str]:
    """What only shows beside what Ganeti says of the card."""
    for family, gateway, method in (("4", entry.gateway4, nic.ipv4), ("6", entry.gateway6, nic.ipv6)):
        if gateway is not None and method != "static":
            yield f".gateway{family}: the card has no static IPv{family} address; give one among the addresses"
    for number, route in enumerate(entry.routes):
        version = route.destination.version
        if (nic.ipv4 if version == 4 else nic.ipv6) == "none":
            cure = f"give it an address of it, or say in ipv{version} how it gets one"
            yield f".routes[{number}]: the card has no IPv{version}; {cure}"
    if 0 < nic.mtu < LEAST_MTU_OF_IPV6 and nic.ipv6 is not Ipv6Method.NONE:
        yield f".mtu: {nic.mtu} is too little for IPv6, which needs {LEAST_MTU_OF_IPV6}; Ganeti's network has IPv6"
