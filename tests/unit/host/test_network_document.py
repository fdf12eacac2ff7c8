# SPDX-License-Identifier: GPL-2.0-or-later
"""The network document: what a person types becomes a card's configuration, or a line that names the place."""

from __future__ import annotations

import ipaddress
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from snf_image_helper.network.cards import cards_of
from snf_image_host.parameters.network_document import configured, parse_network
from snf_image_host.parameters.schemas import published
from snf_image_shared.errors import RequestError
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic, Route

MAC = "aa:00:00:12:34:56"
OTHER = "aa:00:00:12:34:57"
STATIC = Nic(MAC, "paravirtual", Ipv4Method.STATIC, "198.51.100.3/24", "198.51.100.1", Ipv6Method.SLAAC)
IDLE = Nic(OTHER)


def applied(*entries: object, nics: tuple[Nic, ...] = (STATIC, IDLE)) -> tuple[Nic, ...]:
    return configured(nics, parse_network(json.dumps({"nics": entries})))


def one(**members: object) -> Nic:
    """The first card with these members in its entry."""
    return applied({"index": 0, **members})[0]


def faults(document: object, *, nics: tuple[Nic, ...] | None = None) -> tuple[str, ...]:
    """The lines about a document; with `nics`, those that only show beside Ganeti's cards."""
    with pytest.raises(RequestError) as caught:
        parsed = parse_network(document if isinstance(document, str) else json.dumps(document))
        if nics is not None:
            configured(nics, parsed)
    return caught.value.lines


def test_everything_that_a_card_can_be_told() -> None:
    nic = one(
        addresses=["192.0.2.7/24", "2001:DB8::7/64", "192.0.2.8/24", "2001:db8::8/64"],
        gateway4="192.0.2.1",
        gateway6="fe80::1",
        dns=["192.0.2.53", "2001:db8::53"],
        search=["example.com", "Example-1.org"],
        mtu=1450,
        routes=[
            {"to": "10.0.0.0/8", "via": "192.0.2.254"},
            {"to": "203.0.113.0/24", "via": "203.0.113.1", "on_link": True, "metric": 5},
            {"to": "2001:db8:1::/48"},
            {"to": "default", "via": "2001:db8::1", "metric": 9},
            {"to": "default", "via": "192.0.2.2", "metric": 9},
        ],
    )
    assert nic == Nic(
        MAC,
        "paravirtual",
        Ipv4Method.STATIC,
        "192.0.2.7/24",
        "192.0.2.1",
        Ipv6Method.STATIC,
        "2001:db8::7/64",
        "fe80::1",
        ("192.0.2.8/24", "2001:db8::8/64"),
        (
            Route("10.0.0.0/8", "192.0.2.254"),
            Route("203.0.113.0/24", "203.0.113.1", True, 5),
            Route("2001:db8:1::/48"),
            Route("::/0", "2001:db8::1", False, 9),
            Route("0.0.0.0/0", "192.0.2.2", False, 9),
        ),
        ("192.0.2.53", "2001:db8::53"),
        ("example.com", "Example-1.org"),
        1450,
    )


def test_what_is_not_mentioned_stays_as_ganeti_says() -> None:
    assert applied() == (STATIC, IDLE)
    assert configured((STATIC, IDLE), None) == (STATIC, IDLE)
    assert one() == STATIC
    assert applied({"mac": OTHER.upper(), "mtu": 9000})[0] == STATIC


def test_a_card_is_found_by_its_address_or_its_index() -> None:
    by_mac = applied({"mac": OTHER.upper(), "ipv4": "dhcp"})
    assert by_mac == applied({"index": 1, "ipv4": "dhcp"})
    assert by_mac == (STATIC, Nic(OTHER, ipv4=Ipv4Method.DHCP))


@pytest.mark.parametrize(("word", "method"), [(method.value, method) for method in Ipv4Method if method != "static"])
def test_each_way_to_an_ipv4_address_replaces_ganetis_and_leaves_ipv6_alone(word: str, method: Ipv4Method) -> None:
    assert one(ipv4=word) == Nic(MAC, "paravirtual", method, ipv6=Ipv6Method.SLAAC)


