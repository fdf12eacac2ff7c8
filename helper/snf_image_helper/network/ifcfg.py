# SPDX-License-Identifier: GPL-2.0-or-later
"""Red Hat's ifcfg files up to RHEL 8, for NetworkManager's plugin ifcfg-rh or for the scripts of initscripts.

NetworkManager finds a card by HWADDR alone, and takes default routes from GATEWAY and IPV6_DEFAULTGW, never from a
route file. The scripts would find it so, too, but a route on a link needs the card's name: they get DEVICE as well, and
rename_device, which comes with them, calls the card so. Sources: initscripts' network-functions, ifup-eth, ifup-ipv6
and ifup-routes of RHEL 6, 7 and 8; NetworkManager 1.0 to 1.40, nms-ifcfg-rh-reader.c.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from snf_image_helper.network.addresses import Address
from snf_image_helper.network.cards import DEFAULTS, Card, Stack
from snf_image_helper.network.naming import name_of
from snf_image_helper.network.networkmanager import with_servers_at_home
from snf_image_helper.network.rendering import HEADER, Facts, FileContent, Rendered, hidden
from snf_image_shared.job import Ipv4Method, Ipv6Method, Route

DIRECTORY = "/etc/sysconfig/network-scripts"
NETWORK = "/etc/sysconfig/network"
NETWORKMANAGER = "NetworkManager"  # the backend; all others are the scripts
# What of the image's would speak of the one default route of all cards.
_GLOBAL = re.compile(r"(GATEWAY|GATEWAYDEV|IPV6_DEFAULTGW|IPV6_DEFAULTDEV|NETWORKING)=")
_BARE = re.compile(r"[A-Za-z0-9./:_-]*")


def render(cards: tuple[Card, ...], facts: Facts) -> Rendered:
    """Files of the image for Ethernet cards are hidden; the scripts ignore some endings, and all ignore a dot."""
    managed = facts.backend == NETWORKMANAGER
    if managed:
        cards = with_servers_at_home(cards)
    files = {NETWORK: FileContent(_network(facts.texts.get(NETWORK, "")))}
    told = any(card.nameservers for card in cards)
    for card in cards:
        name = name_of(card, facts)
        values = {"TYPE": "Ethernet", "HWADDR": card.mac.upper()}
        values |= {"BOOTPROTO": "dhcp" if card.ipv4 is Ipv4Method.DHCP else "none", "ONBOOT": _yes(not card.down)}
        values |= _names(card) | ({"MTU": str(card.mtu)} if card.mtu else {})
        if managed:
            values |= _ipv4(card) | _managed(card)
            routes = [_route(route) for route in _besides(card)]
        else:
            values |= {"DEVICE": name, **({"PEERDNS": "no"} if told else {})} | _scripted(card)
            routes = [line for route in _unsaid(card) for line in _lines(route, name)]
            files |= _aliases(card, name)
        files[f"{DIRECTORY}/ifcfg-{name}"] = FileContent(HEADER + _assignments(values))
        for family, kind in ((4, "route"), (6, "route6")):
            lines = [line for line in routes if (":" in line) == (family == 6)]
            if lines:
                files[f"{DIRECTORY}/{kind}-{name}"] = FileContent(HEADER + "".join(f"{line}\n" for line in lines))
    return Rendered(files, hidden(facts.competing))


def _network(text: str) -> str:
    """The file that all cards share: the network is on, and no card in particular leads out of it."""
    kept = [line for line in text.splitlines() if not _GLOBAL.match(line)]
    return "".join(f"{line}\n" for line in ("NETWORKING=yes", *kept))


def _assignments(values: Mapping[str, str]) -> str:
    return "".join(f"{key}={value if _BARE.fullmatch(value) else _quoted(value)}\n" for key, value in values.items())


def _quoted(value: str) -> str:
    # Cards hold addresses and domain names alone; this is for what somebody may add to them.
    return "'" + value.replace("'", "'\\''") + "'"


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _names(card: Card) -> dict[str, str]:
    servers = {f"DNS{number}": server for number, server in enumerate(card.nameservers, 1)}
    return servers | ({"DOMAIN": " ".join(card.search)} if card.search else {})


def _ipv4(card: Card) -> dict[str, str]:
    """The addresses; the first has no number."""
    found: dict[str, str] = {}
    for number, address in enumerate(card.v4.addresses):
        suffix = str(number) if number else ""
        found |= {f"IPADDR{suffix}": str(address.address), f"PREFIX{suffix}": str(address.prefix)}
    return found


def _managed(card: Card) -> dict[str, str]:
    """The gateways and IPv6 as NetworkManager has them; its own metric is that of all routes without one."""
    found = _ipv6(card)
    for stack, key, metric in (
        (card.v4, "GATEWAY", "IPV4_ROUTE_METRIC"),
        (card.v6, "IPV6_DEFAULTGW", "IPV6_ROUTE_METRIC"),
    ):
        route = _default(stack)
        if route is not None and route.gateway:
            found |= {key: route.gateway} | ({metric: str(route.metric)} if route.metric else {})
    return found


def _default(stack: Stack) -> Route | None:
    return next((route for route in stack.all_routes if route.destination in DEFAULTS), None)


def _besides(card: Card) -> list[Route]:
    """The routes that NetworkManager takes from a file."""
    return [route for stack in (card.v4, card.v6) for route in stack.all_routes if route is not _default(stack)]


def _route(route: Route) -> str:
    via = f" via {route.gateway}" if route.gateway else ""
    return route.destination + via + _metric(route) + (" onlink" if route.on_link else "")


def _metric(route: Route) -> str:
    return f" metric {route.metric}" if route.metric else ""


def _scripted(card: Card) -> dict[str, str]:
    """What the scripts do with variables: gateways in the first network, and addresses that are not beside DHCP."""
    found = _ipv4(card) if card.ipv4 is Ipv4Method.STATIC else {}
    found |= _ipv6(card)
    for stack, key in ((card.v4, "GATEWAY"), (card.v6, "IPV6_DEFAULTGW")):
        if stack.gateway is not None and stack.gateway.gateway and _is_plain(stack):
            found[key] = stack.gateway.gateway
    return found


def _is_plain(stack: Stack) -> bool:
    """Whether the gateway lies in the network of the first address: of IPv4 the scripts ignore all others."""
    gateway = stack.gateway.gateway if stack.gateway else None
    return bool(gateway) and Address.parse(gateway or "") in stack.addresses[0]


def _unsaid(card: Card) -> list[Route]:
    """The routes that the scripts take from a file."""
    plain = [stack.gateway for stack in (card.v4, card.v6) if stack.gateway is not None and _is_plain(stack)]
    return [route for route in card.routes if route not in plain]


def _lines(route: Route, name: str) -> list[str]:
    """Arguments of "ip route add". An IPv6 gateway elsewhere gets a route first: old kernels lack "onlink" there."""
    via = f" via {route.gateway}" if route.gateway else ""
    line = f"{route.destination}{via} dev {name}{_metric(route)}"
    if not route.on_link:
        return [line]
    return [f"{route.gateway}/128 dev {name}", line] if ":" in line else [f"{line} onlink"]


def _ipv6(card: Card) -> dict[str, str]:
    """Without router advertisements there is no IPv6 but what is told; to stateful DHCPv6 they bring the route."""
    listens = card.ipv6 not in {Ipv6Method.NONE, Ipv6Method.STATIC}
    found = {"IPV6INIT": "yes", "IPV6_AUTOCONF": _yes(listens)}
    if card.ipv6 in {Ipv6Method.DHCP, Ipv6Method.SLAAC_DHCP}:
        found["DHCPV6C"] = "yes"
    if card.ipv6 is Ipv6Method.SLAAC_DHCP:
        found["DHCPV6C_OPTIONS"] = "-S"
    found |= {"IPV6_PRIVACY": "no", "IPV6_ADDR_GEN_MODE": "eui64"}
    if card.v6.addresses:
        own, *further = map(str, card.v6.addresses)
        found |= {"IPV6ADDR": own} | ({"IPV6ADDR_SECONDARIES": " ".join(further)} if further else {})
    return found


def _aliases(card: Card, name: str) -> dict[str, FileContent]:
    """Addresses beside DHCP, which the scripts only know as cards of their own."""
    if card.ipv4 is not Ipv4Method.DHCP:
        return {}
    files = {}
    for number, address in enumerate(card.v4.addresses):
        values = {"DEVICE": f"{name}:{number}", "IPADDR": str(address.address), "PREFIX": str(address.prefix)}
        path = f"{DIRECTORY}/ifcfg-{name}:{number}"
        files[path] = FileContent(HEADER + _assignments({**values, "ONPARENT": "yes"}))
    return files
