# SPDX-License-Identifier: GPL-2.0-or-later
"""FreeBSD: variables of rc.conf(5) for rc.d/netif and rc.d/routing, and files of the DHCP clients.

rc knows cards by their names alone. Sources: freebsd-src libexec/rc/network.subr, libexec/rc/rc.d/routing,
sbin/dhclient/dhclient.c and dhclient-script, contrib/openresolv; the port net/dhcp6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

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
    wants_dhcp6,
    without_metrics,
)
from snf_image_helper.bsd.network.variables import with_network
from snf_image_helper.network.cards import Card
from snf_image_helper.network.rendering import HEADER, FileContent, Rendered
from snf_image_shared.job import Ipv4Method, Ipv6Method

RC_CONF, RC_CONF_LOCAL = "/etc/rc.conf", "/etc/rc.conf.local"
RESOLVCONF_CONF, DHCLIENT_CONF = "/etc/resolvconf.conf", "/etc/dhclient.conf"
DHCP6C_CONF, DHCP6C = "/usr/local/etc/dhcp6c.conf", "/usr/local/sbin/dhcp6c"
OURS = (RESOLV_CONF, RESOLVCONF_CONF, DHCLIENT_CONF, DHCP6C_CONF)

_OF_ROUTES = re.compile(
    r"(ipv6_)?(defaultrouter|static_routes|route_\w+)|defaultrouter_fib\d+|ipv6_(enable|network_interfaces"
    r"|default_interface|cpe_wanif)|network_interfaces|rtsold_(enable|flags)|dhcp6c_\w+|dhcpcd_enable"
)
_OF_CARDS = re.compile(r"(?:ipv6_)?ifconfig_([A-Za-z]+\d*)(?:_\w+)?|ipv[46]_(?:addrs|prefix)_([A-Za-z]+\d*)")
# All that a client asks for (sbin/dhclient/clparse.c, default_requested_options), without a way out.
_NO_ROUTERS = "subnet-mask, broadcast-address, time-offset, domain-name, domain-name-servers, domain-search, host-name"


def render(ports: tuple[Port, ...], facts: Facts) -> Files:
    """Everything of the template about cards and routes goes, but for interfaces that are no cards."""
    ways, warnings = without_metrics(ports)
    variables = {**_of_cards(ports, ways), **_of_routes(ways)}
    files = {**_names(ports), **_of_clients(ports, ways)}
    more = list(warnings)
    if any(listens(port.card) for port in ports):
        variables["rtsold_enable"] = "YES"
    asking = [port for port in ports if wants_dhcp6(port.card)]
    if asking and facts.dhcp6c:
        variables["dhcp6c_enable"] = "YES"
        variables["dhcp6c_interfaces"] = " ".join(name for port in asking for name in port.names)
        files[DHCP6C_CONF] = FileContent(HEADER + "".join(_dhcp6c(asking)))
    elif asking:
        numbers = ", ".join(str(port.card.number) for port in asking)
        more.append(
            f"NIC {numbers}: FreeBSD has no client for DHCPv6, IPv6 is as routers announce it; "
            "install the package dhcp6 in the image"
        )
    edited = {
        path: with_network(path, facts.texts.get(path, ""), variables if path == RC_CONF else {}, goes)
        for path in (RC_CONF, RC_CONF_LOCAL)
        if path == RC_CONF or path in facts.texts
    }
    old = retired(facts.there, OURS, files)
    return Files(Rendered(files, old), edited, tuple(more))


def goes(name: str) -> bool:
    """Whether the template's variable of rc.conf would compete with ours."""
    card = _OF_CARDS.fullmatch(name)
    if card:
        return is_card(card[1] or card[2])
    return _OF_ROUTES.fullmatch(name) is not None


def _of_cards(ports: Sequence[Port], ways: Sequence[Way]) -> dict[str, str]:
    """A card without variables is left switched off: the ones for all cards (DEFAULT) have gone, too."""
    has_default6 = any(way.is_ipv6 and way.is_default for way in ways)
    found = {}
    for port in ports:
        waits = any(way.port is port and way.waits_for_dhcp for way in ways)
        for name in port.names:
            if not port.card.down:
                found[f"ifconfig_{name}"] = _ipv4(port.card, waits=waits)
                if ipv6 := _ipv6(port.card, has_default6=has_default6):
                    found[f"ifconfig_{name}_ipv6"] = ipv6
                for number, alias in enumerate(_aliases(port.card)):
                    found[f"ifconfig_{name}_alias{number}"] = alias
    return found


