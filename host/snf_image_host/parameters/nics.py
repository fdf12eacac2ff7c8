# SPDX-License-Identifier: GPL-2.0-or-later
"""NIC_* of Ganeti, network tags and DEFAULT_NIC_CONFIG -> how each network card is to be configured. Pure.

Source: contract of snf-image 0.23, "Decision per NIC"; ganeti lib/backend.py OSEnvironment for the variables.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping

from snf_image_host.configuration.settings import Settings
from snf_image_host.parameters.network_document import MAX_NICS
from snf_image_shared.errors import RequestError
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def nics_from_environment(env: Mapping[str, str], settings: Settings) -> tuple[Nic, ...]:
    """All NICs in Ganeti's order. Raises RequestError naming the variable."""
    text = env.get("NIC_COUNT") or "0"
    if not re.fullmatch("[0-9]{1,4}", text) or int(text) > MAX_NICS:
        raise RequestError(f"NIC_COUNT: {text[:20]!r} is not a number from 0 to {MAX_NICS}")
    count = int(text)
    nics = tuple(_nic(env, f"NIC_{index}_", settings) for index in range(count))
    macs = [nic.mac for nic in nics]
    for index, mac in enumerate(macs):
        if mac in macs[:index]:  # cards are told apart by it
            raise RequestError(f"NIC_{index}_MAC: {mac} is that of NIC {macs.index(mac)}, too; give it one of its own")
    if count == 1 and nics[0].ipv4 is Ipv4Method.NONE and nics[0].ipv6 is Ipv6Method.NONE:
        return (_with_default(nics[0], settings.default_nic_config),)
    return nics


def _nic(env: Mapping[str, str], prefix: str, settings: Settings) -> Nic:
    mac = env.get(prefix + "MAC", "").lower()
    if not _MAC.fullmatch(mac):
        raise RequestError(f"{prefix}MAC: {mac[:40]!r} is not a hardware address like aa:00:00:12:34:56")
    tags = frozenset(env.get(prefix + "NETWORK_TAGS", "").split())
    method4, address4, gateway4 = _ipv4(env, prefix, tags, settings)
    return Nic(
        mac=mac,
        model=env.get(prefix + "FRONTEND_TYPE", ""),
        ipv4=method4,
        address4=address4,
        gateway4=gateway4,
        ipv6=_ipv6(env, prefix, tags, settings),
    )


def _ipv4(
    env: Mapping[str, str], prefix: str, tags: Iterable[str], settings: Settings
) -> tuple[Ipv4Method, str | None, str | None]:
    address, subnet = env.get(prefix + "IP", ""), env.get(prefix + "NETWORK_SUBNET", "")
    if not address:
        return Ipv4Method.NONE, None, None
    if not subnet or _tagged(tags, settings.dhcp_tags):
        return Ipv4Method.DHCP, None, None
    try:
        network = ipaddress.IPv4Network(subnet, strict=False)
    except ValueError as error:
        raise RequestError(f"{prefix}NETWORK_SUBNET: {subnet[:40]!r} is not an IPv4 subnet: {error}") from error
    interface = f"{_address(prefix + 'IP', address)}/{network.prefixlen}"
    gateway = env.get(prefix + "NETWORK_GATEWAY", "")
    return Ipv4Method.STATIC, interface, _address(prefix + "NETWORK_GATEWAY", gateway) if gateway else None


def _ipv6(env: Mapping[str, str], prefix: str, tags: Iterable[str], settings: Settings) -> Ipv6Method:
    """Stateful wins over stateless when a NIC carries tags of both lists (nfdhcpd is in the second only)."""
    if not env.get(prefix + "NETWORK_GATEWAY6"):
        return Ipv6Method.NONE
    if _tagged(tags, settings.stateful_dhcpv6_tags):
        return Ipv6Method.DHCP
    if _tagged(tags, settings.stateless_dhcpv6_tags):
        return Ipv6Method.SLAAC_DHCP
    return Ipv6Method.SLAAC


def _tagged(tags: Iterable[str], wanted: str) -> bool:
    return not frozenset(wanted.split()).isdisjoint(tags)


def _address(variable: str, text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise RequestError(f"{variable}: {text[:40]!r} is not an IPv4 address: {error}") from error


def _with_default(nic: Nic, default: str) -> Nic:
    parts = default.split("+") if default else []
    ipv4 = Ipv4Method.DHCP if "dhcp" in parts else Ipv4Method.NONE
    ipv6 = {"dhcpv6": Ipv6Method.DHCP, "slaac": Ipv6Method.SLAAC, "slaac_dhcp": Ipv6Method.SLAAC_DHCP}
    return Nic(nic.mac, nic.model, ipv4, ipv6=next((ipv6[part] for part in parts if part in ipv6), Ipv6Method.NONE))
