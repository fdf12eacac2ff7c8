# SPDX-License-Identifier: GPL-2.0-or-later
"""The decision for each network card, as a full matrix, and the card that Ganeti knows nothing of."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_host.configuration.settings import Settings
from snf_image_host.parameters.network_document import MAX_NICS
from snf_image_host.parameters.nics import nics_from_environment
from snf_image_shared.errors import RequestError
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic

SETTINGS = Settings(helper_dir=Path("/h"), image_dir=Path("/i"), run_dir=Path("/r"))
MAC = "aa:00:00:12:34:56"
TAGS = ("", "auto", "dhcp", "nfdhcpd", "dhcpv6", "stateful_dhcpv6", "stateless_dhcpv6", "other", "DHCP", "dhcp6")


def mac(index: int) -> str:
    """A card's own."""
    return f"aa:00:00:12:34:{0x56 + index:02x}"


def nics(*cards: dict[str, str], settings: Settings = SETTINGS) -> tuple[Nic, ...]:
    env = {"NIC_COUNT": str(len(cards))}
    for index, card in enumerate(cards):
        env |= {f"NIC_{index}_{name}": value for name, value in {"MAC": mac(index), **card}.items() if value}
    return nics_from_environment(env, settings)


def one(settings: Settings = SETTINGS, **card: str) -> Nic:
    """The decision for a card that stands beside a second one, so that no default applies."""
    return nics(card, {}, settings=settings)[0]


MATRIX = list(
    product(("", "192.0.2.7"), ("", "192.0.2.0/24"), ("", "192.0.2.1"), ("", "fe80::1"), ("", "2001:db8::/64"), TAGS)
)


@pytest.mark.row(175)
@pytest.mark.parametrize(("ip", "subnet", "gateway", "gateway6", "subnet6", "tag"), MATRIX)
def test_every_case_of_the_table(ip: str, subnet: str, gateway: str, gateway6: str, subnet6: str, tag: str) -> None:
    nic = one(
        IP=ip,
        NETWORK_SUBNET=subnet,
        NETWORK_GATEWAY=gateway,
        NETWORK_GATEWAY6=gateway6,
        NETWORK_SUBNET6=subnet6,
        NETWORK_TAGS=tag,
    )
    ipv4 = Ipv4Method.STATIC
    if not ip:
        ipv4 = Ipv4Method.NONE
    elif not subnet or tag in {"auto", "dhcp", "nfdhcpd"}:
        ipv4 = Ipv4Method.DHCP
    ipv6 = Ipv6Method.NONE
    if gateway6:
        ipv6 = {
            "dhcpv6": Ipv6Method.DHCP,
            "stateful_dhcpv6": Ipv6Method.DHCP,
            "nfdhcpd": Ipv6Method.SLAAC_DHCP,
            "stateless_dhcpv6": Ipv6Method.SLAAC_DHCP,
        }.get(tag, Ipv6Method.SLAAC)
    static = ipv4 is Ipv4Method.STATIC
    assert nic == Nic(
        MAC,
        ipv4=ipv4,
        address4="192.0.2.7/24" if static else None,
        gateway4=(gateway or None) if static else None,
        ipv6=ipv6,
    )


@pytest.mark.row(175)
@pytest.mark.parametrize("tags", ["dhcpv6 nfdhcpd", "nfdhcpd dhcpv6", "stateless_dhcpv6 x stateful_dhcpv6"])
def test_stateful_wins_in_whatever_order_a_network_carries_both_kinds_of_tag(tags: str) -> None:
    assert one(NETWORK_GATEWAY6="fe80::1", NETWORK_TAGS=tags).ipv6 is Ipv6Method.DHCP


