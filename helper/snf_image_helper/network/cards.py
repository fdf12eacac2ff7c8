# SPDX-License-Identifier: GPL-2.0-or-later
"""Network cards as every renderer sees them: checked, numbered, with one default gateway a family and metric.

The host has checked all of it, too. What comes out here is written into files of the guest, so nothing does that has
not been parsed and written anew.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from snf_image_helper.network.addresses import Address, Network
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic, Route

DEFAULTS = ("0.0.0.0/0", "::/0")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*", re.IGNORECASE | re.ASCII)
_LEAST_MTU, _LEAST_MTU_OF_IPV6, _LARGEST_MTU = 68, 1280, 65535
_LARGEST_METRIC = 0xFFFF_FFFF
_USUAL_METRIC = {4: 0, 6: 1024}  # what Linux makes of a metric that is not given


@dataclass(frozen=True)
class Stack:
    """What a card has of one family. `gateway` is a default route; `routes` stand in an order that works.

    All text is as inet_ntop(3) writes it, and no destination has bits of a host.
    """

    addresses: tuple[Network, ...] = ()
    gateway: Route | None = None
    routes: tuple[Route, ...] = ()
    nameservers: tuple[str, ...] = ()

    @property
    def all_routes(self) -> tuple[Route, ...]:
        """The gateway's and the others."""
        return self.routes if self.gateway is None else (self.gateway, *self.routes)


@dataclass(frozen=True)
class Card:
    """`number` counts from 0 in Ganeti's order; `mac` is lower-case; `mtu` 0 is "not given".

    A family is STATIC exactly when addresses are all it has; other methods may have addresses besides. `left_out` are
    the default gateways that gave way to others.
    """

    number: int
    mac: str
    ipv4: Ipv4Method = Ipv4Method.NONE
    ipv6: Ipv6Method = Ipv6Method.NONE
    v4: Stack = Stack()
    v6: Stack = Stack()
    search: tuple[str, ...] = ()
    mtu: int = 0
    left_out: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What of the order is not done, whatever the guest is."""
        return tuple(
            f"NIC {self.number}: the default route by {gateway} is left out, there is another one; "
            "give both as routes with different metrics to keep them"
            for gateway in self.left_out
        )

    @property
    def idle(self) -> bool:
        """Nothing is sent through the card: at most it is switched on."""
        return self.ipv4 is Ipv4Method.NONE and self.ipv6 is Ipv6Method.NONE and not self.routes

    @property
    def down(self) -> bool:
        """Nobody said anything of the card: it is kept switched off, whatever the image would do with it."""
        return self.idle and not (self.mtu or self.nameservers or self.search)

    @property
    def addresses(self) -> tuple[Network, ...]:
        """Those of both families that are told, IPv4 first."""
        return (*self.v4.addresses, *self.v6.addresses)

    @property
    def routes(self) -> tuple[Route, ...]:
        """Those of both families, the gateways' among them."""
        return (*self.v4.all_routes, *self.v6.all_routes)

    @property
    def nameservers(self) -> tuple[str, ...]:
        """Those of both families, IPv4 first."""
        return (*self.v4.nameservers, *self.v6.nameservers)


def cards_of(nics: Sequence[Nic]) -> tuple[Card, ...]:
    """The job's cards in order.

    Of default routes that only differ in their card the first one stays, and one that the user asked for before a
    network's gateway. Raises GuestError, naming the NIC, for whatever is not what it should be, and for a MAC address
    given twice: cards are told apart by it.
    """
    found: list[Card] = []
    for number, nic in enumerate(nics):
        try:
            card = _card(number, nic)
        except ValueError as error:
            raise GuestError(f"NIC {number}: {error}") from error
        if card.mac in {other.mac for other in found}:
            raise GuestError(f"NIC {number}: the MAC address {card.mac} is another NIC's, too; give it one of its own")
        found.append(card)
    return _with_one_default(found)


def _card(number: int, nic: Nic) -> Card:
    """Raises ValueError with a sentence."""
    mac = nic.mac.lower()
    if not _MAC.fullmatch(mac):
        raise ValueError(f"{nic.mac[:40]!r} is no MAC address; write six hexadecimal bytes with colons")
    v4, v6 = _stack(nic, 4), _stack(nic, 6)
    ipv4 = Ipv4Method.STATIC if nic.ipv4 is Ipv4Method.NONE and v4.addresses else nic.ipv4
    ipv6 = Ipv6Method.STATIC if nic.ipv6 is Ipv6Method.NONE and v6.addresses else nic.ipv6
    least = _LEAST_MTU if ipv6 is Ipv6Method.NONE else _LEAST_MTU_OF_IPV6
    if nic.mtu and not least <= nic.mtu <= _LARGEST_MTU:
        raise ValueError(f"{nic.mtu} is no MTU; give a number from {least} to {_LARGEST_MTU}")
    for domain in nic.search:
        if not _DOMAIN.fullmatch(domain):
            raise ValueError(f"{domain[:40]!r} is no search domain; write it like example.com")
    return Card(number, mac, ipv4, ipv6, v4, v6, nic.search, nic.mtu)


