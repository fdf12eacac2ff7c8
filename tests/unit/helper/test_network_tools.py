# SPDX-License-Identifier: GPL-2.0-or-later
"""What the renderers write, read by the programs it is for: cards are found by MAC address whatever their names are."""

from __future__ import annotations

import configparser
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from network_inputs import INPUTS
from snf_image_helper.network import RENDERERS, Renderer
from snf_image_helper.network.cards import cards_of
from snf_image_helper.network.rendering import Facts
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic, Route
from unit.helper.guest_tools import GuestTools
from unit.helper.guest_trees import put

pytestmark = pytest.mark.root

FAR_GATEWAY = Nic("02:00:00:00:00:01", ipv4=Ipv4Method.STATIC, address4="192.0.2.7/24", gateway4="198.51.100.1")
SECOND = Nic("02:00:00:00:00:02", ipv4=Ipv4Method.STATIC, address4="10.0.0.7/8", gateway4="10.0.0.1")
IDLE = Nic("02:00:00:00:00:03")
DHCP = Nic("02:00:00:00:00:04", ipv4=Ipv4Method.DHCP, ipv6=Ipv6Method.SLAAC)
STATIC_CARDS = {"enp9s0": "02:00:00:00:00:01", "eth7": "02:00:00:00:00:02", "wan": "02:00:00:00:00:03"}


@pytest.fixture(scope="module")
def tools(cache: Path) -> GuestTools:
    return GuestTools.unpack(cache)


def rendered(renderer: Renderer, root: Path, *nics: Nic, facts: Facts | None = None) -> Path:
    """The guest's tree with the renderer's files."""
    for path, file in RENDERERS[renderer](cards_of(nics), facts or Facts()).files.items():
        put(root, {path: file.text})
        (root / path.lstrip("/")).chmod(file.mode)
    return root


def addresses(output: str) -> Mapping[str, list[str]]:
    """`ip -brief address`: addresses by card; a card is shown with the other end of its cable, "eth0@far0"."""
    return {words[0].partition("@")[0]: words[2:] for words in map(str.split, output.splitlines()) if words}


def test_ifupdown_brings_up_static_cards_at_boot_and_no_other(tools: GuestTools, tmp_path: Path) -> None:
    root = rendered(Renderer.IFUPDOWN, tmp_path / "root", FAR_GATEWAY, SECOND, IDLE)
    script = "ifup -a; ip -brief -4 address; echo ---; ip route; echo ---; ip -brief link; echo ---; ifquery --state"
    found = tools.run_in_room(script, root / "etc", tmp_path / "room", STATIC_CARDS).split("---\n")
    assert addresses(found[0]) == {"lo": ["127.0.0.1/8"], "enp9s0": ["192.0.2.7/24"], "eth7": ["10.0.0.7/8"]}
    assert [line for line in found[1].splitlines() if line.startswith("default")] == [
        "default via 198.51.100.1 dev enp9s0 onlink "
    ]
    assert "DOWN" in next(line for line in found[2].splitlines() if line.startswith("wan"))
    assert {"enp9s0=nic0", "eth7=nic1", "lo=lo"} == set(found[3].split())


def test_ifupdown_brings_up_a_card_that_udev_announces(tools: GuestTools, tmp_path: Path) -> None:
    root = rendered(Renderer.IFUPDOWN, tmp_path / "root", FAR_GATEWAY)
    # As Debian's hotplug helper and ifup@.service do it.
    script = "ifquery --allow hotplug -l enp9s0; ifup --allow=hotplug enp9s0; ifquery --state enp9s0"
    assert tools.run_in_room(script, root / "etc", tmp_path / "room", STATIC_CARDS).split() == ["enp9s0", "enp9s0=nic0"]


_WITHOUT_ADDRESS = tuple(method for method in Ipv6Method if method is not Ipv6Method.STATIC)


