# SPDX-License-Identifier: GPL-2.0-or-later
"""Red Hat's files, read as sysconfig.txt of initscripts says, their variables by a shell."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from network_inputs import INPUTS, mac
from snf_image_helper.network import Renderer, decide, ifcfg
from snf_image_helper.network.cards import cards_of
from snf_image_helper.network.rendering import Facts, Rendered
from snf_image_helper.tasks.configure_network import TASK
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic
from snf_image_shared.properties import Properties
from unit.helper.guest_trees import JOB, guest_in, perform, text
from unit.helper.network_rooms import NAMES, expected
from unit.helper.shell_files import sourced

SCRIPTS, MANAGED = "scripts", ifcfg.NETWORKMANAGER


@dataclass
class Read:
    """What is meant for one card."""

    variables: dict[str, str]
    addresses: set[str] = field(default_factory=set)
    routes: dict[tuple[str, str | None], int | None] = field(default_factory=dict)


def read(rendered: Rendered, name: str, backend: str) -> Read:
    """All that the card's files say, as the one or the other software takes it."""
    directory = ifcfg.DIRECTORY
    found = Read(sourced(rendered.files[f"{directory}/ifcfg-{name}"].text))
    values = found.variables
    if backend == MANAGED or values["BOOTPROTO"] == "none":
        found.addresses |= set(ipv4(values))
    for path, file in rendered.files.items():
        if path.startswith(f"{directory}/ifcfg-{name}:"):
            alias = sourced(file.text)
            assert (alias["DEVICE"], alias["ONPARENT"]) == (path.partition("ifcfg-")[2], "yes")
            found.addresses |= set(ipv4(alias))
    found.addresses |= {values.get("IPV6ADDR", ""), *values.get("IPV6ADDR_SECONDARIES", "").split()} - {""}
    for gateway, metric in (("GATEWAY", "IPV4_ROUTE_METRIC"), ("IPV6_DEFAULTGW", "IPV6_ROUTE_METRIC")):
        if gateway in values:
            found.routes["default", values[gateway]] = int(values[metric]) if metric in values else None
    for kind in ("route", "route6"):
        if routes := rendered.files.get(f"{directory}/{kind}-{name}"):
            for line in routes.text.splitlines():
                found.routes.update(route(line, values, backend))
    return found


def ipv4(values: Mapping[str, str]) -> Sequence[str]:
    return [
        f"{values[f'IPADDR{number}']}/{values[f'PREFIX{number}']}"
        for number in ("", *range(256))
        if f"IPADDR{number}" in values
    ]


def route(line: str, values: Mapping[str, str], backend: str) -> dict[tuple[str, str | None], int | None]:
    """Arguments of "ip route add": for the scripts whole, for NetworkManager without a card and without defaults."""
    words = line.split()
    if words[0] == "#":
        return {}
    options = dict(zip(words[1::2], words[2::2], strict=False))
    to = "default" if words[0] in {"0.0.0.0/0", "::/0"} else words[0]
    if backend == MANAGED:
        assert to != "default"
        assert "dev" not in options
    else:
        assert options["dev"] == values["DEVICE"]
    return {(to, options.get("via")): int(options["metric"]) if "metric" in options else None}


@pytest.mark.row(180, 185)
@pytest.mark.parametrize("backend", [SCRIPTS, MANAGED])
@pytest.mark.parametrize("name", INPUTS)
def test_every_card_has_what_was_asked_for(name: str, backend: str) -> None:
    nics = INPUTS[name]
    rendered = ifcfg.render(cards_of(nics), Facts(backend=backend))
    wanted = expected(nics)
    for number, nic in enumerate(nics):
        found = read(rendered, f"eth{number}", backend)
        assert found.addresses == {item for item in (nic.address4, nic.address6, *nic.addresses) if item}
        routes = {place[:2]: metric for place, metric in wanted.routes.items() if place[2] == NAMES[number]}
        assert {place: found.routes[place] for place in routes} == routes
        assert {place for place in found.routes if place[0] == "default"} <= routes.keys()
        assert found.variables["HWADDR"] == nic.mac.upper()
        assert found.variables["ONBOOT"] == ("yes" if wanted.cards[NAMES[number]].up else "no")
        assert found.variables["BOOTPROTO"] == ("dhcp" if nic.ipv4 is Ipv4Method.DHCP else "none")
        assert found.variables.get("MTU", "0") == str(nic.mtu)
        assert [found.variables.get("DHCPV6C"), found.variables.get("DHCPV6C_OPTIONS")] == {
            Ipv6Method.DHCP: ["yes", None],
            Ipv6Method.SLAAC_DHCP: ["yes", "-S"],
        }.get(nic.ipv6, [None, None])
        listens = nic.ipv6 in {Ipv6Method.SLAAC, Ipv6Method.SLAAC_DHCP, Ipv6Method.DHCP}
        assert found.variables["IPV6_AUTOCONF"] == ("yes" if listens else "no")


