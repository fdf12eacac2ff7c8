# SPDX-License-Identifier: GPL-2.0-or-later
"""NetworkManager, nm-settings-keyfile(5): one profile a card, bound to its MAC address."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from snf_image_helper.network.cards import DEFAULTS, Card, Stack
from snf_image_helper.network.rendering import HEADER, Facts, FileContent, Rendered, hidden
from snf_image_shared.job import Ipv4Method, Ipv6Method, Route

DIRECTORY = "/etc/NetworkManager/system-connections"
UNMANAGED = "/etc/NetworkManager/conf.d/99-snf-image.conf"

# What a server or router says of the way out gives way to what the user says; otherwise the first card to be up wins.
_LEARNED = "route-metric=1024\n"


def profile_path(number: int) -> str:
    """The keyfile of the card; snf-image always called it so, and NetworkManager wants no suffix in /etc."""
    return f"{DIRECTORY}/Wired connection {number + 1}"


def render(cards: tuple[Card, ...], facts: Facts) -> Rendered:
    """Profiles of the image that fit one of the cards are hidden: NetworkManager would choose between equals."""
    cards = with_servers_at_home(cards)
    told = {version for card in cards for version in (4, 6) if _has_default(card, version)}
    files = {profile_path(card.number): FileContent(_keyfile(card, told), 0o600) for card in cards if not card.down}
    files.update(left_alone(tuple(card for card in cards if card.down)))
    return Rendered(files, hidden(facts.competing))


def left_alone(cards: tuple[Card, ...]) -> dict[str, FileContent]:
    """The file that keeps NetworkManager from these cards; otherwise it asks for an address on each that it finds.

    It comes last, and adds to what others say (NetworkManager.conf(5), "+=").
    """
    macs = ";".join(f"mac:{card.mac}" for card in cards)
    return {UNMANAGED: FileContent(f"{HEADER}\n[keyfile]\nunmanaged-devices+={macs}\n")} if cards else {}


def with_servers_at_home(cards: tuple[Card, ...]) -> tuple[Card, ...]:
    """NetworkManager refuses servers of a family that the card is without; the first card that has it takes them."""
    lost4 = tuple(server for card in cards if card.ipv4 is Ipv4Method.NONE for server in card.v4.nameservers)
    lost6 = tuple(server for card in cards if card.ipv6 is Ipv6Method.NONE for server in card.v6.nameservers)
    found = []
    for card in cards:
        servers4, servers6 = card.v4.nameservers, card.v6.nameservers
        if card.ipv4 is not Ipv4Method.NONE:
            servers4, lost4 = (*servers4, *lost4), ()
        if card.ipv6 is not Ipv6Method.NONE:
            servers6, lost6 = (*servers6, *lost6), ()
        v4, v6 = replace(card.v4, nameservers=servers4), replace(card.v6, nameservers=servers6)
        found.append(replace(card, v4=v4, v6=v6))
    return tuple(found)


def _keyfile(card: Card, told: Collection[int]) -> str:
    """`told` are the families of which a default route was given, be it another card's."""
    # The same card always has the same uuid, so that a second run writes the same file.
    uuid = f"736e662d-696d-5167-8{card.number % 4096:03x}-{card.mac.replace(':', '')}"
    mtu = f"mtu={card.mtu}\n" if card.mtu else ""
    sections = (
        f"[connection]\nid=Wired connection {card.number + 1}\nuuid={uuid}\ntype=ethernet\nautoconnect-priority=1\n",
        f"[ethernet]\nmac-address={card.mac.upper()}\n{mtu}",
        f"[ipv4]\n{_ipv4(card, 4 in told)}",
        f"[ipv6]\n{_ipv6(card, 6 in told)}",
    )
    return HEADER + "\n" + "\n".join(sections)


def _ipv4(card: Card, told: bool) -> str:
    match card.ipv4:
        case Ipv4Method.STATIC:
            return "method=manual\n" + _stack(card.v4, card.search)
        case Ipv4Method.DHCP:
            return "method=auto\n" + (_LEARNED if told else "") + _stack(card.v4, card.search)
        case Ipv4Method.NONE:
            return "method=disabled\n"


def _ipv6(card: Card, told: bool) -> str:
    search = card.search if card.ipv4 is Ipv4Method.NONE else ()
    match card.ipv6:
        case Ipv6Method.STATIC:
            return "method=manual\naddr-gen-mode=eui64\nip6-privacy=0\n" + _stack(card.v6, search)
        case Ipv6Method.NONE:
            # "disabled" is only known since NetworkManager 1.20
            return "method=link-local\n"
        case Ipv6Method.SLAAC | Ipv6Method.SLAAC_DHCP | Ipv6Method.DHCP:
            # Router advertisements say whether DHCPv6 is to be used; without them there would be no route either.
            learned = _LEARNED if told else ""
            return "method=auto\naddr-gen-mode=eui64\nip6-privacy=0\n" + learned + _stack(card.v6, search)


def _has_default(card: Card, version: int) -> bool:
    return any(route.destination == DEFAULTS[version == 6] for route in card.routes)


def _stack(stack: Stack, search: tuple[str, ...]) -> str:
    """A gateway outside of the network gets its own route from NetworkManager."""
    lines = [f"address{number}={address}" for number, address in enumerate(stack.addresses, 1)]
    if stack.gateway is not None:
        lines[0] += f",{stack.gateway.gateway}"
    for number, route in enumerate(stack.routes, 1):
        lines += _route(number, route)
    if stack.nameservers:
        lines.append(f"dns={';'.join(stack.nameservers)};")
    if search:
        lines.append(f"dns-search={';'.join(search)};")
    return "".join(f"{line}\n" for line in lines)


def _route(number: int, route: Route) -> list[str]:
    # The metric comes third, behind a gateway that may be none.
    nowhere = "::" if ":" in route.destination else "0.0.0.0"  # noqa: S104  # nothing is bound to it
    gateway = f",{route.gateway or nowhere}" if route.gateway or route.metric else ""
    metric = f",{route.metric}" if route.metric else ""
    lines = [f"route{number}={route.destination}{gateway}{metric}"]
    return [*lines, f"route{number}_options=onlink=true"] if route.on_link else lines
