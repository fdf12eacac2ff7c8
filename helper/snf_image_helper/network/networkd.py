# SPDX-License-Identifier: GPL-2.0-or-later
"""systemd-networkd, systemd.network(5): one file a card, sorted before those of the image, matched by MAC address."""

from __future__ import annotations

from collections.abc import Sequence

from snf_image_helper.network.cards import DEFAULTS, Card
from snf_image_helper.network.rendering import HEADER, Facts, FileContent, Rendered, suffixed
from snf_image_shared.job import Ipv4Method, Ipv6Method, Route

DIRECTORY = "/etc/systemd/network"
# The first file that matches a card is the only one it gets.
_PREFIX = "05-snf-image"


def render(cards: tuple[Card, ...], facts: Facts) -> Rendered:
    """Files of the image that would be read before ours are retired; later ones lose anyway."""
    files = {f"{DIRECTORY}/{_PREFIX}-{card.number}.network": FileContent(_file(card)) for card in cards}
    earlier = tuple(path for path in facts.competing if path not in files and path < f"{DIRECTORY}/{_PREFIX}")
    return Rendered(files, suffixed(earlier))


def _file(card: Card) -> str:
    sections = [f"[Match]\nMACAddress={card.mac}\n"]
    link = (["RequiredForOnline=no"] if card.idle else []) + ([f"MTUBytes={card.mtu}"] if card.mtu else [])
    if link:
        sections.append(_section("Link", link))
    sections.append(_section("Network", _network(card)))
    sections += [_section("Route", _route(route)) for route in card.routes]
    match card.ipv6:
        case Ipv6Method.SLAAC:
            sections.append("[IPv6AcceptRA]\nDHCPv6Client=no\n")
        case Ipv6Method.SLAAC_DHCP:
            sections.append("[IPv6AcceptRA]\nDHCPv6Client=yes\n")
        case Ipv6Method.DHCP:
            sections.append("[IPv6AcceptRA]\nDHCPv6Client=always\nUseAutonomousPrefix=no\n")
        case Ipv6Method.STATIC | Ipv6Method.NONE:
            pass
    return HEADER + "\n" + "\n".join(sections)


def _section(name: str, lines: Sequence[str]) -> str:
    return f"[{name}]\n" + "".join(f"{line}\n" for line in lines)


def _network(card: Card) -> list[str]:
    dhcp = {(True, True): "yes", (True, False): "ipv4", (False, True): "ipv6", (False, False): "no"}
    lines = [f"DHCP={dhcp[card.ipv4 is Ipv4Method.DHCP, card.ipv6 is Ipv6Method.DHCP]}"]
    lines += [f"Address={address}" for address in card.addresses]
    lines += [f"DNS={server}" for server in card.nameservers]
    if card.search:
        lines.append(f"Domains={' '.join(card.search)}")
    if card.idle:
        lines.append("LinkLocalAddressing=no")
    lines.append(f"IPv6AcceptRA={'no' if card.ipv6 in {Ipv6Method.NONE, Ipv6Method.STATIC} else 'yes'}")
    if card.ipv6 in {Ipv6Method.SLAAC, Ipv6Method.SLAAC_DHCP, Ipv6Method.STATIC}:
        lines.append("IPv6PrivacyExtensions=no")
    return lines


def _route(route: Route) -> list[str]:
    # Where there is a gateway, systemd knows from it which family's default is meant.
    lines = [] if route.gateway and route.destination in DEFAULTS else [f"Destination={route.destination}"]
    if route.gateway:
        lines.append(f"Gateway={route.gateway}")
    elif ":" not in route.destination:
        lines.append("Scope=link")  # systemd before 243 does not think of it by itself
    if route.on_link:
        lines.append("GatewayOnLink=yes")
    if route.metric:
        lines.append(f"Metric={route.metric}")
    return lines
