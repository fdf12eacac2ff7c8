# SPDX-License-Identifier: GPL-2.0-or-later
"""wicked of SUSE, ifcfg(5), ifroute(5), ifsysctl(5): files by the name of the card, which a rule of udev's holds.

Name servers go to netconfig, through the file that YaST writes them into. Sources: wicked's compat-suse.c and manual
pages; SUSE keeps cards' names in 70-persistent-net.rules itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from snf_image_helper.network.cards import Card
from snf_image_helper.network.naming import name_of, rules
from snf_image_helper.network.rendering import HEADER, Facts, FileContent, Rendered, hidden, suffixed
from snf_image_shared.job import Ipv4Method, Ipv6Method, Route

DIRECTORY = "/etc/sysconfig/network"
CONFIG = f"{DIRECTORY}/config"
_SERVERS, _SEARCH = "NETCONFIG_DNS_STATIC_SERVERS", "NETCONFIG_DNS_STATIC_SEARCHLIST"


def render(cards: tuple[Card, ...], facts: Facts) -> Rendered:
    """Files of the image for Ethernet cards are hidden, and so are the routes of all cards."""
    files = rules(cards, facts)
    for card in cards:
        name = name_of(card, facts)
        files[f"{DIRECTORY}/ifcfg-{name}"] = FileContent(HEADER + _assignments(_ifcfg(card)))
        files[f"{DIRECTORY}/ifsysctl-{name}"] = FileContent(HEADER + _sysctl(card, name))
        routes = [line for route in card.routes for line in _lines(route, name)]
        if routes:
            files[f"{DIRECTORY}/ifroute-{name}"] = FileContent(HEADER + "".join(f"{line}\n" for line in routes))
    names = {
        _SERVERS: dict.fromkeys(server for card in cards for server in card.nameservers),
        _SEARCH: dict.fromkeys(domain for card in cards for domain in card.search),
    }
    if names[_SERVERS]:
        wanted = {key: " ".join(values) for key, values in names.items()}
        files[CONFIG] = FileContent(_with(facts.texts.get(CONFIG, ""), wanted))
    own = tuple(path for path in facts.competing if path.startswith(DIRECTORY))
    others = tuple(path for path in facts.competing if path not in own)
    return Rendered(files, {**hidden(own), **suffixed(others)})


def _ifcfg(card: Card) -> dict[str, str]:
    values = {"STARTMODE": "off" if card.down else "auto", "BOOTPROTO": _protocols(card)}
    for number, address in enumerate(card.addresses):
        values[f"IPADDR_{number}" if number else "IPADDR"] = str(address)
    if card.mtu:
        values["MTU"] = str(card.mtu)
    if card.ipv6 in {Ipv6Method.DHCP, Ipv6Method.SLAAC_DHCP}:
        values["DHCLIENT6_MODE"] = "managed" if card.ipv6 is Ipv6Method.DHCP else "info"
    return values


def _protocols(card: Card) -> str:
    """Addresses that are told are used beside all of them. "dhcp" is both clients, of which one has to succeed."""
    dhcp4, dhcp6 = card.ipv4 is Ipv4Method.DHCP, card.ipv6 in {Ipv6Method.DHCP, Ipv6Method.SLAAC_DHCP}
    dhcp = {(True, True): "dhcp", (True, False): "dhcp4", (False, True): "dhcp6", (False, False): ""}[dhcp4, dhcp6]
    auto6 = "auto6" if card.ipv6 in {Ipv6Method.SLAAC, Ipv6Method.SLAAC_DHCP} else ""
    return "+".join(filter(None, (dhcp, auto6))) or "static"


def _sysctl(card: Card, name: str) -> str:
    """What router advertisements may do: with DHCPv6 alone they bring the routes, but no addresses."""
    listens = card.ipv6 not in {Ipv6Method.NONE, Ipv6Method.STATIC}
    autoconf = card.ipv6 in {Ipv6Method.SLAAC, Ipv6Method.SLAAC_DHCP}
    values = {"accept_ra": listens, "autoconf": autoconf, "use_tempaddr": False}
    return "".join(f"net.ipv6.conf.{name}.{key} = {int(value)}\n" for key, value in values.items())


def _lines(route: Route, name: str) -> list[str]:
    """Destination, gateway, netmask, card, options. A gateway elsewhere is reached by a route of its own."""
    metric = f" metric {route.metric}" if route.metric else ""
    line = f"{route.destination} {route.gateway or '-'} - {name}{metric}"
    if not route.on_link:
        return [line]
    whole = 128 if ":" in route.destination else 32
    return [f"{route.gateway}/{whole} - - {name}", line]


def _assignments(values: Mapping[str, str]) -> str:
    return "".join(f"{key}='{value}'\n" for key, value in values.items())


def _with(text: str, wanted: Mapping[str, str]) -> str:
    """The text with these variables set. netconfig does nothing at all where its policy is empty."""
    lines = [_set(line, wanted) for line in text.splitlines()]
    present = {line.partition("=")[0] for line in lines}
    added = [f'{key}="{value}"' for key, value in wanted.items() if key not in present]
    return "".join(f"{line}\n" for line in (*lines, *added))


def _set(line: str, wanted: Mapping[str, str]) -> str:
    key = line.partition("=")[0]
    if key in wanted:
        return f'{key}="{wanted[key]}"'
    return 'NETCONFIG_DNS_POLICY="auto"' if _NO_POLICY.fullmatch(line) else line


_NO_POLICY = re.compile(r"NETCONFIG_DNS_POLICY=(\"\"|'')?\s*")
