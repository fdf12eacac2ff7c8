# SPDX-License-Identifier: GPL-2.0-or-later
"""Every input of the network renderers, read as the three BSDs read their files: the cards get what was asked for.

Nothing is booted here: the readers of bsd_network_readers.py stand for the systems.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network_inputs import INPUTS, mac
from phony_guests.bsd import GUESTS
from snf_image_helper.bsd.network import RENDERERS, freebsd, netbsd
from snf_image_helper.bsd.network.leftovers import forget_leases
from snf_image_helper.bsd.network.ports import Facts, drivers_of, ports_of
from snf_image_helper.bsd.network.variables import with_network
from snf_image_helper.guest import Guest
from snf_image_helper.network.cards import cards_of
from snf_image_helper.system import OsFamily, System
from snf_image_helper.tasks.bsd.configure_network import TASK
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Ipv4Method, Ipv6Method, Job, Nic, Route
from unit.helper.bsd_network_readers import READERS, Card, Kernel, shell_variables, told_links
from unit.helper.guest_trees import JOB, guest_in, perform, put, seen, text
from unit.helper.network_rooms import NAMES
from unit.helper.network_rooms import expected as expected_in_room

DRIVERS = {"freebsd": "vtnet", "netbsd": "vioif", "openbsd": "vio"}
OLD = Facts(matches_mac=False, autoconf=False)


def rendered(nics: Sequence[Nic], family: str, facts: Facts = Facts(dhcp6c=True)) -> dict[str, str]:  # noqa: B008
    """All files, those of the guest that were empty among them."""
    system = OsFamily(family)
    files = RENDERERS[system](ports_of(cards_of(nics), nics, system), facts)
    return {**{path: file.text for path, file in files.rendered.files.items()}, **files.edited}


def kernel_of(nics: Sequence[Nic], family: str, facts: Facts = Facts(dhcp6c=True)) -> Kernel:  # noqa: B008
    names = [f"{DRIVERS[family]}{number}" for number in range(len(nics))]
    return READERS[family](rendered(nics, family, facts), names, [nic.mac for nic in nics])


def clients(nic: Nic, family: str) -> set[str]:
    """Who is to look after the card. OpenBSD has nobody for DHCPv6, and FreeBSD listens to routers besides."""
    found = {"dhcp4"} if nic.ipv4 is Ipv4Method.DHCP else set()
    match nic.ipv6:
        case Ipv6Method.SLAAC:
            found |= {"ra"}
        case Ipv6Method.SLAAC_DHCP:
            found |= {"ra"} if family == "openbsd" else {"ra", "information"}
        case Ipv6Method.DHCP:
            found |= {"openbsd": {"ra"}, "freebsd": {"ra", "dhcp6"}, "netbsd": {"dhcp6"}}[family]
    return found


def expected(nics: Sequence[Nic], family: str) -> tuple[dict[str, Card], dict[tuple[str, str | None, str], int]]:
    """Worked out from the job alone. Of several routes to one destination only OpenBSD keeps more than the best."""
    room = expected_in_room(nics)
    names = {name: f"{DRIVERS[family]}{number}" for number, name in enumerate(NAMES)}
    cards = {}
    for (name, own), nic in zip(names.items(), nics, strict=False):
        addresses = {str(one) for one in (nic.address4, nic.address6, *nic.addresses) if one}
        cards[own] = Card(room.cards[name].up, nic.mtu or 1500, sorted(addresses), clients(nic, family))
    routes: dict[tuple[str, str | None, str], int] = {}
    for destination, gateway, name in sorted(room.routes, key=lambda place: room.routes[place] or 0):
        rank = sum((place[0], ":" in str(place[1])) == (destination, ":" in str(gateway)) for place in routes)
        if rank == 0 or family == "openbsd":
            routes[destination, gateway, names[name]] = 8 + rank if family == "openbsd" else 0
    return cards, routes


@pytest.mark.row(183, 185)
@pytest.mark.parametrize("facts", [Facts(dhcp6c=True), OLD], ids=["new", "old"])
@pytest.mark.parametrize("family", DRIVERS)
@pytest.mark.parametrize("name", INPUTS)
def test_the_cards_get_what_was_asked_for(name: str, family: str, facts: Facts) -> None:
    nics = INPUTS[name]
    facts = replace(facts, dhcp6c=True)
    kernel, (cards, routes) = kernel_of(nics, family, facts), expected(nics, family)
    for own, card in kernel.cards.items():
        assert (card.up, card.mtu, card.clients) == (cards[own].up, cards[own].mtu, cards[own].clients)
        assert [bare(one) for one in sorted(card.addresses)] == [bare(one) for one in cards[own].addresses]
    links = set(told_links(kernel))
    assert {place: rank for place, rank in kernel.routes.items() if place not in links} == routes
    # Who was told a way out of IPv4 learns no other one that could take its place.
    if family != "openbsd" and any(place[0] == "default" and "." in str(place[1]) for place in routes):
        assert not [one for one in kernel.cards.values() if "dhcp4" in one.clients and one.ways_out]


def bare(address: str) -> str:
    """An address, whose netmask is of one host where a network of it is on the card already."""
    return address.partition("/")[0]


def test_a_further_address_of_the_same_network_stands_alone_and_others_have_their_own() -> None:
    for family, driver in DRIVERS.items():
        addresses = kernel_of(INPUTS["routes-and-addresses"], family).cards[f"{driver}0"].addresses
        assert {"192.0.2.7/24", "192.0.2.8/32", "10.0.0.7/8", "2001:db8:1::8/64"} <= set(addresses)


def test_a_gateway_that_only_a_lease_makes_known_waits_for_it() -> None:
    nic = Nic(mac(1), ipv4=Ipv4Method.DHCP, routes=(Route("172.16.0.0/16", "10.0.0.9"),))
    for family, driver in DRIVERS.items():
        assert ("172.16.0.0/16", "10.0.0.9", f"{driver}0") in kernel_of((nic,), family).routes


def test_routers_bring_no_way_out_where_another_one_was_asked_for() -> None:
    nics = (INPUTS["only6-static"][0], replace(INPUTS["only6-slaac"][0], mac=mac(2)))
    for family, driver in DRIVERS.items():
        cards = kernel_of(nics, family).cards
        assert cards[f"{driver}1"].clients == {"ra"}
        # OpenBSD prefers a route that was told to one that was learnt.
        assert cards[f"{driver}1"].ways_out is (family == "openbsd")
    assert kernel_of(nics[1:], "freebsd").cards["vtnet0"].ways_out


@pytest.mark.parametrize("interface", ["lo1", "vlan10", "bridge0", "wg0", "tun3", "lagg0", "epair0"])
def test_variables_of_interfaces_that_are_no_cards_stay(interface: str) -> None:
    for name in (f"ifconfig_{interface}", f"ifconfig_{interface}_ipv6"):
        assert not freebsd.goes(name)
    assert not netbsd.goes(f"ifconfig_{interface}")
    assert freebsd.goes("ifconfig_igb0_alias0")
    assert netbsd.goes("ifconfig_wm0")


def test_what_stands_beside_another_command_is_emptied_and_the_other_one_stays() -> None:
    after = with_network("/etc/rc.conf", "ifconfig_DEFAULT=DHCP; hostname=both\n", ours, freebsd.goes)
    found = shell_variables(after)
    assert (found["ifconfig_DEFAULT"], found["hostname"]) == ("", "both")


def test_the_gateway_of_a_link_is_named_with_its_card() -> None:
    nic = Nic(mac(1), ipv6=Ipv6Method.STATIC, address6="2001:db8::7/64", gateway6="fe80::1")
    assert 'ipv6_defaultrouter="fe80::1%vtnet0"' in rendered((nic,), "freebsd")["/etc/rc.conf"]
    assert 'defaultroute6="fe80::1%vioif0"' in rendered((nic,), "netbsd")["/etc/rc.conf"]
    assert "default fe80::1%$if\n" in rendered((nic,), "openbsd")[f"/etc/hostname.{mac(1)}"]


NAMED: Mapping[str, tuple[str, str, str]] = {
    "paravirtual": ("vtnet0", "vioif0", "vio0"),
    "": ("vtnet0", "vioif0", "vio0"),
    "rtl8139": ("rl0", "re0", "rl0"),
    "ne2k_pci": ("ed0", "ne0", "ne0"),
    "ne2k_isa": ("ed0", "ne0", "ne0"),
    "i82551": ("fxp0", "fxp0", "fxp0"),
    "i82557b": ("fxp0", "fxp0", "fxp0"),
    "i82559er": ("fxp0", "fxp0", "fxp0"),
    "pcnet": ("pcn0", "pcn0", "pcn0"),
    "e1000": ("em0", "wm0", "em0"),
    "e1000e": ("em0", "wm0", "em0"),
    "vmxnet3": ("vmx0", "vmx0", "vmx0"),
}


@pytest.mark.row(183)
@pytest.mark.parametrize("model", NAMED)
def test_each_type_of_card_has_its_drivers_name_from_zero_on(model: str) -> None:
    nic = replace(INPUTS["static4"][0], model=model)
    first, second, third = NAMED[model]
    assert f'ifconfig_{first}="inet 192.0.2.7' in rendered((nic,), "freebsd")["/etc/rc.conf"]
    assert f"/etc/ifconfig.{second}" in rendered((nic,), "netbsd")
    assert f"/etc/hostname.{third}" in rendered((nic,), "openbsd", OLD)


@pytest.mark.row(183)
def test_numbers_count_the_cards_of_a_driver() -> None:
    models = ("e1000", "paravirtual", "i82551", "e1000e", "paravirtual", "i82559er", "rtl8139", "rtl8139")
    nics = [Nic(mac(number + 1), model) for number, model in enumerate(models)]
    ports = ports_of(cards_of(nics), nics, OsFamily.FREEBSD)
    names = [port.names for port in ports]
    assert names[:6] == [("em0",), ("vtnet0",), ("fxp0",), ("em1",), ("vtnet1",), ("fxp1",)]
    assert names[6:] == [("rl0", "re0"), ("rl1", "re1")]


@pytest.mark.row(183)
def test_what_belongs_to_one_of_two_drivers_is_written_for_both() -> None:
    nic = replace(INPUTS["routed"][0], model="rtl8139")
    rc = shell_variables(rendered((nic,), "freebsd")["/etc/rc.conf"])
    assert rc["ifconfig_re0"] == rc["ifconfig_rl0"] == "inet 192.0.2.7 netmask 255.255.255.255"
    assert rc["ipv6_static_routes"] == "snf0 snf1"
    assert (rc["ipv6_route_snf0"], rc["ipv6_route_snf1"]) == ("default fe80::1%rl0", "default fe80::1%re0")


def test_a_type_that_nobody_knows_is_an_error_where_names_are_needed() -> None:
    nic = Nic(mac(1), "tulip\n")
    with pytest.raises(GuestError, match=r"NIC 3: nobody knows what netbsd calls a card of the type 'tulip\\n'"):
        drivers_of(nic, 3, OsFamily.NETBSD)
    assert ports_of(cards_of((nic,)), (nic,), OsFamily.OPENBSD, named=False)[0].names == ()


def test_a_client_that_is_missing_is_told() -> None:
    nics = INPUTS["stateful-dhcp6"]
    for family, words in (("freebsd", "install the package dhcp6"), ("openbsd", "OpenBSD has no client")):
        system = OsFamily(family)
        files = RENDERERS[system](ports_of(cards_of(nics), nics, system), Facts())
        assert len(files.warnings) == 1
        assert words in files.warnings[0]


def test_routes_that_lose_by_their_metric_are_told() -> None:
    nics = INPUTS["default-by-metric"]
    files = RENDERERS[OsFamily.NETBSD](ports_of(cards_of(nics), nics, OsFamily.NETBSD), Facts())
    assert [warning.partition(" is left out")[0] for warning in files.warnings] == [
        "NIC 1: the route to 0.0.0.0/0 by 198.51.100.1",
        "NIC 1: the route to ::/0 by 2001:db8:2::1",
    ]


# ---- rc.conf as a shell reads it

VALUES = ("plain", '"two words"', "'single $HOME'", '"over\ntwo lines"', "with\\ space", '""', '"a # b"', "x # comment")
STATEMENTS = [
    *(f"{name}={value}\n" for name in ("ifconfig_em0", "defaultrouter", "hostname", "other") for value in VALUES),
    "# ifconfig_em0=\"comment 'open\n",
    "\n",
    "if true; then\n\tifconfig_em1=DHCP\nfi\n",
    'export static_routes="a b"\n',
    "ifconfig_DEFAULT=DHCP; hostname=both\n",
    "route_a='-net 10.0.0.0/8 \\\n192.0.2.1'\n",
    "continued=a\\\nb\n",
    'ifconfig_lo1="inet 127.0.0.2"\n',
]
ours = {"ifconfig_vtnet0": "inet 192.0.2.7 netmask 255.255.255.0", "static_routes": "snf0"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(STATEMENTS), max_size=8))
def test_a_shell_reads_our_variables_and_all_others_as_before(statements: list[str]) -> None:
    before = "".join(statements)
    after = with_network("/etc/rc.conf", before, ours, freebsd.goes)
    old, new = shell_variables(before), shell_variables(after)
    assert {name: new[name] for name in ours} == ours
    for name in old.keys() | new.keys():
        if freebsd.goes(name) and name not in ours:
            assert new.get(name, "") == ""
        elif name not in {*ours, "OPTIND", "_"}:
            assert new.get(name) == old.get(name)
    assert with_network("/etc/rc.conf", after, ours, freebsd.goes) == after


@pytest.mark.parametrize("end", ['ifconfig_em0="DHCP\nhostname=x\n', "a='b", 'hostname="\\"'])
def test_a_quote_without_end_is_an_error_and_not_our_end(end: str) -> None:
    with pytest.raises(GuestError, match=r"/etc/rc.conf: a quotation mark in line \d has no end"):
        with_network("/etc/rc.conf", end, ours, freebsd.goes)


def test_what_is_written_anew_keeps_its_place() -> None:
    first = with_network("/etc/rc.conf", "a=1\n", ours, freebsd.goes)
    second = with_network("/etc/rc.conf", f"{first}b=2\n", {"ifconfig_em0": "up"}, freebsd.goes)
    assert second.startswith("a=1\n#")
    assert second.endswith("\nb=2\n")
    assert "vtnet0" not in second


def test_a_huge_file_of_one_line_is_read_in_its_length() -> None:
    line = "x" * 1_000_000 + "=" + "'\"'" * 1000
    assert with_network("/etc/rc.conf", line, {}, freebsd.goes) == line


def test_only_a_newline_ends_a_line() -> None:
    line = "a='\x85\u2028\x0b\r'; defaultrouter=x\n"
    assert with_network("/etc/rc.conf", line, {}, freebsd.goes).startswith(line)


# ---- the task, over the trees that the projects' images have

PHONY = {guest.name: guest for guest in GUESTS}
NICS = INPUTS["names"]


def job(*nics: Nic) -> Job:
    return replace(JOB, nics=nics or tuple(replace(nic, model="paravirtual") for nic in NICS), seed="00ff")


def bsd(tmp_path: Path, name: str, **files: str) -> Guest:
    family = next(family for family in DRIVERS if family in name)
    PHONY[name].make(tmp_path / "guest")
    guest = guest_in(tmp_path / "guest", {f"/etc/{path}": content for path, content in files.items()})
    guest.system = System(OsFamily(family), 1)
    return guest


def snapshot(root: str) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(root)): (path.lstat().st_mtime_ns, path.lstat().st_mode, path.read_bytes())
        for path in Path(root).rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.row(183)
@pytest.mark.root
@pytest.mark.parametrize("name", PHONY)
def test_a_second_run_changes_nothing(tmp_path: Path, name: str) -> None:
    with bsd(tmp_path, name) as guest:
        assert perform(TASK, guest, job()).warnings == []
        before = snapshot(guest.root)
        assert perform(TASK, guest, job()).warnings == []
        assert snapshot(guest.root) == before
        files = {f"/{path}": content.decode() for path, (_, _, content) in before.items() if path.startswith("etc/")}
        family = guest.system.family
        kernel = READERS[family](files, [f"{DRIVERS[family]}0", f"{DRIVERS[family]}1"], [mac(1), mac(2)])
        assert sorted(kernel.routes) == sorted(expected(NICS, family)[1])
        assert not any(card.clients for card in kernel.cards.values())


@pytest.mark.root
def test_what_the_template_had_is_kept_beside_and_out_of_force(tmp_path: Path) -> None:
    old = {
        "rc.conf.local": "ifconfig_em0=DHCP\n",
        "start_if.em0": "ifconfig em0 up\n",
        "rc.conf.d/netif": "ifconfig_em0=DHCP\n",
        "rc.conf.d/routing/mine": "defaultrouter=10.0.0.1\n",
        "rc.conf.d/sshd": "sshd_enable=YES\n",
        "resolv.conf": "nameserver 10.9.8.1\n",
    }
    with bsd(tmp_path, "phony-freebsd-lived-14.3", **old) as guest:
        before = text(guest, "/etc/rc.conf")
        put(Path(guest.root), {"/etc/rc.conf.d/hostname": "hostname=x\n"})
        perform(TASK, guest, job())
        rc = shell_variables(text(guest, "/etc/rc.conf"))
        assert (rc["hostname"], rc["sshd_enable"]) == ("template.example.org", "YES")
        assert rc["ifconfig_vtnet0"] == "inet 192.0.2.7 netmask 255.255.255.0"
        assert text(guest, "/etc/rc.conf.snf-image-bak") == before
        assert "ifconfig_em0" not in shell_variables(text(guest, "/etc/rc.conf.local"))
        assert not guest.exists("/etc/start_if.em0")
        assert text(guest, "/etc/start_if.em0.snf-image-bak") == old["start_if.em0"]
        assert guest.list_directory("/etc/rc.conf.d") == ("hostname", "netif.snf-image-bak", "routing", "sshd")
        assert guest.list_directory("/etc/rc.conf.d/routing") == (".mine.snf-image-bak",)
        assert text(guest, "/etc/resolv.conf.snf-image-bak") == old["resolv.conf"]


@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "lease"),
    [
        ("phony-freebsd-lived-14.3", "/var/db/dhclient.leases.vtnet0"),
        ("phony-netbsd-10.1", "/var/db/dhcpcd/vioif0.lease"),
        ("phony-openbsd-7.6", "/var/db/dhcpleased/vio0"),
    ],
)
def test_leases_are_forgotten_and_those_that_a_server_gave_are_not(tmp_path: Path, name: str, lease: str) -> None:
    with bsd(tmp_path, name) as guest:
        put(Path(guest.root), {lease: "lease", "/var/db/dhcpd.leases": "others'", "/var/db/dhcpd/dhcpd.leases": ""})
        assert forget_leases(guest) >= 1
        assert not guest.exists(lease)
        assert guest.is_file("/var/db/dhcpd.leases")
        assert forget_leases(guest) == 0


@pytest.mark.root
def test_files_of_openbsd_that_are_no_cards_stay(tmp_path: Path) -> None:
    files = {"hostname.vlan10": "vnetid 10 parent vio0\n", "hostname.lo1": "up\n", "hostname.em3": "dhcp\n"}
    with bsd(tmp_path, "phony-openbsd-7.6", **files, mygate="10.0.0.1\n") as guest:
        perform(TASK, guest, job())
        names = {name for name in guest.list_directory("/etc") if name.startswith("hostname.")}
        ours = {f"hostname.{mac(1)}", f"hostname.{mac(2)}"}
        retired = {"hostname.em3.snf-image-bak", "hostname.vio0.snf-image-bak"}
        assert names == {"hostname.vlan10", "hostname.lo1", *ours, *retired}
        assert seen(guest, f"/etc/hostname.{mac(1)}") == (0, 0, 0o640)
        assert text(guest, "/etc/mygate.snf-image-bak") == "10.0.0.1\n"


@pytest.mark.root
@pytest.mark.parametrize(
    ("netstart", "file"),
    [
        ("# 7.3\nif_name_to_lladdr() {\nV4_AUTOCONF=false\n", f"hostname.{mac(1)}"),
        ("# 7.0\nV4_AUTOCONF=false\n", "hostname.vio0"),
        ("# 6.6\nV4_DHCPCONF=false\n", "hostname.vio0"),
    ],
)
def test_the_scripts_of_the_guest_say_what_they_understand(tmp_path: Path, netstart: str, file: str) -> None:
    with bsd(tmp_path, "phony-openbsd-7.6", netstart=netstart) as guest:
        warnings = perform(TASK, guest, job(INPUTS["dhcp4"][0])).warnings
        assert ("is taken for paravirtual" in "".join(warnings)) is (file == "hostname.vio0")
        assert ("dhcp\n" in text(guest, f"/etc/{file}")) is ("6.6" in netstart)


@pytest.mark.root
def test_a_file_without_anything_of_the_network_is_left_as_it_is(tmp_path: Path) -> None:
    with bsd(tmp_path, "phony-freebsd-14.3", **{"rc.conf.local": "hostname=x\n"}) as guest:
        perform(TASK, guest, job())
        assert text(guest, "/etc/rc.conf.local") == "hostname=x\n"
        assert not guest.exists("/etc/rc.conf.local.snf-image-bak")


@pytest.mark.root
def test_a_mode_of_its_own_stays(tmp_path: Path) -> None:
    with bsd(tmp_path, "phony-netbsd-10.1") as guest:
        Path(guest.root, "etc/rc.conf").chmod(0o600)
        perform(TASK, guest, job())
        assert seen(guest, "/etc/rc.conf") == seen(guest, "/etc/rc.conf.snf-image-bak") == (0, 0, 0o600)


@pytest.mark.root
def test_what_an_earlier_deployment_told_the_clients_goes(tmp_path: Path) -> None:
    with bsd(tmp_path, "phony-freebsd-14.3") as guest:
        names = replace(INPUTS["names-dhcp"][0], mtu=1400)
        perform(TASK, guest, job(names))
        assert guest.is_file("/etc/resolvconf.conf")
        assert guest.is_file("/etc/dhclient.conf")
        perform(TASK, guest, job(INPUTS["dhcp4"][0]))
        assert not guest.exists("/etc/resolvconf.conf")
        assert not guest.exists("/etc/dhclient.conf")
        assert shell_variables(text(guest, "/etc/rc.conf"))["ifconfig_vtnet0"] == "DHCP"


@pytest.mark.root
def test_links_lead_nowhere_outside_of_the_guest(tmp_path: Path) -> None:
    put(tmp_path, {"/outside": "hostname=outside\n"})
    with bsd(tmp_path, "phony-freebsd-14.3") as guest:
        for path in ("etc/rc.conf", "etc/resolv.conf"):
            Path(guest.root, path).unlink(missing_ok=True)
            Path(guest.root, path).symlink_to(tmp_path / "outside")
        with pytest.raises(GuestError):
            perform(TASK, guest, job())
        assert (tmp_path / "outside").read_text() == "hostname=outside\n"


@pytest.mark.root
def test_a_cloud_init_is_told_to_leave_the_network_alone(tmp_path: Path) -> None:
    with bsd(tmp_path, "phony-freebsd-14.3") as guest:
        guest.make_directory("/usr/local/etc/cloud/cloud.cfg.d")
        perform(TASK, guest, job())
        path = "/usr/local/etc/cloud/cloud.cfg.d/98_snf-image-50ConfigureNetwork.cfg"
        assert re.search(r'"config":\s*"disabled"', text(guest, path))
