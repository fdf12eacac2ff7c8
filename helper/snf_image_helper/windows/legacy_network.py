# SPDX-License-Identifier: GPL-2.0-or-later
"""The instance's cards for XP and 2003: a script for the Windows Script Host, which finds them by MAC address.

sysprep.inf names cards by their place on the bus, or by a model that several may have. Pure. Source: WMI's
Win32_NetworkAdapterConfiguration, which those versions have for IPv4 alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from snf_image_helper.network.addresses import Network
from snf_image_helper.network.cards import Card
from snf_image_shared.job import Ipv4Method, Ipv6Method

SCRIPT = "ConfigureNetwork.vbs"


def script(cards: Sequence[Card]) -> tuple[str, ...]:
    """Its lines; none where every card takes what DHCP gives."""
    told = [card for card in cards if card.ipv4 is Ipv4Method.STATIC or card.v4.nameservers or card.search]
    if not told:
        return ()
    lines = [
        'Set wmi = GetObject("winmgmts:{impersonationLevel=impersonate}!\\\\.\\root\\cimv2")',
        'Set shell = CreateObject("WScript.Shell")',
    ]
    for card in told:
        of_card = f"MACAddress='{card.mac.upper()}'"
        query = f"SELECT * FROM Win32_NetworkAdapterConfiguration WHERE {of_card}"  # noqa: S608  # six hex bytes
        lines += [f'For Each card In wmi.ExecQuery("{query}")', *(f"  {line}" for line in _settings(card)), "Next"]
    domains = tuple(dict.fromkeys(domain for card in cards for domain in card.search))
    if domains:
        lines.append(f'wmi.Get("Win32_NetworkAdapterConfiguration").SetDNSSuffixSearchOrder {_array(domains)}')
    lines += [line for card in told for line in _routes(card)]
    return tuple(lines)


def left_out(cards: Sequence[Card]) -> Iterator[str]:
    """What these versions cannot do, for warnings."""
    for card in cards:
        missing = [
            what
            for what, is_asked in (
                ("IPv6", card.ipv6 is not Ipv6Method.NONE),
                ("the MTU", bool(card.mtu)),
                ("addresses beside DHCP", card.ipv4 is Ipv4Method.DHCP and bool(card.v4.addresses)),
                ("routes without gateway", any(route.gateway is None for route in card.v4.routes)),
            )
            if is_asked
        ]
        if missing:
            yield (
                f"NIC {card.number}: {', '.join(missing)} of the network cannot be set in XP and 2003 and is left out; "
                "set it in the image, or deploy a later Windows"
            )


def _settings(card: Card) -> Iterator[str]:
    if card.ipv4 is Ipv4Method.STATIC:
        addresses = [str(network.address) for network in card.v4.addresses]
        yield f"card.EnableStatic {_array(addresses)}, {_array([network.netmask for network in card.v4.addresses])}"
        if card.v4.gateway and card.v4.gateway.gateway:
            yield f"card.SetGateways {_array([card.v4.gateway.gateway])}, Array({card.v4.gateway.metric or 1})"
    if card.v4.nameservers:
        yield f"card.SetDNSServerSearchOrder {_array(card.v4.nameservers)}"
    if card.search:
        yield f'card.SetDNSDomain "{card.search[0]}"'


def _routes(card: Card) -> Iterator[str]:
    for route in card.v4.routes:
        if route.gateway:
            network = Network.parse(route.destination)
            metric = f" metric {min(route.metric, 9999)}" if route.metric else ""
            way = f"{network.address} mask {network.netmask} {route.gateway}{metric}"
            yield f'shell.Run "route.exe -p add {way}", 0, True'


def _array(texts: Sequence[str]) -> str:
    quoted = ", ".join(f'"{text}"' for text in texts)
    return f"Array({quoted})"
