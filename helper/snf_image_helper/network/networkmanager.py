# SPDX-License-Identifier: GPL-2.0-or-later
"""NetworkManager, nm-settings-keyfile(5): one profile a card, bound to its MAC address."""

from __future__ import annotations

from snf_image_helper.network.cards import Card
from snf_image_helper.network.rendering import HEADER, Facts, FileContent, Rendered, hidden
from snf_image_shared.job import Ipv4Method, Ipv6Method

DIRECTORY = "/etc/NetworkManager/system-connections"


def profile_path(number: int) -> str:
    """The keyfile of the card; snf-image always called it so, and NetworkManager wants no suffix in /etc."""
    return f"{DIRECTORY}/Wired connection {number + 1}"


def render(cards: tuple[Card, ...], facts: Facts) -> Rendered:
    """Profiles of the image that fit one of the cards are hidden: NetworkManager would choose between equals."""
    files = {profile_path(card.number): FileContent(_keyfile(card), 0o600) for card in cards}
    return Rendered(files, hidden(facts.competing))


def _keyfile(card: Card) -> str:
    # The same card always has the same uuid, so that a second run writes the same file.
    uuid = f"736e662d-696d-5167-8{card.number % 4096:03x}-{card.mac.replace(':', '')}"
    sections = (
        f"[connection]\nid=Wired connection {card.number + 1}\nuuid={uuid}\ntype=ethernet\nautoconnect-priority=1\n",
        f"[ethernet]\nmac-address={card.mac.upper()}\n",
        _ipv4(card),
        _ipv6(card),
    )
    return HEADER + "\n" + "\n".join(sections)


def _ipv4(card: Card) -> str:
    match card.ipv4:
        case Ipv4Method.STATIC:
            # A gateway outside of the network gets its own route from NetworkManager.
            gateway = f",{card.gateway}" if card.gateway else ""
            return f"[ipv4]\nmethod=manual\naddress1={card.address}/{card.prefix}{gateway}\n"
        case Ipv4Method.DHCP:
            return "[ipv4]\nmethod=auto\n"
        case Ipv4Method.NONE:
            return "[ipv4]\nmethod=disabled\n"


def _ipv6(card: Card) -> str:
    if card.ipv6 is Ipv6Method.NONE:
        # "disabled" is only known since NetworkManager 1.20
        return "[ipv6]\nmethod=link-local\n"
    # Router advertisements say whether DHCPv6 is to be used; without them there would be no route either.
    return "[ipv6]\nmethod=auto\naddr-gen-mode=eui64\nip6-privacy=0\n"
