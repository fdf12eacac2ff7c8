# SPDX-License-Identifier: GPL-2.0-or-later
"""systemd-networkd, systemd.network(5): one file a card, sorted before those of the image, matched by MAC address."""

from __future__ import annotations

from snf_image_helper.network.cards import Card
from snf_image_helper.network.rendering import HEADER, Facts, FileContent, Rendered, suffixed
from snf_image_shared.job import Ipv4Method, Ipv6Method

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
    if card.idle:
        sections.append("[Link]\nRequiredForOnline=no\n")
    sections.append("[Network]\n" + "".join(f"{line}\n" for line in _network(card)))
    if card.gateway is not None:
        on_link = "GatewayOnLink=yes\n" if card.on_link else ""
        sections.append(f"[Route]\nGateway={card.gateway}\n{on_link}")
    match card.ipv6:
        case Ipv6Method.SLAAC:
            sections.append("[IPv6AcceptRA]\nDHCPv6Client=no\n")
        case Ipv6Method.SLAAC_DHCP:
            sections.append("[IPv6AcceptRA]\nDHCPv6Client=yes\n")
        case Ipv6Method.DHCP:
            sections.append("[IPv6AcceptRA]\nDHCPv6Client=always\nUseAutonomousPrefix=no\n")
        case Ipv6Method.NONE:
            pass
    return HEADER + "\n" + "\n".join(sections)


def _network(card: Card) -> tuple[str, ...]:
    dhcp = {(True, True): "yes", (True, False): "ipv4", (False, True): "ipv6", (False, False): "no"}
    lines = [f"DHCP={dhcp[card.ipv4 is Ipv4Method.DHCP, card.ipv6 is Ipv6Method.DHCP]}"]
    if card.ipv4 is Ipv4Method.STATIC:
        lines.append(f"Address={card.address}/{card.prefix}")
    if card.idle:
        lines.append("LinkLocalAddressing=no")
    lines.append(f"IPv6AcceptRA={'no' if card.ipv6 is Ipv6Method.NONE else 'yes'}")
    if card.ipv6 in {Ipv6Method.SLAAC, Ipv6Method.SLAAC_DHCP}:
        lines.append("IPv6PrivacyExtensions=no")
    return tuple(lines)
