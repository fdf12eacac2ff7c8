# SPDX-License-Identifier: GPL-2.0-or-later
"""Routes as commands of ip-route(8), for network software that runs what it has no words for."""

from __future__ import annotations

from snf_image_helper.network.cards import DEFAULTS
from snf_image_shared.job import Route


def route_commands(route: Route, card: str) -> list[str]:
    """What makes the route; `card` is the shell word that names its card. Done again they change nothing."""
    is_ipv6 = ":" in route.destination
    command = f"ip {'-6 ' if is_ipv6 else ''}route replace"
    destination = "default" if route.destination in DEFAULTS else route.destination
    via = f" via {route.gateway}" if route.gateway else ""
    metric = f" metric {route.metric}" if route.metric else ""
    line = f"{command} {destination}{via} dev {card}{metric}"
    if not route.on_link:
        return [line]
    # Linux before 4.16 knows "onlink" of IPv4 alone.
    return [f"{command} {route.gateway} dev {card}", line] if is_ipv6 else [f"{line} onlink"]