@pytest.mark.image_row(75)
@pytest.mark.parametrize("name", INPUTS)
def test_the_scripts_do_not_get_a_gateway_that_they_would_ignore(name: str) -> None:
    # ifup-eth compares it with the network of the first address; ifup-ipv6 does not say on which card it is.
    rendered = ifcfg.render(cards_of(INPUTS[name]), Facts(backend=SCRIPTS))
    for number in range(len(INPUTS[name])):
        values = sourced(rendered.files[f"{ifcfg.DIRECTORY}/ifcfg-eth{number}"].text)
        if "GATEWAY" in values:
            network = ipaddress.ip_interface(f"{values['IPADDR']}/{values['PREFIX']}").network
            assert ipaddress.ip_address(values["GATEWAY"]) in network
        if "IPV6_DEFAULTGW" in values:
            network6 = ipaddress.ip_interface(values["IPV6ADDR"]).network
            assert ipaddress.ip_address(values["IPV6_DEFAULTGW"]) in network6


def test_the_scripts_find_a_gateway_in_a_further_network_of_the_card_in_a_file_of_routes() -> None:
    nic = replace(STATIC, addresses=("10.0.0.7/8",), gateway4="10.0.0.1")
    found = read(ifcfg.render(cards_of([nic]), Facts(backend=SCRIPTS)), "eth0", SCRIPTS)
    assert "GATEWAY" not in found.variables
    assert found.routes == {("default", "10.0.0.1"): None}


def test_a_gateway_elsewhere_is_reached_first() -> None:
    files = ifcfg.render(cards_of(INPUTS["far-gateways"]), Facts(backend=SCRIPTS)).files
    assert files[f"{ifcfg.DIRECTORY}/route-eth0"].text.splitlines()[1:] == ["0.0.0.0/0 via 203.0.113.1 dev eth0 onlink"]
    assert files[f"{ifcfg.DIRECTORY}/route6-eth0"].text.splitlines()[1:] == [
        "2001:db8:9::1/128 dev eth0",
        "::/0 via 2001:db8:9::1 dev eth0",
    ]


@pytest.mark.image_row(75)
def test_name_servers_keep_their_order_and_no_dhcp_server_replaces_them() -> None:
    rendered = ifcfg.render(cards_of(INPUTS["names-dhcp"]), Facts(backend=SCRIPTS))
    values = sourced(rendered.files[f"{ifcfg.DIRECTORY}/ifcfg-eth0"].text)
    assert (values["DNS1"], values["DOMAIN"], values["PEERDNS"]) == ("192.0.2.53", "example.com", "no")
    rendered = ifcfg.render(cards_of(INPUTS["names"]), Facts(backend=MANAGED))
    values = sourced(rendered.files[f"{ifcfg.DIRECTORY}/ifcfg-eth0"].text)
    assert [values[f"DNS{number}"] for number in (1, 2, 3)] == ["192.0.2.54", "192.0.2.53", "2001:db8::53"]
    assert values["DOMAIN"] == "z.example a.example"


STATIC = Nic(mac(1), ipv4=Ipv4Method.STATIC, address4="192.0.2.7/24", gateway4="192.0.2.1")
NETWORKED = replace(JOB, nics=(STATIC,))
OLD_NETWORK = "# Created by anaconda\nHOSTNAME=template\nGATEWAY=10.0.0.1\nNETWORKING=no\n"
GUEST = {
    "/usr/lib/systemd/systemd": "",
    "/usr/sbin/NetworkManager": "",
    "/etc/sysconfig/network": OLD_NETWORK,
    f"{ifcfg.DIRECTORY}/ifcfg-lo": "DEVICE=lo\n",
    f"{ifcfg.DIRECTORY}/ifcfg-eth0": "DEVICE=eth0\nTYPE=Ethernet\nONBOOT=yes\nBOOTPROTO=dhcp\n",
    f"{ifcfg.DIRECTORY}/route-eth0": "10.0.0.0/8 via 10.0.0.1\n",
    f"{ifcfg.DIRECTORY}/ifcfg-br0": "DEVICE=br0\nTYPE=Bridge\n",
    "/etc/NetworkManager/system-connections/stock": "[connection]\ntype=ethernet\n",
    "/etc/systemd/system/multi-user.target.wants/NetworkManager.service": "",
    "/usr/lib/systemd/system/NetworkManager.service": "",
}


