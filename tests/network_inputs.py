# SPDX-License-Identifier: GPL-2.0-or-later
"""Every kind of network card that a renderer has to know, under the name of the input in issue 5's list.

Each stands for what Ganeti, its network tags, DEFAULT_NIC_CONFIG and the OS parameter network can ask for; the golden
files of tests/golden_network and the rooms of test_network_rooms.py are made of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic, Route


def mac(number: int) -> str:
    """The address of a card's hardware, in the order of the cards."""
    return f"02:00:00:00:00:{number:02x}"


_FIRST, _SECOND, _THIRD = Nic(mac(1)), Nic(mac(2)), Nic(mac(3))
_STATIC4 = replace(_FIRST, ipv4=Ipv4Method.STATIC, address4="192.0.2.7/24", gateway4="192.0.2.1")
_STATIC6 = replace(_FIRST, ipv6=Ipv6Method.STATIC, address6="2001:db8::7/64", gateway6="2001:db8::1")
_DUAL = replace(_STATIC4, ipv6=_STATIC6.ipv6, address6=_STATIC6.address6, gateway6=_STATIC6.gateway6)
_DHCP4 = replace(_FIRST, ipv4=Ipv4Method.DHCP)
_OTHER4 = replace(_SECOND, ipv4=Ipv4Method.STATIC, address4="198.51.100.7/25", gateway4="198.51.100.1")

# The shape of the seven cards in issue 71 of upstream: routed and bridged, most of them without anything.
_SEVEN = (
    replace(_FIRST, ipv6=Ipv6Method.SLAAC_DHCP),
    Nic(mac(2)),
    Nic(mac(3)),
    Nic(mac(4), ipv4=Ipv4Method.STATIC, address4="203.0.113.3/29", gateway4="203.0.113.1"),
    Nic(mac(5), ipv4=Ipv4Method.DHCP),
    Nic(mac(6), ipv4=Ipv4Method.DHCP, ipv6=Ipv6Method.SLAAC_DHCP),
    Nic(mac(7), ipv4=Ipv4Method.STATIC, address4="198.51.100.7/25", ipv6=Ipv6Method.SLAAC),
)

INPUTS: Mapping[str, tuple[Nic, ...]] = {
    "dhcp4": (_DHCP4,),
    "static4": (_STATIC4,),
    "slaac": (replace(_DHCP4, ipv6=Ipv6Method.SLAAC),),
    "stateless-dhcp6": (replace(_DHCP4, ipv6=Ipv6Method.SLAAC_DHCP),),
    "stateful-dhcp6": (replace(_DHCP4, ipv6=Ipv6Method.DHCP),),
    "static4-slaac": (replace(_STATIC4, ipv6=Ipv6Method.SLAAC),),
    "static6": (replace(_STATIC6, ipv4=Ipv4Method.DHCP),),
    "only6-static": (replace(_STATIC6, gateway6="fe80::1"),),
    "only6-slaac": (replace(_FIRST, ipv6=Ipv6Method.SLAAC),),
    "only6-stateful-dhcp6": (replace(_FIRST, ipv6=Ipv6Method.DHCP),),
    "dual-static": (_DUAL,),
    "far-gateways": (replace(_DUAL, gateway4="203.0.113.1", gateway6="2001:db8:9::1"),),
    # What a hoster's routed network gives: an address alone, and a gateway that is on the link all the same.
    "routed": (
        replace(_DUAL, address4="192.0.2.7/32", address6="2001:db8::7/128", gateway4="203.0.113.1", gateway6="fe80::1"),
    ),
    # The same with a gateway of IPv6 that is no link-local one.
    "routed-far6": (replace(_DUAL, address4="192.0.2.7/32", address6="2001:db8::7/128", gateway6="2001:db8::1"),),
    # Of the two gateways the first card's is the default route.
    "two-gateways": (_STATIC4, _OTHER4),
    # A default route that was asked for wins over a gateway that only belongs to the network.
    "default-by-route": (_STATIC4, replace(_OTHER4, gateway4=None, routes=(Route("0.0.0.0/0", "198.51.100.1"),))),
    "default-by-metric": (
        replace(
            _DUAL,
            gateway4=None,
            gateway6=None,
            routes=(
                Route("0.0.0.0/0", "192.0.2.1", metric=100),
                Route("::/0", "2001:db8::1", metric=100),
            ),
        ),
        replace(
            _OTHER4,
            gateway4=None,
            ipv6=Ipv6Method.STATIC,
            address6="2001:db8:2::7/64",
            routes=(
                Route("0.0.0.0/0", "198.51.100.1", metric=200),
                Route("::/0", "2001:db8:2::1", metric=200),
            ),
        ),
    ),
    "mtu": (replace(_DHCP4, mtu=1400), replace(_OTHER4, mtu=9000), replace(_THIRD, mtu=1450)),
    "names": (
        replace(_DUAL, nameservers=("192.0.2.54", "2001:db8::53", "192.0.2.53"), search=("z.example", "a.example")),
        replace(_OTHER4, gateway4=None, nameservers=("198.51.100.53", "192.0.2.54"), search=("a.example", "m.example")),
    ),
    "names-dhcp": (replace(_DHCP4, nameservers=("192.0.2.53",), search=("example.com",)),),
    "routes-and-addresses": (
        replace(
            _DUAL,
            addresses=("192.0.2.8/24", "10.0.0.7/8", "2001:db8:1::8/64", "203.0.113.9/32"),
            routes=(
                Route("172.16.0.0/16", "192.0.2.254"),
                Route("172.17.0.0/16", "172.30.0.1", on_link=True, metric=50),
                Route("172.18.0.0/16", metric=7),
                Route("2001:db8:a::/48", "2001:db8::fe"),
                Route("2001:db8:b::/48", "2001:db8:ffff::1", on_link=True, metric=50),
                Route("2001:db8:c::/48", metric=9),
            ),
        ),
    ),
    "addresses-beside-dhcp": (
        replace(
            _DHCP4,
            ipv6=Ipv6Method.SLAAC,
            addresses=("192.0.2.8/24", "2001:db8:1::8/64"),
            routes=(Route("172.16.0.0/16", "192.0.2.254", metric=50), Route("2001:db8:a::/48", "2001:db8:1::fe")),
        ),
    ),
    "unconfigured": (_FIRST,),
    "unconfigured-beside-static": (_STATIC4, _SECOND),
    "seven": _SEVEN,
}
