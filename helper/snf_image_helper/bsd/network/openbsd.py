# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenBSD: hostname.if(5), mygate(5), resolv.conf(5).

From 7.3 on netstart(8) takes a file named after a hardware address before one named after a driver (etc/netstart 1.230
and 1.231). dhcpleased(8), slaacd(8) and resolvd(8) came with 6.9; before them "dhcp" starts dhclient(8). Several routes
to one destination have priorities, route(8). Sources: etc/netstart, etc/rc; ifconfig(8), resolvd(8), dhcp6leased(8).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from snf_image_helper.bsd.network.ports import (
    RESOLV_CONF,
    Facts,
    Files,
    Port,
    Way,
    asks,
    listens,
    netmasks,
    resolv_conf,
    retired,
    wants_dhcp6,
    ways_of,
)
from snf_image_helper.files.edits import assign
from snf_image_helper.network.cards import Card
from snf_image_helper.network.rendering import HEADER, FileContent, Rendered
from snf_image_shared.job import Ipv4Method, Ipv6Method

RC_CONF_LOCAL, MYGATE, DHCLIENT_CONF = "/etc/rc.conf.local", "/etc/mygate", "/etc/dhclient.conf"
FILE = "/etc/hostname.{}"
OURS = (RESOLV_CONF, DHCLIENT_CONF)
_MODE = 0o640  # netstart mends anything else, with a warning
_USUAL_PRIORITY, _LARGEST_PRIORITY = 8, 63  # RTP_STATIC, RTP_MAX
_PATIENCE = 30  # seconds for a lease that routes need
_RESOLVD = "resolvd_flags"


def render(ports: tuple[Port, ...], facts: Facts) -> Files:
    """The template's hostname.if of cards go; a card without one is left switched off."""
    ways = ways_of(ports)
    listening = frozenset(_listening(ports))
    gates = [way for way in ways if _is_in_mygate(way, ways, listening)]
    files = {
        path: FileContent(HEADER + "".join(f"{line}\n" for line in _lines(port, ways, gates, facts)), _MODE)
        for port in ports
        if not port.card.down
        for path in paths(port, facts)
    }
    if gates:
        files[MYGATE] = FileContent(HEADER + "".join(f"{way.route.gateway}\n" for way in gates))
    files |= resolv_conf(ports, first="lookup file bind")
    edited = {}
    if RESOLV_CONF in files and any(asks(port.card) for port in ports):
        if facts.autoconf:
            # It would put what DHCP and routers say before our name servers.
            edited[RC_CONF_LOCAL] = assign(facts.texts.get(RC_CONF_LOCAL, ""), _RESOLVD, "NO")
        else:
            ignored = "ignore domain-name-servers, domain-name, domain-search;\n"
            files[DHCLIENT_CONF] = FileContent(HEADER + ignored)
    asking = [str(port.card.number) for port in ports if wants_dhcp6(port.card)]
    warnings = (
        (f"NIC {', '.join(asking)}: OpenBSD has no client for addresses of DHCPv6, IPv6 is as routers announce it",)
        if asking
        else ()
    )
    old = retired(facts.there, OURS, files)
    return Files(Rendered(files, old), edited, warnings)


def paths(port: Port, facts: Facts) -> tuple[str, ...]:
    """The files of a card."""
    return tuple(FILE.format(name) for name in ((port.card.mac,) if facts.matches_mac else port.names))


def _listening(ports: Sequence[Port]) -> Iterator[int]:
    """The families in which a card may be told a way out; netstart(8) reads no mygate for them."""
    for port in ports:
        if port.card.ipv4 is Ipv4Method.DHCP:
            yield 4
        if listens(port.card):
            yield 6


def _is_in_mygate(way: Way, ways: Sequence[Way], listening: frozenset[int]) -> bool:
    """Where there is only one way out of its family, and nothing has to be said about its card."""
    family = 6 if way.is_ipv6 else 4
    only = sum(other.is_default and other.is_ipv6 is way.is_ipv6 for other in ways) == 1
    is_plain = way.route.gateway is not None and not way.route.on_link and not way.is_link_local
    return way.is_default and is_plain and only and family not in listening


def _lines(port: Port, ways: Sequence[Way], gates: Sequence[Way], facts: Facts) -> Iterator[str]:
    card = port.card
    if card.mtu:
        yield f"mtu {card.mtu}"
    yield from _ipv4(card, facts)
    yield from _ipv6(card, facts)
    yield "up"
    own = [way for way in ways if way.port is port and way not in gates]
    if any(way.waits_for_dhcp for way in own) and facts.autoconf:
        yield f"!dhcpleasectl -w {_PATIENCE} $if"
    for way in own:
        yield from (f"!{command}" for command in _commands(way, ways))


def _ipv4(card: Card, facts: Facts) -> Iterator[str]:
    for number, (own, mask) in enumerate(netmasks(card.v4.addresses)):
        is_alias = number > 0 or card.ipv4 is not Ipv4Method.STATIC
        yield f"inet {'alias ' if is_alias else ''}{own.address} {mask} NONE"
    if card.ipv4 is Ipv4Method.DHCP:
        yield "inet autoconf" if facts.autoconf else "dhcp"


def _ipv6(card: Card, facts: Facts) -> Iterator[str]:
    """Addresses are made of the hardware's, and are no temporary ones: those that others expect of the card."""
    if listens(card):
        yield "inet6 -soii"
        yield "inet6 -temporary" if facts.autoconf else "inet6 -autoconfprivacy"
        yield "inet6 autoconf"
    for number, own in enumerate(card.v6.addresses):
        is_alias = number > 0 or card.ipv6 is not Ipv6Method.STATIC
        yield f"inet6 {'alias ' if is_alias else ''}{own.address} {own.prefix}"


def _commands(way: Way, ways: Sequence[Way]) -> Iterator[str]:
    """netstart(8) puts the card's name in the place of $if."""
    family = "-inet6" if way.is_ipv6 else "-inet"
    priority = _priority(way, ways)
    destination = "default" if way.is_default else way.route.destination
    gateway = way.route.gateway
    if gateway is None:
        yield f"route -qn add {family} {priority}{destination} -cloning -link -iface $if"
        return
    if way.route.on_link:
        on_link = "-cloning -link -iface $if" if way.is_ipv6 else "-llinfo -link -static -iface $if"
        yield f"route -qn add {family} {gateway} {on_link}"
    zone = "%$if" if way.is_link_local else ""
    yield f"route -qn add {family} {priority}{destination} {gateway}{zone}"


def _priority(way: Way, ways: Sequence[Way]) -> str:
    """Nothing for the best of all routes to this destination; the others follow in the order of their metrics."""
    same = sorted((other for other in ways if other.route.destination == way.route.destination), key=lambda w: w.metric)
    metrics = [metric for metric, _ in groupby(same, key=lambda other: other.metric)]
    rank = min(_USUAL_PRIORITY + metrics.index(way.metric), _LARGEST_PRIORITY)
    return "" if rank == _USUAL_PRIORITY else f"-priority {rank} "
