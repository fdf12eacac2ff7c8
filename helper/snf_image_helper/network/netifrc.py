# SPDX-License-Identifier: GPL-2.0-or-later
"""netifrc of Gentoo: /etc/conf.d/net by MAC address, and a service for each card.

Its module macnet takes config_02000000000A and the like for the card with that address, whatever the name is; services
are there for names alone, so a rule of udev's makes sure of these. What macnet does not know, the function preup does.
Sources: netifrc's net/macnet.sh, net/iproute2.sh, net/dhcpcd.sh, init.d/net.lo, doc/net.example.
"""

from __future__ import annotations

from collections.abc import Sequence

from snf_image_helper.network.cards import DEFAULTS, Card
from snf_image_helper.network.naming import name_of, rules
from snf_image_helper.network.rendering import HEADER, Facts, FileContent, Rendered, suffixed
from snf_image_shared.job import Ipv4Method, Ipv6Method, Route

CONFIG = "/etc/conf.d/net"
SERVICES, RUNLEVELS = "/etc/init.d", "/etc/runlevels"


def render(cards: tuple[Card, ...], facts: Facts) -> Rendered:
    """Services of the image for other names are taken from the runlevel; a card without configuration has none."""
    files = {CONFIG: FileContent(HEADER + _text(cards)), **rules(cards, facts)}
    links = {}
    for card in cards:
        if not card.down:
            service = f"net.{name_of(card, facts)}"
            links[f"{SERVICES}/{service}"] = "net.lo"
            links[f"{RUNLEVELS}/default/{service}"] = f"{SERVICES}/{service}"
    services = tuple(path for path in facts.competing if path.startswith(RUNLEVELS))
    others = tuple(path for path in facts.competing if path not in services)
    return Rendered(files, suffixed(others), links, tuple(path for path in services if path not in links))


def _text(cards: Sequence[Card]) -> str:
    servers = dict.fromkeys(server for card in cards for server in card.nameservers)
    search = dict.fromkeys(domain for card in cards for domain in card.search)
    text = 'modules="iproute2"\n'
    if servers:
        # For all cards alike: each one that comes up writes the whole of resolv.conf.
        text += _variable("dns_servers", [" ".join(servers)])
        text += _variable("dns_search", [" ".join(search)]) if search else ""
        text += _variable("dhcp", ["nodns"])
    for card in cards:
        if not card.down:
            key = card.mac.replace(":", "").upper()
            text += "\n" + _variable(f"config_{key}", _config(card))
            text += _variable(f"dhcpcd_{key}", [client]) if (client := _client(card)) else ""
            # netifrc gives the metric of one route to all after it that have none.
            routes = sorted((line for route in card.routes for line in _lines(route)), key=_has_metric)
            text += _variable(f"routes_{key}", routes) if routes else ""
    return text + _preup(cards)


def _variable(name: str, lines: Sequence[str]) -> str:
    """Addresses, names of domains and words of ours alone: nothing that a shell would take for anything else."""
    value = "\n".join(lines)
    return f'{name}="{value}"\n'


def _config(card: Card) -> list[str]:
    return [*map(str, card.addresses), *(["dhcp"] if _asks(card) else [])] or ["null"]


def _asks(card: Card) -> bool:
    return card.ipv4 is Ipv4Method.DHCP or card.ipv6 in {Ipv6Method.DHCP, Ipv6Method.SLAAC_DHCP}


def _client(card: Card) -> str:
    """dhcpcd does both families, and with the second one what router advertisements say of DHCPv6."""
    dhcp6 = card.ipv6 in {Ipv6Method.DHCP, Ipv6Method.SLAAC_DHCP}
    if not _asks(card) or (dhcp6 and card.ipv4 is Ipv4Method.DHCP):
        return ""
    return "-6" if dhcp6 else "-4"


def _lines(route: Route) -> list[str]:
    """Arguments of "ip route"; netifrc adds the card, and a metric where there is none."""
    destination = "default" if route.destination == DEFAULTS[0] else route.destination
    via = f" via {route.gateway}" if route.gateway else ""
    metric = f" metric {route.metric}" if route.metric else ""
    line = f"{destination}{via}{metric}"
    if not route.on_link:
        return [line]
    return [f"{route.gateway}/128", line] if ":" in line else [f"{line} onlink"]


def _has_metric(line: str) -> bool:
    return " metric " in line


def _preup(cards: Sequence[Card]) -> str:
    """Routers may answer as soon as a card is up, so that it is not to be up before."""
    cases = "".join(_case(card) for card in cards if not card.down)
    return (
        f'\nup_before_preup="no"\npreup() {{\n\tcase "$(cat "/sys/class/net/${{IFACE}}/address")" in\n{cases}'
        "\tesac\n\treturn 0\n}\n"
        if cases
        else ""
    )


def _case(card: Card) -> str:
    listens = card.ipv6 not in {Ipv6Method.NONE, Ipv6Method.STATIC}
    lines = [f'eval "mtu_${{IFVAR}}={card.mtu}"'] if card.mtu else []
    values = {"accept_ra": listens, "autoconf": listens and card.ipv6 is not Ipv6Method.DHCP, "use_tempaddr": False}
    lines += [
        f'echo {int(value)} > "/proc/sys/net/ipv6/conf/${{IFACE}}/{key}" 2> /dev/null' for key, value in values.items()
    ]
    return f"\t{card.mac})\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t\t;;\n"