def release(version: str) -> dict[str, str]:
    return {"/etc/os-release": f'ID=rocky\nID_LIKE="rhel centos fedora"\nVERSION_ID="{version}"\n'}


@pytest.mark.root
@pytest.mark.row(180)
def test_networkmanager_of_rhel_8_gets_its_own_files_and_finds_no_others(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**GUEST, **release("8.10")}) as guest:
        for _ in range(2):
            perform(TASK, guest, NETWORKED)
            assert guest.list_directory(ifcfg.DIRECTORY) == (
                *(".ifcfg-eth0.snf-image-bak", ".route-eth0.snf-image-bak"),
                *("ifcfg-br0", "ifcfg-eth0", "ifcfg-lo"),
            )
            assert guest.list_directory("/etc/NetworkManager/system-connections") == (".stock.snf-image-bak",)
            assert not guest.exists("/etc/NetworkManager/conf.d/99-snf-image.conf")
            assert "IPADDR=192.0.2.7\n" in text(guest, f"{ifcfg.DIRECTORY}/ifcfg-eth0")
            assert "DEVICE" not in text(guest, f"{ifcfg.DIRECTORY}/ifcfg-eth0")
            assert text(guest, "/etc/sysconfig/network") == "NETWORKING=yes\n# Created by anaconda\nHOSTNAME=template\n"


@pytest.mark.root
def test_networkmanager_of_rhel_8_is_told_to_bring_the_cards_up_not_to_leave_them(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**GUEST, **release("8.10")}) as guest:
        decision = decide(guest, Properties({}))
        assert (decision.owner, decision.others) == (Renderer.IFCFG, ())


@pytest.mark.root
def test_networkmanager_of_rhel_9_gets_a_keyfile(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**GUEST, **release("9.4")}) as guest:
        perform(TASK, guest, NETWORKED)
        assert "Wired connection 1" in guest.list_directory("/etc/NetworkManager/system-connections")
        assert "ifcfg-eth0" not in guest.list_directory(ifcfg.DIRECTORY)


@pytest.mark.image_row(75)
@pytest.mark.root
@pytest.mark.row(180)
def test_red_hats_scripts_get_the_cards_name_and_resolv_conf(tmp_path: Path) -> None:
    scripts = {path: content for path, content in GUEST.items() if "NetworkManager" not in path}
    scripts |= {"/etc/rc.d/init.d/network": "", "/etc/rc.d/rc3.d/S10network": "", "/sbin/init": ""}
    scripts.pop("/usr/lib/systemd/systemd")
    nic = replace(STATIC, nameservers=("192.0.2.53",))
    with guest_in(tmp_path, {**scripts, "/etc/redhat-release": "CentOS release 6.10 (Final)\n"}) as guest:
        perform(TASK, guest, replace(JOB, nics=(nic,)))
        assert "DEVICE=eth0\n" in text(guest, f"{ifcfg.DIRECTORY}/ifcfg-eth0")
        assert "nameserver 192.0.2.53\n" in text(guest, "/etc/resolv.conf")


@pytest.mark.root
def test_a_guest_that_names_cards_by_their_slots_gets_names_that_nobody_else_gives(tmp_path: Path) -> None:
    scripts = {path: content for path, content in GUEST.items() if "NetworkManager" not in path and "eth0" not in path}
    scripts |= {"/etc/rc.d/init.d/network": "", "/etc/rc.d/rc3.d/S10network": ""}
    with guest_in(tmp_path, {**scripts, **release("7.9")}) as guest:
        perform(TASK, guest, NETWORKED)
        assert "DEVICE=nic0\n" in text(guest, f"{ifcfg.DIRECTORY}/ifcfg-nic0")