@pytest.mark.parametrize(("word", "method"), [(method.value, method) for method in Ipv6Method if method != "static"])
def test_each_way_to_an_ipv6_address_replaces_ganetis_and_leaves_ipv4_alone(word: str, method: Ipv6Method) -> None:
    nic = one(ipv6=word)
    assert (nic.ipv6, nic.address4, nic.gateway4) == (method, STATIC.address4, STATIC.gateway4)


def test_an_address_makes_its_family_static_and_drops_ganetis_gateway() -> None:
    nic = one(addresses=["192.0.2.7/32"])
    assert (nic.ipv4, nic.address4, nic.gateway4, nic.ipv6) == (
        Ipv4Method.STATIC,
        "192.0.2.7/32",
        None,
        Ipv6Method.SLAAC,
    )


def test_addresses_beside_dhcp_or_slaac_are_further_ones() -> None:
    nic = one(ipv4="dhcp", ipv6="slaac_dhcp", addresses=["192.0.2.7/24", "2001:db8::7/64"])
    assert (nic.address4, nic.address6, nic.addresses) == (None, None, ("192.0.2.7/24", "2001:db8::7/64"))


def test_a_gateway_alone_replaces_that_of_ganetis_address() -> None:
    assert one(gateway4="10.9.8.7") == Nic(
        MAC, "paravirtual", Ipv4Method.STATIC, "198.51.100.3/24", "10.9.8.7", Ipv6Method.SLAAC
    )


NO_TEXTS: tuple[object, ...] = (1, None, True, [], {}, 3232235777)
WRONG_MEMBERS: list[tuple[str, object, str]] = [
    # what no address is
    *(("addresses", [text], "addresses[0]") for text in ("192.0.2.7", "x", "", "192.0.2.7/33", "192.0.2.7/-1", "/24")),
    *(("addresses", [text], "addresses[0]") for text in ("192.0.2.7/255.255.255.0", "2001:db8::7", "2001:db8::7/129")),
    *(
        ("addresses", [text], "addresses[0]")
        for text in ("fe80::1%eth0/64", "fe80::1%\npost-up id/64", " 192.0.2.7/24")
    ),
    *(("addresses", [text], "addresses[0]") for text in ("١٩٢.0.2.7/24", "192.0.2.7/24\n", "192.0.2.07/24", "1/2/3")),
    # addresses that no card can have
    *(("addresses", [text], "addresses[0]") for text in ("192.0.2.0/24", "192.0.2.255/24", "192.0.2.7/0")),
    *(("addresses", [text], "addresses[0]") for text in ("2001:db8::/64", "::1/128", "::/0", "ff02::1/64")),
    *(("addresses", [text], "addresses[0]") for text in ("127.0.0.1/8", "224.0.0.1/24", "0.1.2.3/24")),
    *(("addresses", [text], "addresses[0]") for text in ("255.255.255.255/32", "::ffff:192.0.2.7/120")),
    *(("addresses", [value], "addresses[0]") for value in NO_TEXTS),
    ("addresses", ["192.0.2.7/24", "192.0.2.8/24", "192.0.2.7/25"], "addresses[2]"),
    ("addresses", "192.0.2.7/24", "addresses"),
    ("addresses", [f"10.0.0.{n}/32" for n in range(1, 66)], "addresses"),
    # gateways
    *(("gateway4", text, "gateway4") for text in ("x", "fe80::1", "192.0.2.1/24", "0.0.0.0", "224.0.0.1", 1, "")),
    *(("gateway6", text, "gateway6") for text in ("192.0.2.1", "fe80::1%eth0", "ff02::1", "::", "::ffff:1.2.3.4")),
    *(("ipv4", word, "ipv4") for word in ("slaac", "DHCP", "", 4, True, "static")),
    *(("ipv6", word, "ipv6") for word in ("auto", "", 6, "static")),
    # servers and domains
    *(("dns", [text], "dns[0]") for text in ("x", "192.0.2.53/24", "0.0.0.0", "fe80::1%1", "192.0.2.53 # x", 53)),
    ("dns", ["192.0.2.53", "192.0.2.53"], "dns[1]"),
    *(("search", [text], "search[0]") for text in ("", ".", "a..b", "-a", "a-", "a b", "a\nb", "a_b", "~a", "$(id)")),
    *(("search", [text], "search[0]") for text in ("ä.example", "x" * 64, ".".join(["x" * 60] * 5), "a.", "a\x00", 1)),
    ("search", ["a.example", "a.example"], "search[1]"),
    # MTU
    *(("mtu", number, "mtu") for number in (0, -1, 575, 65536, 10**30, "1500", 1500.0, True, [1500])),
    ("unknown", 1, "unknown"),
]


