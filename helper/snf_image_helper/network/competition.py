# SPDX-License-Identifier: GPL-2.0-or-later
"""What keeps the guest's other network software off the cards that have an owner.

Software that can be told by hardware address which cards are not its own is told so, and keeps its files; what cannot
loses those files that would take our cards, with a backup. Nothing is disabled: it may serve other devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from snf_image_helper.guest import Guest
from snf_image_helper.network import ifupdown, naming, netplan, networkd, networkmanager
from snf_image_helper.network.cards import Card
from snf_image_helper.network.facts import files_in, ifcfg_files
from snf_image_helper.network.ownership import Decision
from snf_image_helper.network.rendering import HEADER, FileContent, Rendered, Renderer, hidden, suffixed

DHCPCD_CONF = "/etc/dhcpcd.conf"
# Of software that cannot be told: netifrc's services would have to be disabled.
DEAF = frozenset({Renderer.NETIFRC})


def put_off(decision: Decision, guest: Guest, cards: tuple[Card, ...], backend: str) -> Rendered:
    """The files for it; `backend` is what netplan writes for, if that is the owner."""
    found = Rendered({})
    for other in decision.others:
        if decision.owner is Renderer.NETPLAN and other is _BACKENDS[backend]:
            # netplan drives it: it is only to find no files of the image before, or beside, those of netplan.
            found = found.beside(Rendered({}, suffixed(_networkd_files(guest, cards))))
        elif other in _PUT_OFF:
            found = found.beside(_PUT_OFF[other](guest, cards))
    return found


def _networkd_files(guest: Guest, cards: tuple[Card, ...]) -> tuple[str, ...]:
    macs = {card.mac for card in cards}
    files = files_in(guest, networkd.DIRECTORY, r".*\.network")
    return tuple(path for path in files if networkd.takes_cards(guest.read_text(path), macs))


def _interfaces(guest: Guest, cards: tuple[Card, ...]) -> Rendered:
    old = (ifupdown.INTERFACES,) if guest.is_file(ifupdown.INTERFACES) else ()
    return Rendered({ifupdown.INTERFACES: FileContent(ifupdown.ONLY_LOOPBACK)}, suffixed(old))


def _dhcpcd(guest: Guest, cards: tuple[Card, ...]) -> Rendered:
    """dhcpcd knows cards by their names alone; these are those of all Ethernet cards, ours (naming.py) among them."""
    text = guest.read_text(DHCPCD_CONF)
    if not text.startswith(HEADER):
        text = f"{HEADER}denyinterfaces en* eth* {naming.OURS}*\n{text}"
    return Rendered({DHCPCD_CONF: FileContent(text)}, suffixed((DHCPCD_CONF,)))


_BACKENDS = {"networkd": Renderer.NETWORKD, "NetworkManager": Renderer.NETWORKMANAGER}
_PUT_OFF: Mapping[Renderer, Callable[[Guest, tuple[Card, ...]], Rendered]] = {
    Renderer.NETPLAN: lambda guest, cards: Rendered({}, suffixed(files_in(guest, netplan.DIRECTORY, r".*\.yaml"))),
    Renderer.NETWORKD: lambda guest, cards: Rendered(networkd.left_alone(cards)),
    Renderer.IFUPDOWN: _interfaces,
    Renderer.ALPINE: _interfaces,
    Renderer.NETWORKMANAGER: lambda guest, cards: Rendered(networkmanager.left_alone(cards)),
    Renderer.WICKED: lambda guest, cards: Rendered(
        {}, hidden(files_in(guest, "/etc/sysconfig/network", r"ifcfg-(?:eth|en).*"))
    ),
    Renderer.IFCFG: lambda guest, cards: Rendered({}, hidden(ifcfg_files(guest, cards))),
    Renderer.DHCPCD: _dhcpcd,
}