def _stack(nic: Nic, version: int) -> Stack:
    own, gateway = (nic.address4, nic.gateway4) if version == 4 else (nic.address6, nic.gateway6)
    method = nic.ipv4 if version == 4 else nic.ipv6
    is_static = method in {Ipv4Method.STATIC, Ipv6Method.STATIC}
    others = [text for text in nic.addresses if (":" in text) == (version == 6)]
    addresses = tuple(_network(text, version) for text in ([own or ""] if is_static else []) + others)
    # Other methods bring their own gateway.
    manual = is_static or (bool(addresses) and method in {Ipv4Method.NONE, Ipv6Method.NONE})
    networks = addresses if manual else ()
    default = Route(DEFAULTS[version == 6], gateway)
    routes = [_route(route, networks) for route in nic.routes if (":" in route.destination) == (version == 6)]
    if routes and not addresses and method in {Ipv4Method.NONE, Ipv6Method.NONE}:
        raise ValueError(f"the route to {routes[0].destination} needs an IPv{version} address on the card; give it one")
    return Stack(
        addresses,
        _route(default, networks) if manual and gateway else None,
        # Stable: a gateway may be reached by a route without one.
        tuple(sorted(routes, key=lambda route: route.gateway is not None)),
        tuple(str(found) for found in map(_address, nic.nameservers) if found.version == version),
    )


def _route(route: Route, networks: tuple[Network, ...]) -> Route:
    """`networks` are the card's own, if they are known: a gateway outside of them is on-link."""
    try:
        destination = Network.parse(route.destination).whole
    except ValueError as error:
        raise ValueError(f"{route.destination[:50]!r} is no destination; write it like 10.0.0.0/8") from error
    if not 0 <= route.metric <= _LARGEST_METRIC:
        raise ValueError(f"{route.metric} is no metric; give a number from 0 to {_LARGEST_METRIC}")
    if route.gateway is None:
        return Route(str(destination), None, False, route.metric)
    gateway = _address(route.gateway, destination.address.version)
    far = bool(networks) and not gateway.is_link_local and not any(gateway in network for network in networks)
    return Route(str(destination), str(gateway), route.on_link or far, route.metric)


def _network(text: str, version: int) -> Network:
    example = "192.0.2.7/24" if version == 4 else "2001:db8::7/64"
    try:
        found = Network.parse(text)
    except ValueError as error:
        raise ValueError(f"{text[:50]!r} is no address with a prefix; write it like {example}") from error
    if found.address.version != version or found.prefix == 0:
        raise ValueError(f"{text[:50]!r} is no IPv{version} address with a prefix; write it like {example}")
    return found


def _address(text: str, version: int | None = None) -> Address:
    try:
        found = Address.parse(text)
    except ValueError as error:
        raise ValueError(f"{text[:50]!r} is no IP address; write it like 192.0.2.7 or 2001:db8::7") from error
    if version not in {None, found.version}:
        raise ValueError(f"{text[:50]!r} is no IPv{version} address; give one of the same family")
    return found


def _with_one_default(cards: Sequence[Card]) -> tuple[Card, ...]:
    asked = [(card.number, route) for card in cards for route in (*card.v4.routes, *card.v6.routes)]
    given = [(card.number, stack.gateway) for card in cards for stack in (card.v4, card.v6) if stack.gateway]
    kept: dict[tuple[int, int], tuple[int, Route]] = {}
    for number, route in (*asked, *given):
        if _is_default(route):
            kept.setdefault(_place(route), (number, route))
    return tuple(_with_defaults(card, kept.values()) for card in cards)


def _with_defaults(card: Card, kept: Collection[tuple[int, Route]]) -> Card:
    def stays(route: Route) -> bool:
        return not _is_default(route) or (card.number, route) in kept

    def thinned(stack: Stack) -> Stack:
        gateway = stack.gateway if stack.gateway and stays(stack.gateway) else None
        routes = dict.fromkeys(route for route in stack.routes if stays(route) and route != gateway)
        return replace(stack, gateway=gateway, routes=tuple(routes))

    left_out = dict.fromkeys(route.gateway or "without gateway" for route in card.routes if not stays(route))
    return replace(card, v4=thinned(card.v4), v6=thinned(card.v6), left_out=tuple(left_out))


def _is_default(route: Route) -> bool:
    return route.destination in DEFAULTS


def _place(route: Route) -> tuple[int, int]:
    """The family and metric that only one default route may have."""
    version = 6 if ":" in route.destination else 4
    return version, route.metric or _USUAL_METRIC[version]