def _ipv4(card: Card, *, waits: bool) -> str:
    """`waits`: routes need the lease, so that rc(8) is to go on when it is there."""
    mtu = [f"mtu {card.mtu}"] if card.mtu else []
    match card.ipv4:
        case Ipv4Method.STATIC:
            own = card.v4.addresses[0]
            words = [f"inet {own.address} netmask {own.netmask}", *mtu]
        case Ipv4Method.DHCP:
            words = ["SYNCDHCP" if waits else "DHCP", *mtu]
        case Ipv4Method.NONE:
            words = ["up", *mtu]
    return " ".join(words)


def _ipv6(card: Card, *, has_default6: bool) -> str:
    """Router advertisements bring no way out where another one was asked for."""
    match card.ipv6:
        case Ipv6Method.STATIC:
            own = card.v6.addresses[0]
            return f"inet6 {own.address} prefixlen {own.prefix}"
        case Ipv6Method.NONE:
            return ""
        case _:
            return f"inet6 accept_rtadv{' no_radr' if has_default6 else ''}"


def _aliases(card: Card) -> Iterator[str]:
    first4, first6 = card.ipv4 is Ipv4Method.STATIC, card.ipv6 is Ipv6Method.STATIC
    for own, mask in list(netmasks(card.v4.addresses))[int(first4) :]:
        yield f"inet {own.address} netmask {mask}"
    for own in card.v6.addresses[int(first6) :]:
        yield f"inet6 {own.address} prefixlen {own.prefix}"


def _of_routes(ways: Sequence[Way]) -> dict[str, str]:
    """A plain default has a variable of its own; the others stand in lists whose order rc.d/routing keeps."""
    found: dict[str, str] = {}
    lists: dict[bool, list[str]] = {False: [], True: []}
    for way in ways:
        prefix = "ipv6_" if way.is_ipv6 else ""
        lines = list(dict.fromkeys(_arguments(way)))
        if way.is_default and way.route.gateway and len(lines) == 1:
            found[f"{prefix}defaultrouter"] = lines[0].removeprefix("default ")
            continue
        for line in lines:
            name = f"snf{len(lists[way.is_ipv6])}"
            lists[way.is_ipv6].append(name)
            found[f"{prefix}route_{name}"] = line
    for is_ipv6, names in lists.items():
        if names:
            found[f"{'ipv6_' if is_ipv6 else ''}static_routes"] = " ".join(names)
    return found


def _arguments(way: Way) -> Iterator[str]:
    """What makes the route, as arguments of "route add" that rc gives a family to."""
    gateway = way.route.gateway
    destination = "default" if way.is_default else _destination(way)
    for name in way.port.names:
        if gateway is None:
            yield f"{destination} -interface {name}"
        elif way.route.on_link:
            yield f"{gateway} -prefixlen 128 -interface {name}" if way.is_ipv6 else f"-host {gateway} -interface {name}"
    if gateway is not None and way.is_link_local:
        yield from (f"{destination} {gateway}%{name}" for name in way.port.names)
    elif gateway is not None:
        yield f"{destination} {gateway}"


def _destination(way: Way) -> str:
    return f"{way.address} -prefixlen {way.prefix}" if way.is_ipv6 else f"-net {way.route.destination}"


def _names(ports: Sequence[Port]) -> dict[str, FileContent]:
    """Our name servers are the only ones: resolvconf(8), to which all clients turn, is told to write nothing."""
    files = resolv_conf(ports)
    if files and any(asks(port.card) for port in ports):
        files[RESOLVCONF_CONF] = FileContent(f'{HEADER}resolvconf="NO"\n')
    return files


def _of_clients(ports: Sequence[Port], ways: Sequence[Way]) -> dict[str, FileContent]:
    """dhclient.conf(5), where a server's word is not to be the last one."""
    has_default = any(way.is_default and not way.is_ipv6 for way in ways)
    text = ""
    for port in ports:
        if port.card.ipv4 is Ipv4Method.DHCP:
            lines = [f"\tsupersede interface-mtu {port.card.mtu};\n"] if port.card.mtu else []
            lines += [f"\trequest {_NO_ROUTERS};\n"] if has_default else []
            if lines:
                text += "".join(f'interface "{name}" {{\n{"".join(lines)}}}\n' for name in port.names)
    return {DHCLIENT_CONF: FileContent(HEADER + text)} if text else {}


def _dhcp6c(ports: Sequence[Port]) -> Iterator[str]:
    """Stateful: an address; else what routers do not tell. One association for each name."""
    for port in ports:
        for name in port.names:
            number = f"{port.card.number}{port.names.index(name)}"
            is_stateful = port.card.ipv6 is Ipv6Method.DHCP
            send = f"send ia-na {number};" if is_stateful else "information-only;"
            yield f"interface {name} {{\n\t{send}\n\trequest domain-name-servers;\n\trequest domain-name;\n}};\n"
            yield f"id-assoc na {number} {{\n}};\n" if is_stateful else ""
