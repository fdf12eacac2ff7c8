# SPDX-License-Identifier: GPL-2.0-or-later
"""Network cards as every renderer sees them: checked, numbered, with at most one default gateway among them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from snf_image_shared.errors import GuestError
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True)
class Card:
    """`number` counts from 0 in Ganeti's order; `mac` is lower-case; STATIC has `address` and `prefix`.

    `on_link` says that the gateway lies outside of the address's own network.
    """

    number: int
    mac: str
    ipv4: Ipv4Method = Ipv4Method.NONE
    address: str = ""
    prefix: int = 0
    gateway: str | None = None
    on_link: bool = False
    ipv6: Ipv6Method = Ipv6Method.NONE

    @property
    def idle(self) -> bool:
        """The card gets no address at all: it is only switched on."""
        return self.ipv4 is Ipv4Method.NONE and self.ipv6 is Ipv6Method.NONE

    @property
    def netmask(self) -> str:
        """The prefix in dotted form."""
        bits = _mask(self.prefix)
        return ".".join(str(bits >> shift & 255) for shift in (24, 16, 8, 0))


def cards_of(nics: Sequence[Nic]) -> tuple[Card, ...]:
    """The job's cards in order; only the first static card with a gateway keeps it.

    Raises GuestError for what is no MAC or IPv4 address, and for a MAC address given twice: cards are told apart by it.
    """
    found: list[Card] = []
    for number, nic in enumerate(nics):
        card = _card(number, nic, wants_gateway=not any(other.gateway for other in found))
        if card.mac in {other.mac for other in found}:
            raise GuestError(f"NIC {number}: the MAC address {card.mac} is another NIC's, too; give it one of its own")
        found.append(card)
    return tuple(found)


def _card(number: int, nic: Nic, *, wants_gateway: bool) -> Card:
    mac = nic.mac.lower()
    if not _MAC.fullmatch(mac):
        raise GuestError(f"NIC {number}: {nic.mac[:40]!r} is no MAC address; write six hexadecimal bytes with colons")
    if nic.ipv4 is not Ipv4Method.STATIC:
        return Card(number, mac, nic.ipv4, ipv6=nic.ipv6)
    address, _, length = (nic.address4 or "").partition("/")
    if not (length.isascii() and length.isdigit() and 0 < int(length) <= 32):
        raise GuestError(f"NIC {number}: {nic.address4!r} is no address with a prefix; write it like 192.0.2.7/24")
    prefix = int(length)
    own = _number(address, number)
    gateway = nic.gateway4 if wants_gateway else None
    on_link = gateway is not None and bool((_number(gateway, number) ^ own) & _mask(prefix))
    return Card(number, mac, nic.ipv4, address, prefix, gateway, on_link, nic.ipv6)


def _number(address: str, number: int) -> int:
    """An IPv4 address as 32 bits. The ipaddress module would say the same, at a tenth of a second under emulation."""
    parts = address.split(".")
    if len(parts) != 4 or not all(
        part.isascii() and part.isdigit() and len(part) <= 3 and int(part) <= 255 for part in parts
    ):
        raise GuestError(f"NIC {number}: {address[:40]!r} is no IPv4 address; write it like 192.0.2.7")
    value = 0
    for part in parts:
        value = value << 8 | int(part)
    return value


def _mask(prefix: int) -> int:
    return 0xFFFF_FFFF << (32 - prefix) & 0xFFFF_FFFF