@pytest.mark.row(176)
def test_the_administrator_names_the_tags() -> None:
    settings = SETTINGS.model_copy(
        update={"dhcp_tags": "red", "stateful_dhcpv6_tags": "green", "stateless_dhcpv6_tags": "blue gold"}
    )
    full = {"IP": "192.0.2.7", "NETWORK_SUBNET": "192.0.2.0/24", "NETWORK_GATEWAY6": "fe80::1"}
    assert one(settings, **full, NETWORK_TAGS="dhcp dhcpv6").ipv4 is Ipv4Method.STATIC
    assert one(settings, **full, NETWORK_TAGS="dhcp dhcpv6").ipv6 is Ipv6Method.SLAAC
    assert one(settings, **full, NETWORK_TAGS="x red").ipv4 is Ipv4Method.DHCP
    assert one(settings, **full, NETWORK_TAGS="green").ipv6 is Ipv6Method.DHCP
    assert one(settings, **full, NETWORK_TAGS="gold").ipv6 is Ipv6Method.SLAAC_DHCP


DEFAULTS = {
    "": (Ipv4Method.NONE, Ipv6Method.NONE),
    "dhcp": (Ipv4Method.DHCP, Ipv6Method.NONE),
    "dhcpv6": (Ipv4Method.NONE, Ipv6Method.DHCP),
    "slaac": (Ipv4Method.NONE, Ipv6Method.SLAAC),
    "slaac_dhcp": (Ipv4Method.NONE, Ipv6Method.SLAAC_DHCP),
    "dhcp+dhcpv6": (Ipv4Method.DHCP, Ipv6Method.DHCP),
    "dhcp+slaac": (Ipv4Method.DHCP, Ipv6Method.SLAAC),
    "dhcp+slaac_dhcp": (Ipv4Method.DHCP, Ipv6Method.SLAAC_DHCP),
}


@pytest.mark.row(177)
@pytest.mark.parametrize("default", DEFAULTS)
def test_an_only_card_that_nothing_is_known_of_gets_the_default(default: str) -> None:
    settings = SETTINGS.model_copy(update={"default_nic_config": default})
    (nic,) = nics({"FRONTEND_TYPE": "paravirtual"}, settings=settings)
    assert (nic.ipv4, nic.ipv6) == DEFAULTS[default]
    assert (nic.mac, nic.model, nic.address4) == (MAC, "paravirtual", None)


@pytest.mark.row(177)
@pytest.mark.parametrize("known", [{"IP": "192.0.2.7"}, {"NETWORK_GATEWAY6": "fe80::1"}])
def test_an_only_card_that_something_is_known_of_gets_no_default(known: dict[str, str]) -> None:
    settings = SETTINGS.model_copy(update={"default_nic_config": "dhcp+dhcpv6"})
    (nic,) = nics(known, settings=settings)
    assert (nic.ipv4, nic.ipv6) != DEFAULTS["dhcp+dhcpv6"]


@pytest.mark.row(177)
def test_two_cards_that_nothing_is_known_of_stay_without_an_address() -> None:
    assert nics({}, {}) == (Nic(MAC), Nic(mac(1)))


def test_no_card_is_no_card() -> None:
    assert nics_from_environment({}, SETTINGS) == nics_from_environment({"NIC_COUNT": "0"}, SETTINGS) == ()


@pytest.mark.row(178)
def test_seven_cards_of_all_kinds_are_each_decided_alone_and_in_order() -> None:
    subnet = {"NETWORK_SUBNET": "198.51.100.0/25", "NETWORK_GATEWAY": "198.51.100.1"}
    found = nics(
        {"IP": "198.51.100.3", **subnet},
        {"IP": "198.51.100.4", **subnet, "NETWORK_TAGS": "dhcp"},
        {"IP": "198.51.100.5"},
        {"NETWORK_GATEWAY6": "fe80::1"},
        {"NETWORK_GATEWAY6": "fe80::1", "NETWORK_TAGS": "nfdhcpd"},
        {"IP": "198.51.100.6", **subnet, "NETWORK_GATEWAY6": "fe80::1", "NETWORK_TAGS": "nfdhcpd dhcpv6"},
        {"NETWORK_SUBNET6": "2001:db8::/64"},
    )
    static = Nic(MAC, ipv4=Ipv4Method.STATIC, address4="198.51.100.3/25", gateway4="198.51.100.1")
    assert found == (
        static,
        Nic(mac(1), ipv4=Ipv4Method.DHCP),
        Nic(mac(2), ipv4=Ipv4Method.DHCP),
        Nic(mac(3), ipv6=Ipv6Method.SLAAC),
        Nic(mac(4), ipv6=Ipv6Method.SLAAC_DHCP),
        Nic(mac(5), ipv4=Ipv4Method.DHCP, ipv6=Ipv6Method.DHCP),
        Nic(mac(6)),
    )


