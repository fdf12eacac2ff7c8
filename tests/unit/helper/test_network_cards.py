# SPDX-License-Identifier: GPL-2.0-or-later
"""Cards out of the job: everything is parsed and written anew, gateways are thinned out, nonsense is refused."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper.network.addresses import Address, Network
from snf_image_helper.network.cards import cards_of
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic, Route

MAC = "02:00:00:00:00:01"
STATIC = Nic(MAC, ipv4=Ipv4Method.STATIC, address4="192.0.2.7/24", gateway4="192.0.2.1")
STATIC6 = Nic(MAC, ipv6=Ipv6Method.STATIC, address6="2001:db8::7/64", gateway6="fe80::1")
SECOND = replace(STATIC, mac="02:00:00:00:00:02", address4="198.51.100.7/24", gateway4="198.51.100.1")
DEFAULT = Route("0.0.0.0/0", "192.0.2.9")


@given(st.ip_addresses(), st.integers(0, 128))
def test_networks_are_those_of_the_ipaddress_module(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, prefix: int
) -> None:
    prefix = min(prefix, address.max_prefixlen)
    found, wanted = Network.parse(f"{address}/{prefix}"), ipaddress.ip_interface(f"{address}/{prefix}")
    assert found.address.packed == wanted.ip.packed
    assert found.whole.lowest == wanted.network.network_address.packed
    assert ipaddress.ip_address(found.netmask) == wanted.netmask
    assert found.address.is_link_local is (address.version == 6 and address.is_link_local)


@given(st.text(alphabet="0123456789abcdef:.%/ \n\0x", max_size=24))
def test_what_is_taken_for_an_address_is_one(text: str) -> None:
    try:
        found = Address.parse(text)
    except ValueError:
        return
    assert ipaddress.ip_address(str(found)) == ipaddress.ip_address(text)


@given(st.ip_addresses(), st.integers(1, 128), st.data())
def test_a_gateway_is_on_link_exactly_when_the_network_does_not_hold_it(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, prefix: int, data: st.DataObject
) -> None:
    prefix = min(prefix, address.max_prefixlen)
    gateway = data.draw(st.ip_addresses(v=4 if address.version == 4 else 6))
    own = f"{address}/{prefix}"
    if address.version == 4:
        nic = Nic(MAC, ipv4=Ipv4Method.STATIC, address4=own, gateway4=str(gateway))
    else:
        nic = Nic(MAC, ipv6=Ipv6Method.STATIC, address6=own, gateway6=str(gateway))
    (card,) = cards_of((nic,))
    (route,) = card.routes
    reached = gateway in ipaddress.ip_interface(own).network or (gateway.version == 6 and gateway.is_link_local)
    assert route.on_link is not reached


def test_a_gateway_may_lie_in_any_network_of_the_card() -> None:
    nic = replace(STATIC, addresses=("10.0.0.7/8",), gateway4="10.0.0.1", routes=(Route("10.9.0.0/16", "192.0.2.3"),))
    (card,) = cards_of((nic,))
    assert [route.on_link for route in card.routes] == [False, False]


def test_a_site_local_gateway_is_no_link_local_one() -> None:
    (card,) = cards_of((replace(STATIC6, gateway6="fec0::1"),))
    assert card.routes == (Route("::/0", "fec0::1", on_link=True),)


def test_addresses_alone_make_a_card_static() -> None:
    (card,) = cards_of((Nic(MAC, addresses=("192.0.2.7/24", "2001:db8::7/64", "192.0.2.8/24"), gateway6="fe80::1"),))
    assert (card.ipv4, card.ipv6, card.idle) == (Ipv4Method.STATIC, Ipv6Method.STATIC, False)
    assert [str(address) for address in card.v4.addresses] == ["192.0.2.7/24", "192.0.2.8/24"]
    assert card.v6.gateway == Route("::/0", "fe80::1")


def test_addresses_beside_another_method_leave_it_as_it_is() -> None:
    nic = Nic(MAC, ipv4=Ipv4Method.DHCP, ipv6=Ipv6Method.SLAAC, addresses=("192.0.2.7/24", "2001:db8::7/64"))
    (card,) = cards_of((nic,))
    assert (card.ipv4, card.ipv6) == (Ipv4Method.DHCP, Ipv6Method.SLAAC)
    assert card.routes == ()


def test_a_card_with_nothing_but_an_mtu_or_name_servers_is_idle() -> None:
    idle, names, static6 = cards_of(
        (Nic(MAC, mtu=9000), replace(SECOND, ipv4=Ipv4Method.NONE), replace(STATIC6, mac="02:00:00:00:00:03"))
    )
    assert (idle.idle, names.idle, static6.idle) == (True, True, False)


def test_only_the_first_gateway_of_a_family_stays() -> None:
    dhcp, first, second, third = cards_of(
        (
            Nic("02:00:00:00:00:0A", ipv4=Ipv4Method.DHCP),
            STATIC,
            replace(SECOND, ipv6=Ipv6Method.STATIC, address6="2001:db8:2::7/64", gateway6="2001:db8:2::1"),
            replace(STATIC6, mac="02:00:00:00:00:03"),
        )
    )
    assert (dhcp.mac, dhcp.routes) == ("02:00:00:00:00:0a", ())
    assert first.routes == (Route("0.0.0.0/0", "192.0.2.1"),)
    assert second.routes == (Route("::/0", "2001:db8:2::1"),)
    assert (second.left_out, third.routes, third.left_out) == (("198.51.100.1",), (), ("fe80::1",))


def test_a_default_route_that_the_user_asked_for_wins_over_a_networks_gateway() -> None:
    first, second = cards_of((STATIC, replace(SECOND, routes=(replace(DEFAULT, gateway="198.51.100.2"),))))
    assert (first.routes, first.left_out) == ((), ("192.0.2.1",))
    assert second.routes == (Route("0.0.0.0/0", "198.51.100.2"),)
    assert second.left_out == ("198.51.100.1",)


def test_a_gateway_that_is_also_a_route_is_written_once() -> None:
    (card,) = cards_of((replace(STATIC, routes=(replace(DEFAULT, gateway="192.0.2.1"),)),))
    assert (card.routes, card.left_out) == ((Route("0.0.0.0/0", "192.0.2.1"),), ())


def test_metrics_tell_default_routes_apart() -> None:
    routes6 = (Route("::/0", "fe80::2", metric=100), Route("::/0", "fe80::3", metric=1024))
    first, second, third = cards_of(
        (
            replace(STATIC, addresses=("2001:db8::7/64",), gateway6="fe80::1"),
            replace(SECOND, gateway4=None, routes=(Route("0.0.0.0/0", "198.51.100.1", metric=200),)),
            replace(STATIC6, mac="02:00:00:00:00:03", gateway6=None, routes=routes6),
        )
    )
    # A metric that is not given is 1024 for IPv6.
    assert first.routes == (Route("0.0.0.0/0", "192.0.2.1"),)
    assert first.left_out == ("fe80::1",)
    assert second.routes == (Route("0.0.0.0/0", "198.51.100.1", metric=200),)
    assert third.routes == routes6


def test_routes_without_a_gateway_come_before_those_that_may_need_them() -> None:
    routes = (Route("10.9.0.0/16", "10.1.0.1"), Route("10.1.0.9/16"))
    (card,) = cards_of((replace(STATIC, gateway4=None, routes=routes),))
    assert card.routes == (Route("10.1.0.0/16"), Route("10.9.0.0/16", "10.1.0.1", on_link=True))


@pytest.mark.parametrize(
    ("nic", "message"),
    [
        (replace(STATIC, mac="02:00"), "is no MAC address"),
        (replace(STATIC, mac='02:00:00:00:00:01"\n'), "is no MAC address"),
        (replace(STATIC, address4="192.0.2.7/33"), "is no address with a prefix"),
        (replace(STATIC, address4="192.0.2.7/0"), "is no IPv4 address with a prefix"),
        (replace(STATIC, address4="2001:db8::7/64"), "is no IPv4 address with a prefix"),
        (replace(STATIC, address4=None), "is no address with a prefix"),
        (replace(STATIC, address4="192.0.2.256/24"), "is no address with a prefix"),
        (replace(STATIC, gateway4="192.0.2.1\nup reboot"), "is no IP address"),
        (replace(STATIC, gateway4="fe80::1"), "is no IPv4 address"),
        (replace(STATIC6, address6="2001:db8::7/129"), "is no address with a prefix"),
        (replace(STATIC6, address6="2001:db8::7"), "is no address with a prefix"),
        (replace(STATIC6, gateway6="fe80::1%eth0"), "is no IP address"),
        (replace(STATIC6, mtu=1000), "1000 is no MTU; give a number from 1280"),
        (replace(STATIC, mtu=65536), "is no MTU"),
        (replace(STATIC, mtu=-1), "is no MTU"),
        (replace(STATIC, addresses=("192.0.2.9/24\n",)), "is no address with a prefix"),
        (replace(STATIC, nameservers=("192.0.2.53\nsearch evil",)), "is no IP address"),
        (replace(STATIC, nameservers=("\ud800",)), "is no IP address"),
        (replace(STATIC, search=("a b",)), "is no search domain"),
        (replace(STATIC, search=("example.com\n",)), "is no search domain"),
        (replace(STATIC, search=("~.",)), "is no search domain"),
        (replace(STATIC, search=("a;b",)), "is no search domain"),
        (replace(STATIC, search=("",)), "is no search domain"),
        (replace(STATIC, search=("a" * 64,)), "is no search domain"),
        (replace(STATIC, search=("\N{KELVIN SIGN}.example.com",)), "is no search domain"),
        (replace(STATIC, routes=(Route("10.0.0.0"),)), "is no destination"),
        (replace(STATIC, routes=(Route("default", "192.0.2.1"),)), "is no destination"),
        (replace(STATIC, routes=(Route("10.0.0.0/8", "fe80::1"),)), "is no IPv4 address"),
        (replace(STATIC, routes=(Route("10.0.0.0/8", metric=-1),)), "is no metric"),
        (replace(STATIC, routes=(Route("10.0.0.0/8", metric=1 << 32),)), "is no metric"),
        (replace(STATIC, routes=(Route("2001:db8::/32"),)), "needs an IPv6 address"),
    ],
)
def test_an_impossible_card_is_refused(nic: Nic, message: str) -> None:
    with pytest.raises(GuestError, match=f"NIC 0: .*{message}"):
        cards_of((nic,))


def test_two_cards_with_one_address_are_refused() -> None:
    with pytest.raises(GuestError, match="NIC 1: the MAC address"):
        cards_of((STATIC, STATIC))


PLACES: tuple[Callable[[str], Nic], ...] = (
    lambda text: replace(STATIC, mac=text),
    lambda text: replace(STATIC, address4=text),
    lambda text: replace(STATIC, gateway4=text),
    lambda text: replace(STATIC6, address6=text),
    lambda text: replace(STATIC6, gateway6=text),
    lambda text: replace(STATIC, addresses=(text,)),
    lambda text: replace(STATIC, nameservers=(text,)),
    lambda text: replace(STATIC, search=(text,)),
    lambda text: replace(STATIC, routes=(Route(text),)),
    lambda text: replace(STATIC, routes=(Route("10.0.0.0/8", text),)),
)
WORDS = st.sampled_from(("192.0.2.7", "2001:db8::7", "fe80::1", "/24", "/64", "example.com", MAC))


@given(st.lists(WORDS | st.text(max_size=2), max_size=4).map("".join), st.sampled_from(PLACES))
def test_no_text_with_odd_characters_is_let_through(text: str, place: Callable[[str], Nic]) -> None:
    try:
        cards_of((place(text),))
    except GuestError:
        return
    assert re.fullmatch(r"[0-9A-Za-z.:/_-]*", text)
