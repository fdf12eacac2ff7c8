# SPDX-License-Identifier: GPL-2.0-or-later
"""resolv.conf(5), for guests whose network software leaves it to others.

ifupdown hands name servers to resolvconf, and networkd to systemd-resolved; without those nobody would ever hear of
them. NetworkManager writes the file by itself and is no concern of this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from snf_image_helper.guest import Guest
from snf_image_helper.network.cards import Card
from snf_image_helper.network.rendering import HEADER, FileContent, Rendered, suffixed
from snf_image_shared.job import Ipv4Method, Ipv6Method

RESOLV_CONF = "/etc/resolv.conf"
RESOLVED = "systemd-resolved.service"
_DROP_IN = "/etc/systemd/resolved.conf.d/50-snf-image.conf"
_OF_RESOLVED = "/systemd/resolve/"  # in what the file links to, below /run or /usr/lib


class Owner(StrEnum):
    """Who writes /etc/resolv.conf."""

    NOBODY = "nobody"
    RESOLVED = "resolved"
    SOMEBODY = "somebody"


class DhcpClient(StrEnum):
    """Clients that write /etc/resolv.conf with what their server says, unless they are told to leave it."""

    DHCLIENT = "dhclient"
    DHCPCD = "dhcpcd"
    UDHCPC = "udhcpc"


@dataclass(frozen=True)
class Names:
    """`old` are the files of the image that ours would replace; `clients` those that would write over ours."""

    owner: Owner
    old: frozenset[str] = frozenset()
    clients: tuple[DhcpClient, ...] = ()


def names_of(guest: Guest, *, resolved: bool) -> Names:
    """Look at the guest; `resolved` says whether systemd-resolved is enabled there.

    A link that leads to systemd-resolved's file while that does not run leads nowhere: then the file is nobody's.
    """
    target = guest.link_target(RESOLV_CONF)
    # systemd-tmpfiles makes the link at boot where there is nothing.
    if resolved and (_OF_RESOLVED in target if target else not guest.exists(RESOLV_CONF)):
        return Names(Owner.RESOLVED)
    if target and _OF_RESOLVED not in target:
        return Names(Owner.SOMEBODY)
    ours = {RESOLV_CONF, *(path for _, path, _ in _CLIENTS.values())}
    old = frozenset(path for path in ours if guest.is_file(path) or guest.is_link(path))
    return Names(Owner.NOBODY, old, tuple(client for client, (mark, _, _) in _CLIENTS.items() if guest.exists(mark)))


def render(cards: Sequence[Card], names: Names, *, tell_resolved: bool) -> Rendered:
    """Nothing without name servers; `tell_resolved`: the network software does not do it itself.

    Our servers are then the only ones: a DHCP client would replace the whole file, not add its own.
    """
    servers = tuple(dict.fromkeys(server for card in cards for server in card.nameservers))
    search = tuple(dict.fromkeys(domain for card in cards for domain in card.search))
    if not servers or names.owner is Owner.SOMEBODY:
        return Rendered({})
    if names.owner is Owner.RESOLVED:
        domains = f"Domains={' '.join(search)}\n" if search else ""
        text = f"{HEADER}[Resolve]\nDNS={' '.join(servers)}\n{domains}"
        return Rendered({_DROP_IN: FileContent(text)} if tell_resolved else {})
    lines = [f"search {' '.join(search)}"] if search else []
    lines += [f"nameserver {server}" for server in servers]
    files = {RESOLV_CONF: FileContent(HEADER + "".join(f"{line}\n" for line in lines))}
    if any(_asks(card) for card in cards):
        files.update(_told(names))
    return Rendered(files, suffixed(tuple(path for path in files if path in names.old)))


def _told(names: Names) -> dict[str, FileContent]:
    """What keeps the guest's DHCP clients off our file."""
    return {path: FileContent(HEADER + text) for client, (_, path, text) in _CLIENTS.items() if client in names.clients}


def _asks(card: Card) -> bool:
    return card.ipv4 is Ipv4Method.DHCP or card.ipv6 in {Ipv6Method.DHCP, Ipv6Method.SLAAC_DHCP}


# What shows that the client is there, the file that it reads before it does anything, and what that has to say.
_CLIENTS = {
    DhcpClient.DHCLIENT: (
        "/etc/dhcp/dhclient-enter-hooks.d",
        "/etc/dhcp/dhclient-enter-hooks.d/snf-image",
        "make_resolv_conf() { :; }\n",
    ),
    DhcpClient.DHCPCD: ("/etc/dhcpcd.conf", "/etc/dhcpcd.enter-hook", 'skip_hooks="$skip_hooks resolv.conf"\n'),
    DhcpClient.UDHCPC: ("/usr/share/udhcpc/default.script", "/etc/udhcpc/udhcpc.conf", "RESOLV_CONF=no\n"),
}

# All that this module writes besides RESOLV_CONF.
BESIDES = (_DROP_IN, *(path for _, path, _ in _CLIENTS.values()))
