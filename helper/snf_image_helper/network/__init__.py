# SPDX-License-Identifier: GPL-2.0-or-later
"""From the job's network cards to the files that the guest's own network software reads: the table of renderers.

A renderer is pure: cards and facts in, files out. What it has to know is in facts.py, who is chosen in ownership.py,
and what becomes of the others in competition.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from snf_image_helper.guest import Guest
from snf_image_helper.linux.services import is_enabled
from snf_image_helper.network import (
    alpine,
    dhcpcd,
    ifcfg,
    ifupdown,
    name_servers,
    netifrc,
    netplan,
    networkd,
    networkmanager,
    wicked,
)
from snf_image_helper.network.cards import Card
from snf_image_helper.network.competition import put_off
from snf_image_helper.network.facts import facts_for
from snf_image_helper.network.ownership import Decision, decide
from snf_image_helper.network.rendering import Facts, Rendered, Renderer

RENDERERS: Mapping[Renderer, Callable[[tuple[Card, ...], Facts], Rendered]] = {
    Renderer.NETPLAN: netplan.render,
    Renderer.NETWORKD: networkd.render,
    Renderer.IFUPDOWN: ifupdown.render,
    Renderer.NETWORKMANAGER: networkmanager.render,
    Renderer.IFCFG: ifcfg.render,
    Renderer.WICKED: wicked.render,
    Renderer.NETIFRC: netifrc.render,
    Renderer.ALPINE: alpine.render,
    Renderer.DHCPCD: dhcpcd.render,
}
__all__ = ["RENDERERS", "Decision", "Renderer", "decide", "facts_for", "files_for"]


def files_for(decision: Decision, guest: Guest, cards: tuple[Card, ...]) -> Rendered:
    """All that makes the cards work in this guest, name servers included, and keeps others from them.

    Nothing for a guest without an owner.
    """
    owner = decision.owner
    if owner is None:
        return Rendered({})
    facts = facts_for(owner, guest, cards)
    rendered = RENDERERS[owner](cards, facts).beside(put_off(decision, guest, cards, facts.backend))
    by_networkd = owner is Renderer.NETWORKD or (owner is Renderer.NETPLAN and facts.backend == "networkd")
    if not (by_networkd and any(not card.idle for card in cards)) and _waits(guest):
        rendered = rendered.beside(Rendered(networkd.wait_for_nothing()))
    if owner in _WRITES_NAMES or facts.backend == "NetworkManager":
        return rendered
    names = name_servers.names_of(guest, resolved=is_enabled(guest, name_servers.RESOLVED))
    # The hook of ifupdown 0.8.41 for systemd-resolved is there, but does nothing: its assignments are quoted.
    tell_resolved = owner is Renderer.IFUPDOWN
    return rendered.beside(name_servers.render(cards, names, tell_resolved=tell_resolved))


def _waits(guest: Guest) -> bool:
    """Whether systemd-networkd's idea of being online may hold the boot up."""
    return is_enabled(guest, networkd.SERVICE) and is_enabled(guest, networkd.WAIT_ONLINE)


# What writes /etc/resolv.conf by itself.
_WRITES_NAMES = frozenset({Renderer.NETWORKMANAGER, Renderer.WICKED})
