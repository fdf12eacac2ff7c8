# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses in documents that people type: CIDR and nothing else, and nothing that no network card could have."""

from __future__ import annotations

import ipaddress
import re
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Annotated, TypeAlias

from pydantic import PlainValidator, WithJsonSchema

from snf_image_host.parameters.faults import shown

AnyAddress: TypeAlias = IPv4Address | IPv6Address
AnyInterface: TypeAlias = IPv4Interface | IPv6Interface
AnyNetwork: TypeAlias = IPv4Network | IPv6Network
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_V4_BROADCAST = IPv4Address("255.255.255.255")


def interface(value: object) -> AnyInterface:
    """A card's own address with the length of its prefix, such as 192.0.2.7/24. Raises ValueError."""
    text = _text(value)
    if not re.fullmatch(r"[0-9A-Fa-f:.]+/[0-9]{1,3}", text):
        raise ValueError(f"{shown(text)} is not an address with a prefix length, like 192.0.2.7/24 or 2001:db8::7/64")
    try:
        found = ipaddress.ip_interface(text)
    except ValueError as error:
        raise ValueError(f"{shown(text)} is not an address with a prefix length: {error}") from error
    _check_unicast(found.ip, text)
    network = found.network
    if not network.prefixlen:
        raise ValueError(f"{shown(text)} has a prefix of no length; write that of its network, like /24 or /64")
    if network.num_addresses > 2 and found.ip == network.network_address:
        raise ValueError(f"{shown(text)} is the address of the network itself; give the card one inside it")
    if found.version == 4 and network.num_addresses > 2 and found.ip == network.broadcast_address:
        raise ValueError(f"{shown(text)} is the broadcast address of its network; give the card another one")
    return found


def address(value: object) -> AnyAddress:
    """The address of another machine, such as 192.0.2.1 or fe80::1. Raises ValueError."""
    text = _text(value)
    try:
        # An IPv6 address may carry a scope ("%eth0") for Python, in which anything may stand.
        found = ipaddress.ip_address(text if "%" not in text else "")
    except ValueError as error:
        raise ValueError(f"{shown(text)} is not an address like 192.0.2.1 or 2001:db8::1") from error
    _check_unicast(found, text)
    return found


def address4(value: object) -> IPv4Address:
    """An IPv4 address of another machine. Raises ValueError."""
    found = address(value)
    if not isinstance(found, IPv4Address):
        raise ValueError(f"{shown(str(found))} is not an IPv4 address")  # noqa: TRY004  # as above
    return found


def address6(value: object) -> IPv6Address:
    """An IPv6 address of another machine, link-local ones included. Raises ValueError."""
    found = address(value)
    if not isinstance(found, IPv6Address):
        raise ValueError(f"{shown(str(found))} is not an IPv6 address")  # noqa: TRY004  # as above
    return found


def destination(value: object) -> AnyNetwork | None:
    """Where a route leads: a network such as 10.0.0.0/8, or None for "default". Raises ValueError."""
    text = _text(value)
    if text == "default":
        return None
    if not re.fullmatch(r"[0-9A-Fa-f:.]+/[0-9]{1,3}", text):
        raise ValueError(f'{shown(text)} is neither a network like 10.0.0.0/8 nor "default"')
    try:
        found = ipaddress.ip_network(text, strict=False)
        ipaddress.ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f"{shown(text)} is an address inside a network; was {found} meant?") from error
        raise ValueError(f"{shown(text)} is not a network: {error}") from error
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("is not text; put it in quotes")  # noqa: TRY004  # what pydantic catches
    return value


def _check_unicast(found: AnyAddress, text: str) -> None:
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        raise ValueError(f"{shown(text)} is an IPv4 address in IPv6 clothes; write {found.ipv4_mapped}")
    for fault, kind in (
        (
            found.is_unspecified or (isinstance(found, IPv4Address) and found in _THIS_NETWORK),
            "no address of a machine",
        ),
        (found.is_loopback, "a loopback address"),
        (found.is_multicast, "a multicast address"),
        (found == _V4_BROADCAST, "the broadcast address"),
    ):
        if fault:
            raise ValueError(f"{shown(text)} is {kind}; write one of the network")


Interface = Annotated[
    AnyInterface,
    PlainValidator(interface),
    WithJsonSchema({"type": "string", "pattern": "^[0-9A-Fa-f:.]+/[0-9]{1,3}$", "examples": ["192.0.2.7/24"]}),
]
Address = Annotated[
    AnyAddress,
    PlainValidator(address),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
]
Address4 = Annotated[IPv4Address, PlainValidator(address4), WithJsonSchema({"type": "string", "format": "ipv4"})]
Address6 = Annotated[IPv6Address, PlainValidator(address6), WithJsonSchema({"type": "string", "format": "ipv6"})]
Destination = Annotated[
    AnyNetwork | None,
    PlainValidator(destination),
    WithJsonSchema({"type": "string", "pattern": "^([0-9A-Fa-f:.]+/[0-9]{1,3}|default)$", "examples": ["10.0.0.0/8"]}),
]
