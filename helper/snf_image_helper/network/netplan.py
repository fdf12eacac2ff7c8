# SPDX-License-Identifier: GPL-2.0-or-later
"""netplan(5): one YAML file for all cards, matched by MAC address; the same model is cloud-init's network-config v2."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from snf_image_helper.cloud_init import Json
from snf_image_helper.network.cards import Card
from snf_image_helper.network.rendering import HEADER, Facts, FileContent, Rendered, suffixed
from snf_image_shared.job import Ipv4Method, Ipv6Method

DIRECTORY = "/etc/netplan"
FILE = f"{DIRECTORY}/50-snf-image.yaml"


def render(cards: tuple[Card, ...], facts: Facts) -> Rendered:
    """All other files are retired: netplan merges what it finds, and the last word would be theirs."""
    model: dict[str, Json] = {"version": 2, "renderer": facts.backend, "ethernets": ethernets(cards)}
    text = HEADER + "".join(f"{line}\n" for line in _yaml({"network": model}))
    return Rendered({FILE: FileContent(text, 0o600)}, suffixed(tuple(p for p in facts.competing if p != FILE)))


def ethernets(cards: tuple[Card, ...], *, rename: bool = False) -> dict[str, Json]:
    """The member "ethernets" of version 2; with `rename` the cards are to be called eth0, eth1, ..."""
    found: dict[str, Json] = {}
    for card in cards:
        name = f"eth{card.number}" if rename else f"nic{card.number}"
        found[name] = {**_ethernet(card), **({"set-name": name} if rename else {})}
    return found


def _ethernet(card: Card) -> dict[str, Json]:
    model: dict[str, Json] = {"match": {"macaddress": card.mac}, "dhcp4": card.ipv4 is Ipv4Method.DHCP}
    if card.ipv4 is Ipv4Method.STATIC:
        model["addresses"] = [f"{card.address}/{card.prefix}"]
    if card.gateway is not None:
        # "default" is only known since netplan 0.103
        route: dict[str, Json] = {"to": "0.0.0.0/0", "via": card.gateway}
        model["routes"] = [{**route, "on-link": True} if card.on_link else route]
    model["dhcp6"] = card.ipv6 is Ipv6Method.DHCP
    model["accept-ra"] = card.ipv6 is not Ipv6Method.NONE
    if card.idle:
        model["optional"] = True
        model["link-local"] = []
    return model


def _yaml(value: Json, indent: str = "") -> list[str]:
    """Block style with every text quoted as in JSON, so that no address turns into a number."""
    lines = []
    if isinstance(value, Mapping):
        for key, item in value.items():
            lines += _member(f"{indent}{key}:", item, indent)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            first, *rest = _yaml(item, indent + "  ")
            lines += [f"{indent}- {first.strip()}", *rest]
    else:
        lines.append(indent + json.dumps(value))
    return lines


def _member(key: str, value: Json, indent: str) -> list[str]:
    if isinstance(value, str | bool | int) or not value:
        return [f"{key} {json.dumps(value)}"]
    return [key, *_yaml(value, indent + "  ")]
