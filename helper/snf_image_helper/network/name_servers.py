# SPDX-License-Identifier: GPL-2.0-or-later
"""resolv.conf(5), for guests whose network software leaves it to others.

ifupdown hands name servers to resolvconf, and networkd to systemd-resolved; without those nobody would ever hear of
them. NetworkManager writes the file by itself and is no concern of this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
    """`old` is the image's file, or None; `clients` are those that would write over ours."""

    owner: Owner
    old: str | None = None
    clients: tuple[DhcpClient, ...] = field(default=())


def names_of(guest: Guest, *, resolved: bool) -> Names:
    """Look at the guest; `resolved` says whether systemd-resolved is enabled there.

    A link that leads to systemd-resolved's file while that does not run leads nowhere: then the file is nobody's.
    """
    target = guest.link_target(RESOLV_CONF)
    clients = tuple(client for client, (mark, _, _) in _CLIENTS.items() if guest.exists(mark))
    if target is None:
        if guest.is_file(RESOLV_CONF):
            return Names(Owner.NOBODY, RESOLV_CONF, clients)
        # systemd-tmpfiles makes the link at boot where there is nothing.
        return Names(Owner.RESOLVED if resolved else Owner.NOBODY, None, clients)
    if _OF_RESOLVED not in target:
        return Names(Owner.SOMEBODY)
    return Names(Owner.RESOLVED) if resolved else Names(Owner.NOBODY, RESOLV_CONF, clients)


def render(cards: Sequence[Card], names: Names, *, tell_resolved: bool) -> Rendered:
    """Nothing without name servers or search domains. `tell_resolved`: the network software does not do it itself."""
    servers = tuple(dict.fromkeys(server for card in cards for server in card.nameservers))
    search = tuple(dict.fromkeys(domain for card in cards for domain in card.search))
    if not servers and not search:
        return Rendered({})
    match names.owner:
        case Owner.SOMEBODY:
            return Rendered({})
        case Owner.RESOLVED if tell_resolved:
            return Rendered({_DROP_IN: FileContent(f"{HEADER}[Resolve]\n{_resolved(servers, search)}")})
        case Owner.RESOLVED:
            return Rendered({})
        case Owner.NOBODY:
            lines = [f"search {' '.join(search)}"] if search else []
            lines += [f"nameserver {server}" for server in servers]
            plain = {RESOLV_CONF: FileContent(HEADER + "".join(f"{line}\n" for line in lines))}
            told = _told(names) if any(_asks(card) for card in cards) else {}
            return Rendered({**plain, **told}, suffixed((names.old,) if names.old else ()))


def _told(names: Names) -> dict[str, FileContent]:
    """What keeps the guest's DHCP clients off our file."""
    return {path: FileContent(HEADER + text) for client, (_, path, text) in _CLIENTS.items() if client in names.clients}


def _resolved(servers: Sequence[str], search: Sequence[str]) -> str:
    lines = [f"DNS={' '.join(servers)}"] if servers else []
    return "".join(f"{line}\n" for line in [*lines, *([f"Domains={' '.join(search)}"] if search else [])])


def _asks(card: Card) -> bool:
    return card.ipv4 is Ipv4Method.DHCP or card.ipv6 in {Ipv6Method.DHCP, Ipv6Method.SLAAC_DHCP}


# What shows that the client is there, the file that it reads before it does anything, and what that has to say.
_CLIENTS = {
    DhcpClient.DHCLIENT: (
        "/etc/dhcp/dhclient-enter-hooks.d",
        "/etc/dhcp/dhclient-enter-hooks.d/snf-image",
        "make_resolv_conf() { :; }\n",
    ),
    DhcpClient.DHCPCD: (
        "/usr/lib/dhcpcd/dhcpcd-run-hooks",
        "/etc/dhcpcd.enter-hook",
        'skip_hooks="$skip_hooks resolv.conf"\n',
    ),
    DhcpClient.UDHCPC: ("/usr/share/udhcpc/default.script", "/etc/udhcpc/udhcpc.conf", "RESOLV_CONF=no\n"),
}
