# SPDX-License-Identifier: GPL-2.0-or-later
"""netplan(5): one YAML file for all cards, matched by MAC address; the same model is cloud-init's network-config v2."""

from __future__ import annotations

from snf_image_helper.cloud_init import Json
from snf_image_helper.files.block_yaml import block_yaml
from snf_image_helper.network import networkmanager
from snf_image_helper.network.cards import Card
from snf_image_helper.network.rendering import HEADER, Facts, FileContent, Rendered, suffixed
from snf_image_shared.job import Ipv4Method, Ipv6Method, Route

DIRECTORY = "/etc/netplan"
FILE = f"{DIRECTORY}/50-snf-image.yaml"


def render(cards: tuple[Card, ...], facts: Facts) -> Rendered:
    """All other files are retired: netplan merges what it finds, and the last word would be theirs.

    A card that it does not know is left switched off by networkd, though not by NetworkManager. "activation-mode" would
    say so, but netplan before 0.103 refuses a whole file for an unknown key.
    """
    ethernets = {
        f"nic{card.number}": {**_ethernet(card), **_member("routes", [_route(route) for route in card.routes])}
        for card in cards
        if not card.down
    }
    model: dict[str, Json] = {"version": 2, "renderer": facts.backend, **_member("ethernets", ethernets)}
    text = HEADER + "".join(f"{line}\n" for line in block_yaml({"network": model}))
    files = {FILE: FileContent(text, 0o600)}
    if facts.backend == "NetworkManager":
        files.update(networkmanager.left_alone(tuple(card for card in cards if card.down)))
    return Rendered(files, suffixed(tuple(path for path in facts.competing if path != FILE)))


def for_cloud_init(cards: tuple[Card, ...]) -> dict[str, Json]:
    """The same for cloud-init, which turns it into something older, and has cards called eth0, eth1, ...

    Its schema knows no "on-link": a route on the card's own link leads to such a gateway. 22.4 takes a route to ::/0
    for one to ::/64, and fails for a route without "via". It knows no way to keep a card down.
    """
    found: dict[str, Json] = {}
    for card in cards:
        model = {"set-name": f"eth{card.number}", **_ethernet(card)}
        for key, stack in (("gateway4", card.v4), ("gateway6", card.v6)):
            if stack.gateway is not None and stack.gateway.gateway is not None:
                model[key] = stack.gateway.gateway
        far = [route.gateway for route in card.routes if route.on_link and route.gateway]
        routes = [_route(Route(f"{gateway}/{128 if ':' in gateway else 32}")) for gateway in dict.fromkeys(far)]
        routes += [_route(route) for route in (*card.v4.routes, *card.v6.routes)]
        for route in routes:
            route.pop("on-link", None)
            if route.pop("scope", None):
                route["via"] = "::" if ":" in str(route["to"]) else "0.0.0.0"  # noqa: S104  # nothing is bound to it
        found[f"eth{card.number}"] = {**model, **_member("routes", routes)}
    return found


def _ethernet(card: Card) -> dict[str, Json]:
    """All but the routes."""
    names = {"addresses": list(card.nameservers), "search": list(card.search)}
    return {
        "match": {"macaddress": card.mac},
        "dhcp4": card.ipv4 is Ipv4Method.DHCP,
        "dhcp6": card.ipv6 is Ipv6Method.DHCP,
        "accept-ra": card.ipv6 not in {Ipv6Method.NONE, Ipv6Method.STATIC},
        **_member("addresses", [str(address) for address in card.addresses]),
        **_member("nameservers", {key: values for key, values in names.items() if values}),
        **_member("mtu", card.mtu),
        **_member("optional", card.idle),
    }


def _member(key: str, value: Json) -> dict[str, Json]:
    return {key: value} if value else {}


def _route(route: Route) -> dict[str, Json]:
    # "default" is only known since netplan 0.103; older ones also insist on the scope of a route without "via".
    return {
        "to": route.destination,
        **({"via": route.gateway} if route.gateway else {"scope": "link"}),
        **_member("on-link", route.on_link),
        **_member("metric", route.metric),
    }