def test_a_gateway_outside_the_subnet_is_kept_for_the_renderer() -> None:
    nic = one(IP="192.0.2.7", NETWORK_SUBNET="192.0.2.7/32", NETWORK_GATEWAY="10.0.0.1")
    assert (nic.address4, nic.gateway4) == ("192.0.2.7/32", "10.0.0.1")


def test_a_hardware_address_is_taken_in_any_case() -> None:
    assert one(MAC="AA:BB:CC:00:11:22").mac == "aa:bb:cc:00:11:22"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(
            ("MAC", mac)
            for mac in ("x", "aa:00:00:12:34", f"{MAC}:00", f"{MAC}\n", "aa-00-00-12-34-56", "../../x", "#")
        ),
        *(
            ("IP", ip)
            for ip in ("192.0.2", "192.0.2.256", "192.0.2.7/24", "192.0.2.7\n", "2001:db8::1", "1 # x", "١.1.1.1")
        ),
        *(("NETWORK_SUBNET", net) for net in ("192.0.2.0/33", "x", "2001:db8::/64", "192.0.2.0/24\n", "!!python/x")),
        *(("NETWORK_GATEWAY", ip) for ip in ("x", "fe80::1", "192.0.2.1\nauto eth1", "192.0.2.1 dev lo")),
    ],
)
def test_what_is_no_address_is_refused_by_its_variable(variable: str, value: str) -> None:
    card = {"IP": "192.0.2.7", "NETWORK_SUBNET": "192.0.2.0/24", "NETWORK_GATEWAY": "192.0.2.1", variable: value}
    with pytest.raises(RequestError, match=f"^NIC_1_{variable}: "):
        nics({}, card)


@pytest.mark.parametrize("again", [MAC, MAC.upper()])
def test_a_hardware_address_that_another_card_has_is_refused(again: str) -> None:
    with pytest.raises(RequestError, match=rf"^NIC_2_MAC: {MAC} is that of NIC 0, too; "):
        nics({}, {}, {"MAC": again})


def test_a_card_without_a_hardware_address_is_refused() -> None:
    with pytest.raises(RequestError, match=r"^NIC_0_MAC: "):
        nics_from_environment({"NIC_COUNT": "1"}, SETTINGS)


@pytest.mark.parametrize("count", ["-1", "x", "1.0", " 1", "²", str(MAX_NICS + 1), "9" * 5000])
def test_a_count_that_is_no_small_number_is_refused(count: str) -> None:
    with pytest.raises(RequestError, match=r"^NIC_COUNT: ") as caught:
        nics_from_environment({"NIC_COUNT": count}, SETTINGS)
    assert len(str(caught.value)) < 100


VARIABLES = ("IP", "NETWORK_SUBNET", "NETWORK_GATEWAY", "NETWORK_GATEWAY6", "NETWORK_TAGS", "MAC", "FRONTEND_TYPE")


@given(st.dictionaries(st.sampled_from(VARIABLES), st.text() | st.sampled_from(("192.0.2.7", "192.0.2.0/24", "dhcp"))))
def test_whatever_the_variables_hold_the_address_is_set_exactly_for_static(card: dict[str, str]) -> None:
    try:
        nic = nics(card, {})[0]
    except RequestError:
        return
    assert (nic.address4 is not None) == (nic.ipv4 is Ipv4Method.STATIC)
