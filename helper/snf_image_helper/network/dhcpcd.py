# SPDX-License-Identifier: GPL-2.0-or-later
"""dhcpcd where it is the whole network (Void, Arch, older Raspbian), dhcpcd.conf(5), dhcpcd-run-hooks(8).

It knows cards by their names alone, which a rule of udev's holds, and one address of each family that is told. A hook
does the rest: further addresses, IPv6's gateway, other routes and the MTU, which dhcpcd since version 7 only puts on
its routes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from snf_image_helper.network.cards import Card
from snf_image_helper.network.ip_commands import route_commands
from snf_image_helper.network.naming import name_of, rules
from snf_image_helper.network.rendering import HEADER, Facts, FileContent, Rendered, suffixed
from snf_image_shared.job import Ipv4Method, Ipv6Method

CONFIG = "/etc/dhcpcd.conf"
HOOK = "/etc/dhcpcd.exit-hook"
# Lines from which on the image's options are not for all cards, and those that choose cards.
_BLOCK = re.compile(r"\s*(interface|profile|ssid|arping)\s")
_CHOICE = re.compile(r"\s*(allowinterfaces|denyinterfaces|static|nohook\s+resolv\.conf)\b")


def render(cards: tuple[Card, ...], facts: Facts) -> Rendered:
    """Options of the image for all cards stay; those for one of them go, and so does a hook of the image."""
    names = {card: name_of(card, facts) for card in cards}
    lines = [line for line in (f"denyinterfaces {' '.join(n for c, n in names.items() if c.down)}",) if line[15:]]
    if any(card.nameservers for card in cards):
        lines.append("nohook resolv.conf")  # the file itself is written
    for card, name in names.items():
        if not card.down:
            lines += ["", f"interface {name}", *block(card)]
    text = general(facts.texts.get(CONFIG, "")) + HEADER + "".join(f"{line}\n" for line in lines)
    files = {CONFIG: FileContent(text), **rules(cards, facts)}
    hook = "".join(_case(card, name) for card, name in names.items() if not card.down)
    if hook:
        files[HOOK] = FileContent(f'{HEADER}case "$interface" in\n{hook}esac\n')
    return Rendered(files, suffixed(facts.competing))


def general(text: str) -> str:
    """What holds for all cards."""
    kept = []
    for line in text.splitlines():
        if _BLOCK.match(line) or f"{line}\n" == HEADER:
            break
        if not _CHOICE.match(line):
            kept.append(line)
    return "".join(f"{line}\n" for line in kept)


def block(card: Card) -> list[str]:
    """What stands below the line with the card's name."""
    lines = []
    match card.ipv4:
        case Ipv4Method.STATIC:
            lines.append(f"static ip_address={card.v4.addresses[0]}")
            if card.v4.gateway is not None:
                # One in no network of the card gets a route of its own from dhcpcd.
                lines.append(f"static routers={card.v4.gateway.gateway}")
        case Ipv4Method.NONE:
            lines.append("noipv4")
        case Ipv4Method.DHCP:
            pass
    match card.ipv6:
        case Ipv6Method.STATIC:
            lines += ["noipv6rs", "nodhcp6", f"static ip6_address={card.v6.addresses[0]}"]
        case Ipv6Method.NONE:
            lines.append("noipv6")
        case Ipv6Method.SLAAC:
            lines += ["ipv6rs", "slaac hwaddr", "nodhcp6"]
        case Ipv6Method.SLAAC_DHCP:
            lines += ["ipv6rs", "slaac hwaddr"]
        case Ipv6Method.DHCP:
            lines += ["ipv6rs", "ipv6ra_noautoconf", "ia_na"]
    return [f"    {line}" for line in lines]


def _case(card: Card, name: str) -> str:
    """Commands for one card: before it is up, and whenever something of a family has come into being."""
    before = [f'ip link set dev "$interface" mtu {card.mtu}'] if card.mtu else []
    if card.ipv6 in {Ipv6Method.NONE, Ipv6Method.STATIC}:
        before.append('echo 0 2> /dev/null > "/proc/sys/net/ipv6/conf/$interface/accept_ra"')
    cases = _when("PREINIT", before)
    for stack, static, reason, others in (
        (card.v4, card.ipv4 is Ipv4Method.STATIC, "STATIC", "CARRIER | BOUND | RE[BN]* | INFORM"),
        (card.v6, card.ipv6 is Ipv6Method.STATIC, "STATIC6", "CARRIER | ROUTERADVERT | BOUND6 | RE[BN]*6 | INFORM6"),
    ):
        # The first address is dhcpcd's, and stays the first only if the others come later.
        further = stack.addresses[1:] if static else stack.addresses
        told = stack.gateway if static and stack is card.v4 else None
        commands = [f'ip address replace {address} dev "$interface"' for address in further]
        commands += [
            line for route in stack.all_routes if route is not told for line in route_commands(route, '"$interface"')
        ]
        cases += _when(reason if static else others, commands)
    return f"{name})\n{cases}    ;;\n" if cases else ""


def _when(reasons: str, commands: Sequence[str]) -> str:
    text = "".join(f"        {command} || true\n" for command in commands)
    return f'    case "$reason" in\n    {reasons})\n{text}        ;;\n    esac\n' if commands else ""
