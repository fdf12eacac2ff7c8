# SPDX-License-Identifier: GPL-2.0-or-later
"""NetBSD: ifconfig.if(5) for all that is told, dhcpcd(8) for what others tell, rc.conf(5) for the ways out.

A card is known by its name alone. The base system lost rtsol(8) in NetBSD 9 and dhclient(8) in 10; dhcpcd does
IPv4, router advertisements and DHCPv6. Sources: NetBSD src etc/rc.d/network, etc/rc.d/dhcpcd, sbin/route/route.c;
dhcpcd.conf(5), dhcpcd-run-hooks(8).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from snf_image_helper.bsd.network.ports import (
    RESOLV_CONF,
    Facts,
    Files,
    Port,
    Way,
    asks,
    is_card,
    listens,
    netmasks,
    resolv_conf,
    retired,
    without_metrics,
)
from snf_image_helper.bsd.network.variables import with_network
from snf_image_helper.network import dhcpcd
from snf_image_helper.network.cards import Card
from snf_image_helper.network.rendering import HEADER, FileContent, Rendered
from snf_image_shared.job import Ipv4Method, Ipv6Method

RC_CONF = "/etc/rc.conf"
FILE = "/etc/ifconfig.{}"
OURS = (RESOLV_CONF, dhcpcd.CONFIG, dhcpcd.HOOK)

_VARIABLES = re.compile(
    r"net_interfaces|auto_ifconfig|defaultroute6?|dhclient(_flags)?|dhcpcd(_flags)?|rtsol(_flags)?|dns_(domain|search"
    r"|nameservers|sortlist)"
)
_OF_CARDS = re.compile(r"(?:ifconfig|ifaliases)_([A-Za-z]+\d*)")


def render(ports: tuple[Port, ...], facts: Facts) -> Files:
    """The template's files for cards go, and so do its files with a default route (mygate)."""
    ways, warnings = without_metrics(ports)
    files = {
        FILE.format(name): FileContent(HEADER + "".join(f"{line}\n" for line in _lines(port, name, ways)))
        for port in ports
        for name in port.names
        if not port.card.down
    }
    files |= resolv_conf(ports)
    dynamic = [port for port in ports if asks(port.card)]
    if dynamic:
        files |= _of_dhcpcd(dynamic, ways, facts.texts.get(dhcpcd.CONFIG, ""), has_names=RESOLV_CONF in files)
    variables = {"dhcpcd": "YES" if dynamic else "NO", **_ways_out(ways)}
    edited = {RC_CONF: with_network(RC_CONF, facts.texts.get(RC_CONF, ""), variables, goes)}
    old = retired(facts.there, OURS, files)
    more = tuple(
        f"NIC {way.port.card.number}: the route to {way.route.destination} is left out: NetBSD knows the link of a "
        "route by an address of the card, which has none of its own"
        for way in ways
        if _needs_own(way) and not _own(way)
    )
    return Files(Rendered(files, old), edited, (*warnings, *more))


def goes(name: str) -> bool:
    """Whether the template's variable of rc.conf would compete with ours."""
    card = _OF_CARDS.fullmatch(name)
    return is_card(card[1]) if card else _VARIABLES.fullmatch(name) is not None


def _lines(port: Port, name: str, ways: Sequence[Way]) -> Iterator[str]:
    """Arguments of ifconfig(8), a line for each time; "!" begins a command."""
    card = port.card
    yield "up"
    if card.mtu:
        yield f"mtu {card.mtu}"
    for number, (own, mask) in enumerate(netmasks(card.v4.addresses)):
        yield f"inet {own.address} netmask {mask}{' alias' if number else ''}"
    for own in card.v6.addresses:
        yield f"inet6 {own.address} prefixlen {own.prefix} alias"
    for way in ways:
        if way.port is port and not _is_in_rc_conf(way) and not way.waits_for_dhcp:
            yield from (f"!{command}" for command in _commands(way, name))


def _is_in_rc_conf(way: Way) -> bool:
    """A gateway that is no word about its link."""
    return way.is_default and way.route.gateway is not None and not way.route.on_link and not way.waits_for_dhcp


def _ways_out(ways: Sequence[Way]) -> dict[str, str]:
    found = {}
    for way in ways:
        if _is_in_rc_conf(way):
            zone = f"%{way.port.names[0]}" if way.is_link_local else ""
            found["defaultroute6" if way.is_ipv6 else "defaultroute"] = f"{way.route.gateway}{zone}"
    return found


def _commands(way: Way, name: str) -> Iterator[str]:
    family = "-inet6" if way.is_ipv6 else "-inet"
    gateway, own = way.route.gateway, _own(way)
    if _needs_own(way):
        if own is None:
            return
        if gateway is None:
            yield f"route add {family} -net {way.route.destination} -interface {own}"
            return
        yield f"route add {family} -host {gateway} -interface {own}"
    destination = "default" if way.is_default else f"-net {way.route.destination}"
    zone = f"%{name}" if way.is_link_local else ""
    yield f"route add {family} {destination} {gateway}{zone}"


def _needs_own(way: Way) -> bool:
    return way.route.gateway is None or way.route.on_link


def _own(way: Way) -> str | None:
    stack = way.port.card.v6 if way.is_ipv6 else way.port.card.v4
    return str(stack.addresses[0].address) if stack.addresses else None


def _of_dhcpcd(ports: Sequence[Port], ways: Sequence[Way], old: str, *, has_names: bool) -> dict[str, FileContent]:
    """dhcpcd.conf(5): options of the image for all cards stay; our cards are the only ones."""
    defaults = frozenset(6 if way.is_ipv6 else 4 for way in ways if way.is_default)
    lines = [f"allowinterfaces {' '.join(name for port in ports for name in port.names)}"]
    lines += ["nohook resolv.conf"] if has_names else []
    cases = ""
    for port in ports:
        commands = [way for way in ways if way.port is port and way.waits_for_dhcp]
        for name in port.names:
            lines += ["", f"interface {name}", *_block(port.card, defaults)]
            if commands:
                shell = "".join(f"\t\t{line}\n" for way in commands for line in _commands(way, name))
                cases += f'{name})\n\tcase "$reason" in\n\tBOUND | REBOOT)\n{shell}\t\t;;\n\tesac\n\t;;\n'
    text = dhcpcd.general(old) + HEADER + "".join(f"{line}\n" for line in lines)
    files = {dhcpcd.CONFIG: FileContent(text)}
    if cases:
        files[dhcpcd.HOOK] = FileContent(f'{HEADER}case "$interface" in\n{cases}esac\n')
    return files


def _block(card: Card, defaults: frozenset[int]) -> Iterator[str]:
    """What ifconfig.if says of a family is none of dhcpcd's business; a given way out is the only one."""
    is_dhcp = card.ipv4 is Ipv4Method.DHCP
    told = replace(
        card,
        ipv4=Ipv4Method.DHCP if is_dhcp else Ipv4Method.NONE,
        ipv6=card.ipv6 if listens(card) else Ipv6Method.NONE,
    )
    yield from dhcpcd.block(told)
    if is_dhcp and 4 in defaults:
        yield "    nooption routers, classless_static_routes"
    if is_dhcp and card.mtu:
        yield "    nooption interface_mtu"
    if listens(card) and 6 in defaults and (not is_dhcp or 4 in defaults):
        yield "    nogateway"