def test_ifupdown_understands_every_method(tools: GuestTools, tmp_path: Path) -> None:
    nics = [
        Nic(f"02:00:00:00:01:{number:02x}", ipv4=ipv4, ipv6=ipv6)
        for number, (ipv4, ipv6) in enumerate(
            (ipv4, ipv6) for ipv4 in (Ipv4Method.NONE, Ipv4Method.DHCP) for ipv6 in _WITHOUT_ADDRESS
        )
    ]
    root = rendered(Renderer.IFUPDOWN, tmp_path / "root", *nics)
    cards = {f"ens{number}": nic.mac for number, nic in enumerate(nics)}
    said = tools.run_in_room("ifup --no-act -v -a 2>&1", root / "etc", tmp_path / "room", cards)
    for number, nic in enumerate(nics):
        configured = [line for line in said.splitlines() if f"interface ens{number}=nic{number} (" in line]
        wanted = {Ipv4Method.DHCP: ["(inet)"], Ipv4Method.NONE: []}[nic.ipv4]
        wanted = wanted + (["(inet6)"] if nic.ipv6 is not Ipv6Method.NONE else [])
        assert [line.split()[-1] for line in configured] == (wanted)


def test_ifupdown_takes_the_names_of_older_guests(tools: GuestTools, tmp_path: Path) -> None:
    root = rendered(Renderer.IFUPDOWN, tmp_path / "root", FAR_GATEWAY, facts=Facts(matches_mac=False))
    script = "ifup -a; ip -brief -4 address"
    found = tools.run_in_room(script, root / "etc", tmp_path / "room", {"eth0": FAR_GATEWAY.mac})
    assert addresses(found)["eth0"] == ["192.0.2.7/24"]


NETWORKD = """
mkdir -p /run/systemd/system /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network:systemd-network /run/systemd/netif
SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_LEVEL=info {program} > /run/log 2>&1 &
networkd=$!
trap 'kill $networkd' EXIT
tries=0
until [ "$(grep -lx ADMIN_STATE=configured /run/systemd/netif/links/* | wc -l)" = {awaited} ]; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || {{ cat /run/log; exit 1; }}
    sleep 0.1
done
"""
# As in an initial RAM disk: no D-Bus, and an end when all cards are up.
NETWORKMANAGER = """
mkdir -p /run/NetworkManager
printf '[main]\nplugins=keyfile\nno-auto-default=*\nrc-manager=file\n' > /run/nm.conf
rm -f /etc/resolv.conf
{program} --debug --configure-and-quit=initrd --config=/run/nm.conf --config-dir=/run/nothing \
    --system-config-dir=/run/nothing --state-file=/run/nm.state > /run/log 2>&1 || {{ cat /run/log; exit 1; }}
"""


WHOLE = Nic(
    "02:00:00:00:00:01",
    ipv4=Ipv4Method.STATIC,
    address4="192.0.2.7/24",
    gateway4="198.51.100.1",
    ipv6=Ipv6Method.STATIC,
    address6="2001:db8::7/64",
    gateway6="2001:db8:9::1",
    addresses=("192.0.2.8/24", "2001:db8:1::8/64", "203.0.113.9/32"),
    routes=(
        Route("10.1.0.0/16", "192.0.2.254"),
        Route("10.2.0.0/16", "10.99.0.1", on_link=True, metric=50),
        Route("10.3.0.0/16", metric=7),
        Route("2001:db8:a::/48", "2001:db8::fe"),
        Route("2001:db8:b::/48", "2001:db8:ffff::1", on_link=True, metric=50),
        Route("2001:db8:c::/48"),
    ),
    nameservers=("192.0.2.53", "2001:db8::53"),
    search=("example.com", "example.net"),
    mtu=1400,
)
IPV6_ONLY = Nic("02:00:00:00:00:02", ipv6=Ipv6Method.STATIC, address6="2001:db8:2::7/64", gateway6="fe80::1")
BACKUP_LINE = replace(
    IPV6_ONLY, gateway6=None, routes=(Route("::/0", "fe80::1", metric=2000),), nameservers=("192.0.2.54",)
)
JUMBO = replace(IDLE, mtu=9000)


@dataclass(frozen=True)
class Room:
    """What the kernel says: addresses by card, the metric of each (destination, gateway, card), and so on."""

    addresses: Mapping[str, set[str]]
    routes: Mapping[tuple[str, str | None, str], int]
    mtu: Mapping[str, int]
    accept_ra: Mapping[str, str]
    names: str

    @property
    def defaults(self) -> set[tuple[str, str | None, str]]:
        return {route for route in self.routes if route[0] == "default"}


