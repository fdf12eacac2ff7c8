# SPDX-License-Identifier: GPL-2.0-or-later
"""ifupdown, interfaces(5): one logical interface a card, found by its MAC address whatever its name is.

ifupdown 0.8.35 and later take "mac/..." where a name may stand. The hotplug service of Debian does not understand the
form "mac/...=logical", so a mapping with a script translates instead. Older versions get ethN, and udev rules for it.
"""

from __future__ import annotations

from snf_image_helper.network.cards import Card
from snf_image_helper.network.rendering import HEADER, Facts, FileContent, Rendered, suffixed
from snf_image_shared.job import Ipv4Method, Ipv6Method

INTERFACES = "/etc/network/interfaces"
MAPPING_SCRIPT = "/etc/network/snf-image-by-mac"
UDEV_RULES = "/etc/udev/rules.d/70-persistent-net.rules"

_LOOPBACK = "\nauto lo\niface lo inet loopback\n"
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
    """The loopback stanza stays; what else was in interfaces goes, and nothing is sourced any more."""
    stanzas = "".join(_stanzas(card, f"{'nic' if facts.matches_mac else 'eth'}{card.number}", facts) for card in cards)
    files = {INTERFACES: FileContent(HEADER + _LOOPBACK + (_mapping(cards) if facts.matches_mac else "") + stanzas)}
    if facts.matches_mac:
        files[MAPPING_SCRIPT] = FileContent(_SCRIPT, 0o755)
    elif facts.has_udev:
        files[UDEV_RULES] = FileContent(HEADER + "".join(_rule(card) for card in cards))
    return Rendered(files, suffixed(facts.competing))


def _mapping(cards: tuple[Card, ...]) -> str:
    lines = "".join(f"    map {card.mac} nic{card.number}\n" for card in cards)
    return f"\nmapping *\n    script {MAPPING_SCRIPT}\n{lines}"


def _stanzas(card: Card, name: str, facts: Facts) -> str:
    selector = f"mac/{card.mac}" if facts.matches_mac else name
    parts = [f"\nauto {selector}\nallow-hotplug {selector}\n"]
    if card.idle:
        # Without any stanza ifup would fail, and the networking service with it.
        parts.append(f"iface {name} inet manual\n    up ip link set dev $IFACE up\n")
    match card.ipv4:
        case Ipv4Method.STATIC:
            parts.append(f"iface {name} inet static\n    address {card.address}\n    netmask {card.netmask}\n")
            parts.append(_gateway(card))
        case Ipv4Method.DHCP:
            parts.append(f"iface {name} inet dhcp\n")
        case Ipv4Method.NONE:
            pass
    match card.ipv6:
        case Ipv6Method.SLAAC:
            parts.append(f"iface {name} inet6 auto\n    privext 0\n")
        case Ipv6Method.SLAAC_DHCP:
            parts.append(f"iface {name} inet6 auto\n    privext 0\n    dhcp 1\n")
        case Ipv6Method.DHCP:
            parts.append(f"iface {name} inet6 dhcp\n")
        case Ipv6Method.NONE:
            pass
    return "".join(parts)


def _gateway(card: Card) -> str:
    if card.gateway is None:
        return ""
    if card.on_link:
        return f"    up ip route replace default via {card.gateway} dev $IFACE onlink\n"
    return f"    gateway {card.gateway}\n"


def _rule(card: Card) -> str:
    return (
        f'SUBSYSTEM=="net", ACTION=="add", ATTR{{address}}=="{card.mac}", ATTR{{type}}=="1", NAME="eth{card.number}"\n'
    )