@pytest.mark.parametrize(("member", "value", "where"), WRONG_MEMBERS, ids=repr)
def test_a_wrong_member_is_named_by_its_place(member: str, value: object, where: str) -> None:
    lines = faults({"nics": [{"index": 1}, {"index": 0, member: value}]})
    assert [line.partition(": ")[0] for line in lines] == [f"nics[1].{where}"]
    assert all(line.isprintable() and len(line) < 250 for line in lines)


WRONG_ROUTES: list[tuple[object, str]] = [
    ({}, "to"),
    *(({"to": to}, "to") for to in ("10.0.0.1/8", "10.0.0.0", "x", "", "DEFAULT", "default\n", "fe80::%1/64", 5, None)),
    ({"to": "default"}, "via"),
    ({"to": "10.0.0.0/8", "via": "2001:db8::1"}, "via"),
    ({"to": "10.0.0.0/8", "via": "192.0.2.7"}, "via"),
    ({"to": "10.0.0.0/8", "via": "192.0.3.1"}, "via"),
    ({"to": "10.0.0.0/8", "via": "192.0.2.255"}, "via"),
    ({"to": "10.0.0.0/8", "via": "x"}, "via"),
    ({"to": "10.0.0.0/8", "on_link": True}, "on_link"),
    ({"to": "10.0.0.0/8", "on_link": "yes"}, "on_link"),
    *(({"to": "10.0.0.0/8", "metric": metric}, "metric") for metric in (-1, 2**32, "1", 1.5, True)),
    ({"to": "default", "via": "192.0.2.2"}, "to"),
    ({"to": "0.0.0.0/0", "via": "192.0.2.2"}, "to"),
    ({"to": "198.51.100.0/24", "via": "192.0.2.2"}, "to"),
    ({"to": "10.0.0.0/8", "table": 1}, "table"),
]


@pytest.mark.parametrize(("route", "where"), WRONG_ROUTES, ids=repr)
def test_a_wrong_route_is_named_by_its_place(route: object, where: str) -> None:
    first = {"to": "198.51.100.0/24", "via": "192.0.2.3"}
    card = {"index": 0, "addresses": ["192.0.2.7/24"], "gateway4": "192.0.2.1", "routes": [first, route]}
    assert [line.partition(": ")[0] for line in faults({"nics": [card]})] == [f"nics[0].routes[1].{where}"]


@pytest.mark.parametrize(
    ("members", "where"),
    [
        ({"ipv4": "none", "addresses": ["192.0.2.7/24"]}, "ipv4"),
        ({"ipv6": "none", "addresses": ["2001:db8::7/64"]}, "ipv6"),
        ({"ipv4": "static", "addresses": ["2001:db8::7/64"]}, "ipv4"),
        ({"ipv4": "dhcp", "gateway4": "192.0.2.1"}, "gateway4"),
        ({"ipv4": "none", "gateway4": "192.0.2.1"}, "gateway4"),
        ({"ipv6": "slaac", "gateway6": "fe80::1"}, "gateway6"),
        ({"addresses": ["192.0.2.7/24"], "gateway4": "192.0.2.7"}, "gateway4"),
        ({"addresses": ["192.0.2.7/24"], "gateway4": "192.0.2.255"}, "gateway4"),
        ({"addresses": ["192.0.2.7/24"], "gateway4": "192.0.2.0"}, "gateway4"),
        ({"addresses": ["2001:db8::7/64"], "mtu": 1279}, "mtu"),
        ({"ipv6": "slaac", "mtu": 1279}, "mtu"),
    ],
    ids=repr,
)
def test_members_that_do_not_go_together_are_named(members: dict[str, object], where: str) -> None:
    assert [line.partition(": ")[0] for line in faults({"nics": [{"index": 0, **members}]})] == [f"nics[0].{where}"]