KERNEL = r"""
echo ---; ip -json address; echo ---; ip -json -4 route; echo ---; ip -json -6 route; echo ---
grep . /proc/sys/net/ipv6/conf/*/accept_ra; echo ---
"""
UP = {Renderer.IFUPDOWN: "ifup -a\n", Renderer.NETWORKD: NETWORKD, Renderer.NETWORKMANAGER: NETWORKMANAGER}
# How each hands the name servers on: to the hooks of resolvconf, to systemd-resolved, into the file itself.
NAMES = {
    Renderer.IFUPDOWN: "cat /run/hooks",
    Renderer.NETWORKD: "grep -hE '^(DNS|DOMAINS)=.' /run/systemd/netif/links/*",
    Renderer.NETWORKMANAGER: "cat /etc/resolv.conf",
}
HOOK = """#!/bin/sh
[ -z "$IF_DNS_NAMESERVERS" ] || echo $IFACE $IF_DNS_NAMESERVERS / $IF_DNS_SEARCH >> /run/hooks
"""
daemons = pytest.mark.parametrize("renderer", list(UP))


def bring_up(tools: GuestTools, renderer: Renderer, directory: Path, *nics: Nic) -> Room:
    """Let the software of `renderer` bring up the cards, named otherwise than they are in the job."""
    root = rendered(renderer, directory / "root", *nics)
    put(root, {"/etc/network/if-up.d/names": HOOK})
    (root / "etc/network/if-up.d/names").chmod(0o755)
    names = {mac: name for name, mac in STATIC_CARDS.items()}
    program = tools.networkmanager if renderer is Renderer.NETWORKMANAGER else tools.networkd
    script = UP[renderer].format(program=program, awaited=len(nics)) + KERNEL + NAMES[renderer] + " 2>/dev/null || true"
    said = tools.run_in_room(script, root / "etc", directory / "room", {names[nic.mac]: nic.mac for nic in nics})
    _, links, routes4, routes6, accept_ra, servers = said.split("---\n")
    cards = {link["ifname"]: link for link in json.loads(links) if link["ifname"] in STATIC_CARDS}
    routes = [route for route in json.loads(routes4) + json.loads(routes6) if route.get("protocol") != "kernel"]
    return Room(
        {
            name: {f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"] if one["scope"] == "global"}
            for name, link in cards.items()
        },
        {(route["dst"], route.get("gateway"), route["dev"]): route.get("metric", 0) for route in routes},
        {name: link["mtu"] for name, link in cards.items()},
        {line.split("/")[6]: line.rpartition(":")[2] for line in accept_ra.splitlines()},
        servers,
    )


@daemons
def test_everything_that_a_card_was_given_is_in_effect(tools: GuestTools, tmp_path: Path, renderer: Renderer) -> None:
    room = bring_up(tools, renderer, tmp_path, WHOLE, BACKUP_LINE, JUMBO)
    assert room.addresses == {
        "enp9s0": {"192.0.2.7/24", "192.0.2.8/24", "203.0.113.9/32", "2001:db8::7/64", "2001:db8:1::8/64"},
        "eth7": {"2001:db8:2::7/64"},
        "wan": set(),
    }
    assert room.defaults == {
        ("default", "198.51.100.1", "enp9s0"),
        ("default", "2001:db8:9::1", "enp9s0"),
        ("default", "fe80::1", "eth7"),
    }
    for route in WHOLE.routes:
        metric = room.routes[route.destination, route.gateway, "enp9s0"]
        assert not route.metric or metric == route.metric
    assert room.routes["default", "fe80::1", "eth7"] == 2000
    assert room.mtu == {"enp9s0": 1400, "eth7": 1500, "wan": 9000}
    assert (room.accept_ra["enp9s0"], room.accept_ra["eth7"]) == ("0", "0")
    for name in (*WHOLE.nameservers, *BACKUP_LINE.nameservers, *WHOLE.search):
        assert name in re.split(r"[\s=]", room.names)


@daemons
def test_ipv6_may_be_all_there_is(tools: GuestTools, tmp_path: Path, renderer: Renderer) -> None:
    room = bring_up(tools, renderer, tmp_path, IPV6_ONLY)
    assert room.addresses == {"eth7": {"2001:db8:2::7/64"}}
    assert room.defaults == {("default", "fe80::1", "eth7")}


def test_netplan_takes_the_file_and_says_the_same_to_networkd(tools: GuestTools, tmp_path: Path) -> None:
    root = rendered(Renderer.NETPLAN, tmp_path, FAR_GATEWAY, SECOND, IDLE, DHCP)
    tools.run(tools.netplan, "--root-dir", str(root))
    read = {path.name: path.read_text() for path in (root / "run/systemd/network").iterdir()}
    assert read.keys() == {f"10-netplan-nic{number}.network" for number in (0, 1, 3)}
    first, second, dhcp = (read[f"10-netplan-nic{number}.network"] for number in (0, 1, 3))
    assert "MACAddress=02:00:00:00:00:01\n" in first
    for line in ("Address=192.0.2.7/24", "Gateway=198.51.100.1", "GatewayOnLink=true", "IPv6AcceptRA=no"):
        assert f"{line}\n" in first
    assert "Address=10.0.0.7/8\n" in second
    assert "Gateway" not in second
    assert "DHCP=ipv4\n" in dhcp
    assert "IPv6AcceptRA=yes\n" in dhcp


def test_netplan_passes_everything_on_to_networkd(tools: GuestTools, tmp_path: Path) -> None:
    root = rendered(Renderer.NETPLAN, tmp_path / "netplan", WHOLE, BACKUP_LINE, JUMBO)
    tools.run(tools.netplan, "--root-dir", str(root))
    own = rendered(Renderer.NETWORKD, tmp_path / "networkd", WHOLE, BACKUP_LINE, JUMBO)
    for number in range(3):
        theirs = sections(root / f"run/systemd/network/10-netplan-nic{number}.network")
        ours = sections(own / f"etc/systemd/network/05-snf-image-{number}.network")
        assert sorted(theirs["Route"]) == sorted(ours["Route"])
        assert values(theirs["Link"], "MTUBytes") == values(ours["Link"], "MTUBytes")
        for key in ("Address", "DNS", "Domains", "IPv6AcceptRA"):
            assert values(theirs["Network"], key) == values(ours["Network"], key)


def sections(file: Path) -> dict[str, list[list[str]]]:
    """The lines of each section of a file of networkd's, those of the same name apart, in one spelling."""
    found: dict[str, list[list[str]]] = {"Link": [], "Network": [], "Route": []}
    for text in re.split(r"^\[", file.read_text(), flags=re.MULTILINE)[1:]:
        name, *lines = text.strip().split("\n")
        spelled = [line.replace("=true", "=yes") for line in lines if line]
        # netplan says more than it has to, and we say one thing in the words of old releases, too.
        needless = {"Destination=0.0.0.0/0", "Destination=::/0", "Scope=link", "GatewayOnlink=yes"}
        found.setdefault(name.rstrip("]"), []).append([line for line in spelled if line not in needless])
    return found


def values(found: list[list[str]], key: str) -> list[str]:
    return [line.partition("=")[2] for lines in found for line in lines if line.startswith(f"{key}=")]


def test_netplan_can_speak_to_networkmanager(tools: GuestTools, tmp_path: Path) -> None:
    root = rendered(Renderer.NETPLAN, tmp_path, WHOLE, facts=Facts(backend="NetworkManager"))
    tools.run(tools.netplan, "--root-dir", str(root))
    profiles = list((root / "run/NetworkManager/system-connections").iterdir())
    assert [path.name for path in profiles] == ["netplan-nic0.nmconnection"]
    profile = profiles[0].read_text()
    for line in (
        "mtu=1400",
        "dns=192.0.2.53;",
        "dns=2001:db8::53;",
        "route1=::/0,2001:db8:9::1",
        "address2=192.0.2.8/24",
    ):
        assert f"{line}\n" in profile


@pytest.mark.row(181)
@pytest.mark.parametrize("name", INPUTS)
def test_networkmanager_reads_back_what_was_written(tools: GuestTools, tmp_path: Path, name: str) -> None:
    root = rendered(Renderer.NETWORKMANAGER, tmp_path, *INPUTS[name])
    for file in (root / "etc/NetworkManager").glob("system-connections/*"):
        told = tools.run("nmcli", "--offline", "connection", "modify", "autoconnect", "yes", stdin=file.read_text())
        ours, theirs = configparser.ConfigParser(), configparser.ConfigParser()
        ours.read_string(file.read_text())
        theirs.read_string(told)
        for section in ours.sections():
            assert with_gateway(theirs[section]) == with_gateway(ours[section])


def with_gateway(section: Mapping[str, str]) -> dict[str, str]:
    """A section of a keyfile in the old spelling: NetworkManager 1.50 writes the gateway in a line of its own."""
    values = dict(section)
    if gateway := values.pop("gateway", None):
        values["address1"] += f",{gateway}"
    return values
