# SPDX-License-Identifier: GPL-2.0-or-later
"""SUSE's files, read as ifcfg(5), ifroute(5) and ifsysctl(5) of wicked say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from network_inputs import INPUTS, mac
from snf_image_helper.network import wicked
from snf_image_helper.network.cards import cards_of
from snf_image_helper.network.leftovers import UDEV_RULES
from snf_image_helper.network.rendering import Facts, Rendered
from snf_image_helper.tasks.configure_network import TASK
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic
from unit.helper.guest_trees import JOB, guest_in, perform, text
from unit.helper.network_rooms import NAMES, expected
from unit.helper.shell_files import sourced

D = wicked.DIRECTORY
# What BOOTPROTO has to ask for; addresses that are told are used beside each of them.
PROTOCOLS = {
    (Ipv4Method.DHCP, Ipv6Method.NONE): {"dhcp4"},
    (Ipv4Method.DHCP, Ipv6Method.STATIC): {"dhcp4"},
    (Ipv4Method.DHCP, Ipv6Method.SLAAC): {"dhcp4", "auto6"},
    (Ipv4Method.DHCP, Ipv6Method.SLAAC_DHCP): {"dhcp", "auto6"},
    (Ipv4Method.DHCP, Ipv6Method.DHCP): {"dhcp"},
    (None, Ipv6Method.SLAAC): {"auto6"},
    (None, Ipv6Method.SLAAC_DHCP): {"dhcp6", "auto6"},
    (None, Ipv6Method.DHCP): {"dhcp6"},
}


def routes(rendered: Rendered, name: str) -> dict[tuple[str, str | None], int | None]:
    """Destination, gateway, netmask, interface, options."""
    found: dict[tuple[str, str | None], int | None] = {}
    file = rendered.files.get(f"{D}/ifroute-{name}")
    for line in file.text.splitlines() if file else ():
        if not line.startswith("#"):
            to, via, mask, card, *options = line.split()
            assert (mask, card) == ("-", name)
            to = "default" if to in {"0.0.0.0/0", "::/0"} else to
            assert options[:1] in ([], ["metric"])
            found[to, None if via == "-" else via] = int(options[1]) if options else None
    return found


@pytest.mark.row(185)
@pytest.mark.parametrize("name", INPUTS)
def test_every_card_has_what_was_asked_for(name: str) -> None:
    nics = INPUTS[name]
    rendered, wanted = wicked.render(cards_of(nics), Facts()), expected(nics)
    for number, nic in enumerate(nics):
        card = f"eth{number}"
        values = sourced(rendered.files[f"{D}/ifcfg-{card}"].text)
        addresses = [value for key, value in values.items() if key.partition("_")[0] == "IPADDR"]
        assert sorted(addresses) == sorted(item for item in (nic.address4, nic.address6, *nic.addresses) if item)
        asked = PROTOCOLS.get((Ipv4Method.DHCP if nic.ipv4 is Ipv4Method.DHCP else None, nic.ipv6), {"static"})
        assert set(values["BOOTPROTO"].split("+")) == asked
        assert values.get("DHCLIENT6_MODE") == {Ipv6Method.DHCP: "managed", Ipv6Method.SLAAC_DHCP: "info"}.get(nic.ipv6)
        assert values["STARTMODE"] == ("auto" if wanted.cards[NAMES[number]].up else "off")
        assert values.get("MTU", "0") == str(nic.mtu)
        told = {place[:2]: metric for place, metric in wanted.routes.items() if place[2] == NAMES[number]}
        found = routes(rendered, card)
        assert {place: found[place] for place in told} == told
        assert {place for place in found if place[0] == "default"} <= told.keys()


@pytest.mark.parametrize(
    ("method", "accept", "autoconf"),
    [
        (Ipv6Method.NONE, 0, 0),
        (Ipv6Method.SLAAC, 1, 1),
        (Ipv6Method.SLAAC_DHCP, 1, 1),
        (Ipv6Method.DHCP, 1, 0),
    ],
)
def test_routers_are_heard_only_if_the_card_is_to_hear_them(method: Ipv6Method, accept: int, autoconf: int) -> None:
    nic = Nic(mac(1), ipv4=Ipv4Method.DHCP, ipv6=method)
    lines = wicked.render(cards_of([nic]), Facts()).files[f"{D}/ifsysctl-eth0"].text.splitlines()[1:]
    assert lines == [
        f"net.ipv6.conf.eth0.accept_ra = {accept}",
        f"net.ipv6.conf.eth0.autoconf = {autoconf}",
        "net.ipv6.conf.eth0.use_tempaddr = 0",
    ]


def test_a_gateway_elsewhere_gets_a_route_before_it_is_one() -> None:
    lines = wicked.render(cards_of(INPUTS["routed-far6"]), Facts()).files[f"{D}/ifroute-eth0"].text.splitlines()[1:]
    assert lines == [
        "192.0.2.1/32 - - eth0",
        "0.0.0.0/0 192.0.2.1 - eth0",
        "2001:db8::1/128 - - eth0",
        "::/0 2001:db8::1 - eth0",
    ]


def test_udev_gives_each_card_the_name_of_its_files() -> None:
    rules = wicked.render(cards_of(INPUTS["two-gateways"]), Facts(name="nic")).files[UDEV_RULES].text.splitlines()[1:]
    assert [line.rpartition("ATTR{address}==")[2].split(", ")[0] for line in rules] == [f'"{mac(1)}"', f'"{mac(2)}"']
    assert [line.rpartition(", ")[2] for line in rules] == ['NAME="nic0"', 'NAME="nic1"']


CONFIG = 'CHECK_DUPLICATE_IP="yes"\nNETCONFIG_DNS_POLICY=""\nNETCONFIG_DNS_STATIC_SERVERS="10.0.0.1"\n'
GUEST = {
    "/etc/os-release": 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\nVERSION_ID="15.6"\n',
    "/usr/lib/systemd/systemd": "",
    "/usr/sbin/wicked": "",
    "/usr/lib/systemd/system/wicked.service": "",
    "/etc/systemd/system/multi-user.target.wants/wicked.service": "",
    f"{D}/config": CONFIG,
    f"{D}/ifcfg-eth0": "BOOTPROTO='dhcp'\nSTARTMODE='auto'\n",
    f"{D}/ifcfg-lo": "IPADDR=127.0.0.1/8\n",
    f"{D}/routes": "default 10.0.0.1 - -\n",
}


@pytest.mark.image_row(71, 73)
@pytest.mark.root
def test_a_suse_guest_is_told_all_of_it_and_keeps_what_it_had(tmp_path: Path) -> None:
    nic = Nic(
        mac(1),
        ipv4=Ipv4Method.STATIC,
        address4="192.0.2.7/24",
        gateway4="192.0.2.1",
        nameservers=("192.0.2.54", "192.0.2.53"),
        search=("z.example", "a.example"),
    )
    with guest_in(tmp_path, GUEST) as guest:
        for _ in range(2):
            perform(TASK, guest, replace(JOB, nics=(nic,)))
            assert guest.list_directory(D) == (
                *(".ifcfg-eth0.snf-image-bak", ".routes.snf-image-bak", "config"),
                *("ifcfg-eth0", "ifcfg-lo", "ifroute-eth0", "ifsysctl-eth0"),
            )
            assert text(guest, f"{D}/config") == (
                'CHECK_DUPLICATE_IP="yes"\nNETCONFIG_DNS_POLICY="auto"\n'
                'NETCONFIG_DNS_STATIC_SERVERS="192.0.2.54 192.0.2.53"\n'
                'NETCONFIG_DNS_STATIC_SEARCHLIST="z.example a.example"\n'
            )
            assert not guest.exists("/etc/resolv.conf")


@pytest.mark.root
def test_name_servers_of_the_image_stay_where_none_are_given(tmp_path: Path) -> None:
    with guest_in(tmp_path, GUEST) as guest:
        perform(TASK, guest, replace(JOB, nics=(Nic(mac(1), ipv4=Ipv4Method.DHCP),)))
        assert text(guest, f"{D}/config") == CONFIG


@pytest.mark.root
def test_the_names_that_the_image_gave_to_cards_are_kept_beside_ours(tmp_path: Path) -> None:
    rule = 'SUBSYSTEM=="net", ATTR{address}=="52:54:00:00:00:01", NAME="eth0"\n'
    with guest_in(tmp_path, {**GUEST, UDEV_RULES: rule}) as guest:
        for number in (1, 2):
            perform(TASK, guest, replace(JOB, nics=(Nic(mac(number), ipv4=Ipv4Method.DHCP),)))
            assert text(guest, f"{UDEV_RULES}.snf-image-bak") == rule
            assert mac(number) in text(guest, UDEV_RULES)