@pytest.mark.parametrize(
    ("entries", "where"),
    [
        ([{}], "nics[0]"),
        ([{"index": 0, "mac": MAC}], "nics[0]"),
        ([{"index": -1}], "nics[0].index"),
        ([{"index": 64}], "nics[0].index"),
        ([{"index": "0"}], "nics[0].index"),
        ([{"index": True}], "nics[0].index"),
        ([{"mac": "aa-00-00-12-34-56"}], "nics[0].mac"),
        ([{"mac": f"{MAC}\n"}], "nics[0].mac"),
        ([{"index": 0}, {"index": 0}], "nics[1]"),
        ([{"mac": MAC}, {"mac": MAC.upper()}], "nics[1]"),
        (
            [{"index": 0, "addresses": ["192.0.2.7/24"]}, {"index": 1, "addresses": ["192.0.2.7/25"]}],
            "nics[1].addresses[0]",
        ),
        ([5], "nics[0]"),
    ],
    ids=repr,
)
def test_a_wrong_choice_of_cards_is_named(entries: list[object], where: str) -> None:
    assert [line.partition(": ")[0] for line in faults({"nics": entries})] == [where]


@pytest.mark.parametrize(
    ("entries", "where"),
    [
        ([{"index": 2}], "nics[0]"),
        ([{"mac": "aa:00:00:00:00:00"}], "nics[0]"),
        ([{"index": 0}, {"mac": MAC}], "nics[1]"),
        ([{"index": 1, "gateway4": "192.0.2.1"}], "nics[0].gateway4"),
        ([{"index": 0, "gateway6": "fe80::1"}], "nics[0].gateway6"),
        ([{"index": 0, "mtu": 1279}], "nics[0].mtu"),
    ],
    ids=repr,
)
def test_what_does_not_fit_the_instance_is_named(entries: list[object], where: str) -> None:
    found = faults({"nics": entries}, nics=(STATIC, IDLE))
    assert [line.partition(": ")[0] for line in found] == [where]


def test_every_fault_of_a_document_is_told_at_once() -> None:
    card = {"index": 0, "mtu": 1, "addresses": ["x", "192.0.2.7/24", "y"], "foo": 1}
    assert len(faults({"nics": [card, {"index": 1, "dns": ["z"]}]})) == 5
    flood = faults({"nics": [{"index": 0, "dns": ["x"] * 60}]})
    assert (len(flood), flood[-1]) == (13, "and 48 faults more")


@pytest.mark.parametrize(
    "text", ["x", "[]", "5", "null", "{}", '{"nics": 1}', '{"nics": [], "nics": []}', "[" * 100_000, '{"nics": NaN}']
)
def test_what_is_no_document_is_refused(text: str) -> None:
    assert faults(text)


def test_an_empty_text_is_no_document() -> None:
    assert parse_network("") is None


