# SPDX-License-Identifier: GPL-2.0-or-later
"""systemd-networkd, systemd.network(5): one file a card, sorted before those of the image, matched by MAC address."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from snf_image_helper.network.cards import DEFAULTS, Card
from snf_image_helper.network.rendering import HEADER, Facts, FileContent, Rendered, suffixed
from snf_image_shared.job import Ipv4Method, Ipv6Method, Route

DIRECTORY = "/etc/systemd/network"
# The first file that matches a card is the only one it gets.
PREFIX = "05-snf-image"
SERVICE, WAIT_ONLINE = "systemd-networkd.service", "systemd-networkd-wait-online.service"
WAITS_FOR_NOTHING = f"/etc/systemd/system/{WAIT_ONLINE}.d/50-snf-image.conf"


def render(cards: tuple[Card, ...], facts: Facts) -> Rendered:
    """Files of the image that would be read before ours are retired; later ones lose anyway."""
    files = {path_of(card): FileContent(_file(card)) for card in cards if not card.down}
    files.update(left_alone(tuple(card for card in cards if card.down)))
    earlier = tuple(path for path in facts.competing if path not in files and path < f"{DIRECTORY}/{PREFIX}")
    return Rendered(files, suffixed(earlier))


def path_of(card: Card) -> str:
    """The file of the card."""
    return f"{DIRECTORY}/{PREFIX}-{card.number}.network"


def left_alone(cards: tuple[Card, ...]) -> dict[str, FileContent]:
    """Files that keep networkd from these cards: nobody switches them on.

    Unmanaged= is known since systemd 233; an older one at least gives them nothing.
    """
    text = "{header}\n[Match]\nMACAddress={mac}\n\n[Link]\nUnmanaged=yes\n\n[Network]\nDHCP=no\n{none}"
    none = "LinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    return {path_of(card): FileContent(text.format(header=HEADER, mac=card.mac, none=none)) for card in cards}


def wait_for_nothing() -> dict[str, FileContent]:
    """The drop-in that keeps a boot from waiting two minutes for a card when none is to come up.

    systemd waits for one although no link is required for being online, or, before 253, none is managed
    (systemd's issues 29388 and 25813). The condition is false for as long as the file is there.
    """
    why = "# No card is left that systemd-networkd could wait for. Remove this file when there is one.\n"
    return {WAITS_FOR_NOTHING: FileContent(f"{HEADER}{why}[Unit]\nConditionPathExists=!{WAITS_FOR_NOTHING}\n")}


def takes_cards(text: str, macs: Collection[str]) -> bool:
    """Whether a file of the image may match one of these Ethernet cards, whose names nobody knows."""
    section, found = "", dict[str, list[str]]()
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line
        elif section == "[Match]" and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            found.setdefault(key.strip(), []).extend(value.split())
    bound = {mac.lower() for mac in found.get("MACAddress", []) + found.get("PermanentMACAddress", [])}
    others = {"Kind", "SSID", "BSSID", "WLANInterfaceType"} & found.keys()
    return not (
        others
        or (bound and not bound & set(macs))
        or ("Type" in found and not {"ether", "*"} & set(found["Type"]))
        or ("Name" in found and not any(name.startswith(("e", "*", "?", "[", "!")) for name in found["Name"]))
    )


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
        # Called so since systemd 242, which still takes the old name.
        lines += ["GatewayOnlink=yes", "GatewayOnLink=yes"]
    if route.metric:
        lines.append(f"Metric={route.metric}")
    return lines
