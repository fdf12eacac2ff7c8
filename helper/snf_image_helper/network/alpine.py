# SPDX-License-Identifier: GPL-2.0-or-later
"""Alpine's ifup, of busybox or ifupdown-ng: what both of them understand, which is little more than commands.

busybox knows no method "auto" or "dhcp" of inet6, no second address and no mapping, and takes nothing of a file with
something unknown in it; ifupdown-ng has one netmask for both families. Neither finds cards by MAC address, and mdev
names none: a script gives them their names while none is up yet. Sources: busybox's networking/ifupdown.c,
ifupdown-ng's interfaces(5), aports' main/busybox/busyboxconfig.
"""

from __future__ import annotations

from collections.abc import Sequence

from snf_image_helper.network.cards import DEFAULTS, Card
from snf_image_helper.network.naming import name_of
from snf_image_helper.network.rendering import HEADER, Facts, FileContent, Rendered, suffixed
from snf_image_shared.job import Ipv4Method, Ipv6Method, Route

INTERFACES = "/etc/network/interfaces"
NAMES_SCRIPT = "/etc/network/snf-image-names"
DHCP6_SCRIPT = "/etc/network/snf-image-dhcp6"

_RENAME = """\
# Gives cards their names by MAC address: rename MAC NAME LAST-NAME. All in two steps, for one may have another's name.
rename() {
    [ "$(cat "/sys/class/net/$3/address" 2> /dev/null)" != "$1" ] || return 0
    for card in /sys/class/net/*; do
        [ "$(cat "$card/address" 2> /dev/null)" != "$1" ] || ip link set dev "${card##*/}" name "$2"
    done
}
"""
# The default script of udhcpc is for IPv4. The route comes with router advertisements.
_DHCP6 = """\
case "$1" in
bound | renew)
    [ -z "$ipv6" ] || ip -6 address replace "$ipv6/128" dev "$interface"
"""
_DHCP6_NAMES = """\
    for server in $dns; do
        grep -qxF "nameserver $server" /etc/resolv.conf 2> /dev/null || echo "nameserver $server" >> /etc/resolv.conf
    done
"""


def render(cards: tuple[Card, ...], facts: Facts) -> Rendered:
    """Nothing of the image's interfaces stays but the loopback; a card without configuration is not brought up."""
    names = {card: name_of(card, facts) for card in cards}
    text = f"\nauto lo\niface lo inet loopback\n    pre-up {NAMES_SCRIPT} || true\n"
    text += "".join(_stanza(card, name) for card, name in names.items())
    renames = [f"rename {card.mac} new{card.number} {name}\n" for card, name in names.items()]
    renames += [f"rename {card.mac} {name} {name}\n" for card, name in names.items()]
    files = {
        INTERFACES: FileContent(HEADER + text),
        NAMES_SCRIPT: FileContent(f"#!/bin/sh\n{HEADER}{_RENAME}{''.join(renames)}", 0o755),
    }
    if any(card.ipv6 in {Ipv6Method.DHCP, Ipv6Method.SLAAC_DHCP} for card in cards):
        told = any(card.nameservers for card in cards)
        script = f"#!/bin/sh\n{HEADER}{_DHCP6}{'' if told else _DHCP6_NAMES}    ;;\nesac\n"
        files[DHCP6_SCRIPT] = FileContent(script, 0o755)
    return Rendered(files, suffixed(facts.competing))


def _stanza(card: Card, name: str) -> str:
    method = "dhcp" if card.ipv4 is Ipv4Method.DHCP else "manual"
    before = [f"ip link set dev $IFACE mtu {card.mtu}"] if card.mtu else []
    before += [f"echo {value} > /proc/sys/net/ipv6/conf/$IFACE/{key} || true" for key, value in _sysctl(card)]
    after = ["ip link set dev $IFACE up"] if method == "manual" else []
    if card.mtu and method == "dhcp":
        after.append(before[0])  # the server may speak of an MTU, too; the last word is the user's
    own = card.addresses
    after += [f"ip address {_verb(address.address.version)} {address} dev $IFACE" for address in own]
    after += [line for route in card.routes for line in _lines(route)]
    after += _dhcp6(card)
    lines = [f"pre-up {line}" for line in before] + [f"up {line}" for line in after]
    auto = "" if card.down else f"auto {name}\n"
    return f"\n{auto}iface {name} inet {method}\n" + "".join(f"    {line}\n" for line in lines)


def _verb(version: int) -> str:
    # With what it is, IPv6 of busybox's "ip" would count a second time for a failure.
    return "replace" if version == 4 else "add"


def _sysctl(card: Card) -> Sequence[tuple[str, int]]:
    listens = card.ipv6 not in {Ipv6Method.NONE, Ipv6Method.STATIC}
    autoconf = listens and card.ipv6 is not Ipv6Method.DHCP
    return (("accept_ra", int(listens)), ("autoconf", int(autoconf)), ("use_tempaddr", 0))


def _lines(route: Route) -> list[str]:
    """A gateway elsewhere gets a route of its own: busybox's "ip" has not always known "onlink".

    A default route stands beside one that another card got from a server, in the order of their coming.
    """
    command = f"ip {'-6 ' if ':' in route.destination else ''}route"
    is_default = route.destination in DEFAULTS
    destination = "append default" if is_default else f"replace {route.destination}"
    via = f" via {route.gateway}" if route.gateway else ""
    metric = f" metric {route.metric}" if route.metric else ""
    line = f"{command} {destination}{via} dev $IFACE{metric}"
    return [f"{command} replace {route.gateway} dev $IFACE", line] if route.on_link else [line]


def _dhcp6(card: Card) -> list[str]:
    if card.ipv6 not in {Ipv6Method.DHCP, Ipv6Method.SLAAC_DHCP}:
        return []
    question = "" if card.ipv6 is Ipv6Method.DHCP else " -l"  # for all but an address
    return [f"udhcpc6 -b -R{question} -i $IFACE -p /run/udhcpc6.$IFACE.pid -s {DHCP6_SCRIPT} || true"]
