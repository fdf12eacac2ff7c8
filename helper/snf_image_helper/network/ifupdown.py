# SPDX-License-Identifier: GPL-2.0-or-later
"""ifupdown, interfaces(5): one logical interface a card, found by its MAC address whatever its name is.

ifupdown 0.8.35 and later take "mac/..." where a name may stand. The hotplug service of Debian does not understand the
form "mac/...=logical", so a mapping with a script translates instead. Older versions get ethN, and udev rules for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from snf_image_helper.network.addresses import Network
from snf_image_helper.network.cards import Card, Stack
from snf_image_helper.network.ip_commands import route_commands
from snf_image_helper.network.naming import rules
from snf_image_helper.network.rendering import HEADER, Facts, FileContent, Rendered, suffixed
from snf_image_shared.job import Ipv4Method, Ipv6Method, Route

INTERFACES = "/etc/network/interfaces"
MAPPING_SCRIPT = "/etc/network/snf-image-by-mac"
DROP_IN = "/etc/systemd/system/networking.service.d/snf-image.conf"

_LOOPBACK = "\nauto lo\niface lo inet loopback\n"
_SETTLING = f"""{HEADER}\
# ifupdown itself waits for udev only if it sees its cards, and one that is found by its MAC address may come later.
[Service]
ExecStartPre=-/bin/udevadm settle
"""
ONLY_LOOPBACK = HEADER + _LOOPBACK
_SCRIPT = f"""#!/bin/sh
{HEADER}# ifupdown's mapping script: turns an interface into the logical one that has its MAC address.
mac=
read -r mac < "/sys/class/net/$1/address"
while read -r wanted name; do
    if [ "$wanted" = "$mac" ]; then
        echo "$name"
        exit 0
    fi
done
echo "$1"
"""


def render(cards: tuple[Card, ...], facts: Facts) -> Rendered:
    """The loopback stanza stays; what else was in interfaces goes, and nothing is sourced any more.

    A card without a stanza is left switched off. The name that udev gives to a card does not depend on that.
    """
    up = tuple(_told(card, cards) for card in cards if not card.down)
    stanzas = "".join(_stanzas(card, f"{'nic' if facts.matches_mac else 'eth'}{card.number}", facts) for card in up)
    files = {INTERFACES: FileContent(ONLY_LOOPBACK + (_mapping(up) if facts.matches_mac and up else "") + stanzas)}
    if facts.matches_mac and up:
        files[MAPPING_SCRIPT] = FileContent(_SCRIPT, 0o755)
        if facts.systemd:
            files[DROP_IN] = FileContent(_SETTLING)
    elif not facts.matches_mac:
        files |= rules(cards, facts)
    return Rendered(files, suffixed(facts.competing))


def _told(card: Card, cards: tuple[Card, ...]) -> Card:
    """The card with its gateway among the routes, where it would find that of a DHCP server in its place.

    ifup would fail then; a route replaces the other one, and no client of a server replaces a route.
    """
    if card.v4.gateway is None or all(other.ipv4 is not Ipv4Method.DHCP for other in cards):
        return card
    v4 = replace(card.v4, gateway=None, routes=(*card.v4.routes, card.v4.gateway))
    return replace(card, v4=v4)


def _mapping(cards: tuple[Card, ...]) -> str:
    lines = "".join(f"    map {card.mac} nic{card.number}\n" for card in cards)
    return f"\nmapping *\n    script {MAPPING_SCRIPT}\n{lines}"


def _stanzas(card: Card, name: str, facts: Facts) -> str:
    selector = f"mac/{card.mac}" if facts.matches_mac else name
    stanzas = {**_ipv4(card), **_ipv6(card)}
    if not stanzas:
        # Without any stanza ifup would fail, and the networking service with it.
        stanzas = {"inet manual": ["up ip link set dev $IFACE up"]}
    common = _common(card)
    text = ""
    for kind, lines in stanzas.items():
        text += f"iface {name} {kind}\n" + "".join(f"    {line}\n" for line in (*lines, *common))
        common = ()
    return f"\nauto {selector}\nallow-hotplug {selector}\n{text}"


def _ipv4(card: Card) -> dict[str, list[str]]:
    match card.ipv4:
        case Ipv4Method.STATIC:
            own, *further = card.v4.addresses
            lines = [f"address {own.address}", f"netmask {own.netmask}", *_gateway(card.v4), *_ups(further, card.v4)]
            return {"inet static": lines}
        case Ipv4Method.DHCP:
            # The server may speak of an MTU, too; the last word is the user's.
            mtu = [f"up {_set_mtu(card)}"] if card.mtu else []
            return {"inet dhcp": [*mtu, *_ups(card.v4.addresses, card.v4)]}
        case Ipv4Method.NONE:
            return {}


def _ipv6(card: Card) -> dict[str, list[str]]:
    further = _ups(card.v6.addresses, card.v6)
    match card.ipv6:
        case Ipv6Method.STATIC:
            own, *others = card.v6.addresses
            lines = [f"address {own.address}", f"netmask {own.prefix}", *_gateway(card.v6), "privext 0"]
            # ifup waits until it is known that nobody else has the address (dad-attempts).
            return {"inet6 static": [*lines, *_ups(others, card.v6)]}
        case Ipv6Method.SLAAC:
            return {"inet6 auto": ["privext 0", *further]}
        case Ipv6Method.SLAAC_DHCP:
            return {"inet6 auto": ["privext 0", "dhcp 1", *further]}
        case Ipv6Method.DHCP:
            return {"inet6 dhcp": further}
        case Ipv6Method.NONE:
            return {}


def _common(card: Card) -> tuple[str, ...]:
    """What concerns both families. The dns lines are for resolvconf's hook, where there is one.

    Routers may answer as soon as the card is up, be it for IPv4; the option accept_ra is Debian's alone.
    """
    deaf = card.ipv6 in {Ipv6Method.STATIC, Ipv6Method.NONE}
    lines = {
        f"dns-nameservers {' '.join(card.nameservers)}": card.nameservers,
        f"dns-search {' '.join(card.search)}": card.search,
        f"pre-up {_set_mtu(card)}": card.mtu,
        "pre-up echo 0 > /proc/sys/net/ipv6/conf/$IFACE/accept_ra || true": deaf,
    }
    return tuple(line for line, wanted in lines.items() if wanted)


def _set_mtu(card: Card) -> str:
    return f"ip link set dev $IFACE mtu {card.mtu}"


def _gateway(stack: Stack) -> list[str]:
    route = stack.gateway
    return [] if route is None or not _is_plain(route) else [f"gateway {route.gateway}"]


def _is_plain(route: Route) -> bool:
    """Whether every ifupdown can do with the gateway: not all of them say on which card it is."""
    return not route.on_link and not (route.gateway or "").startswith("fe80:")


def _ups(addresses: Sequence[Network], stack: Stack) -> list[str]:
    """Further addresses, and the routes that have no option of their own."""
    routes = [route for route in stack.all_routes if route is not stack.gateway or not _is_plain(route)]
    lines = [f"up ip address replace {address} dev $IFACE" for address in addresses]
    return [*lines, *(f"up {line}" for route in routes for line in route_commands(route, "$IFACE"))]