# Pieces that are nearly right lead further into the code than mere noise does.
TEXTS = (
    st.text(max_size=20)
    | st.sampled_from(
        (
            "192.0.2.7/24",
            "2001:db8::7/64",
            "192.0.2.1",
            "fe80::1",
            "default",
            "10.0.0.0/8",
            "::/0",
            "dhcp",
            "static",
            MAC,
        )
    )
    | st.sampled_from(("example.com", "a\nb", "$(id)", "fe80::1%\n/64", "0.0.0.0/0", "", "none", "slaac"))
)
SCALARS = TEXTS | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False)
ROUTES = st.dictionaries(st.sampled_from(("to", "via", "on_link", "metric")), SCALARS, max_size=4)
MEMBERS = {
    "index": st.integers(0, 2) | SCALARS,
    "mac": SCALARS,
    "ipv4": TEXTS,
    "ipv6": TEXTS,
    "gateway4": TEXTS,
    "gateway6": TEXTS,
    "mtu": st.integers(0, 70_000) | SCALARS,
    **dict.fromkeys(("addresses", "dns", "search"), st.lists(TEXTS, max_size=4) | SCALARS),
    "routes": st.lists(ROUTES, max_size=3) | SCALARS,
}
SCHEMA = Draft202012Validator(json.loads(published()["network.json"]))
DOCUMENTS = st.fixed_dictionaries(
    {"nics": st.lists(st.fixed_dictionaries({}, optional=MEMBERS) | SCALARS, max_size=3) | SCALARS}
)


@given(DOCUMENTS)
def test_what_is_taken_is_right_by_the_published_schema_as_well(document: object) -> None:
    try:
        parse_network(json.dumps(document))
    except RequestError:
        return
    SCHEMA.validate(document)


@pytest.mark.parametrize("member", ["unknown", "mtu", "ipv4", "addresses", "index", "routes", "dns"])
def test_what_has_a_wrong_form_is_wrong_by_the_published_schema_as_well(member: str) -> None:
    assert SCHEMA.is_valid({"nics": [{"index": 0}]})
    assert not SCHEMA.is_valid({"nics": [{"index": 0, member: "x"}]})


@given(DOCUMENTS | st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)))
def test_whatever_is_typed_gives_cards_that_are_sound_or_lines_that_can_be_shown(document: object) -> None:
    try:
        nics = configured((STATIC, IDLE), parse_network(json.dumps(document)))
    except RequestError as error:
        assert error.lines
        assert all(line and "\n" not in line for line in error.lines)
        return
    for nic in nics:
        assert (nic.address4 is not None) == (nic.ipv4 is Ipv4Method.STATIC)
        assert (nic.address6 is not None) == (nic.ipv6 is Ipv6Method.STATIC)
        for text in filter(None, (nic.address4, nic.address6, *nic.addresses)):
            assert str(ipaddress.ip_interface(text)) == text
            assert "%" not in text
        for text in filter(None, (nic.gateway4, nic.gateway6, *nic.nameservers)):
            assert str(ipaddress.ip_address(text)) == text
            assert "%" not in text
        assert all(re.fullmatch(r"[A-Za-z0-9.-]{1,253}", domain) for domain in nic.search)
        assert nic.mtu == 0 or 576 <= nic.mtu <= 65535
    # What the helper refuses would be told only after the disk has been written.
    assert len(cards_of(nics)) == len(nics)


@pytest.mark.parametrize(
    ("family", "entry"),
    [
        (4, {"routes": [{"to": "10.0.0.0/8", "via": "10.1.1.1", "on_link": True}]}),
        (4, {"ipv4": "none", "addresses": ["2001:db8::7/64"], "routes": [{"to": "10.0.0.0/8"}]}),
        (6, {"routes": [{"to": "default", "via": "fe80::1"}]}),
        (6, {"ipv4": "dhcp", "routes": [{"to": "2001:db8::/32", "via": "fe80::1"}]}),
    ],
)
def test_a_route_needs_a_card_that_has_its_family(family: int, entry: dict[str, object]) -> None:
    (line,) = faults({"nics": [{"index": 1, **entry}]}, nics=(STATIC, IDLE))
    assert line.startswith(f"nics[0].routes[0]: the card has no IPv{family};")
    assert one(routes=[{"to": "2001:db8:1::/48", "via": "fe80::1"}]).routes  # SLAAC gives an address


@given(st.text())
def test_whatever_text_is_given_it_is_read_or_refused(text: str) -> None:
    try:
        parse_network(text)
    except RequestError as error:
        assert error.lines
