# SPDX-License-Identifier: GPL-2.0-or-later
"""What the renderers write, read by the programs it is for: cards are found by MAC address whatever their names are."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

import pytest

from snf_image_helper.network import RENDERERS, Renderer
from snf_image_helper.network.cards import cards_of
from snf_image_helper.network.rendering import Facts
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic
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
    """`ip -brief address`: addresses by card."""
    return {words[0]: words[2:] for words in map(str.split, output.splitlines()) if words}


def test_ifupdown_brings_up_static_and_idle_cards_at_boot(tools: GuestTools, tmp_path: Path) -> None:
    root = rendered(Renderer.IFUPDOWN, tmp_path / "root", FAR_GATEWAY, SECOND, IDLE)
    script = "ifup -a; ip -brief -4 address; echo ---; ip route; echo ---; ip -brief link; echo ---; ifquery --state"
    found = tools.run_in_room(script, root / "etc", tmp_path / "room", STATIC_CARDS).split("---\n")
    assert addresses(found[0]) == {"lo": ["127.0.0.1/8"], "enp9s0": ["192.0.2.7/24"], "eth7": ["10.0.0.7/8"]}
    assert [line for line in found[1].splitlines() if line.startswith("default")] == [
        "default via 198.51.100.1 dev enp9s0 onlink "
    ]
    assert "wan" in found[2]
    assert "UP" in next(line for line in found[2].splitlines() if line.startswith("wan"))
    assert {"enp9s0=nic0", "eth7=nic1", "wan=nic2", "lo=lo"} == set(found[3].split())


def test_ifupdown_brings_up_a_card_that_udev_announces(tools: GuestTools, tmp_path: Path) -> None:
    root = rendered(Renderer.IFUPDOWN, tmp_path / "root", FAR_GATEWAY)
    # As Debian's hotplug helper and ifup@.service do it.
    script = "ifquery --allow hotplug -l enp9s0; ifup --allow=hotplug enp9s0; ifquery --state enp9s0"
    assert tools.run_in_room(script, root / "etc", tmp_path / "room", STATIC_CARDS).split() == ["enp9s0", "enp9s0=nic0"]


def test_ifupdown_understands_every_method(tools: GuestTools, tmp_path: Path) -> None:
    nics = [
        Nic(f"02:00:00:00:01:{number:02x}", ipv4=ipv4, ipv6=ipv6)
        for number, (ipv4, ipv6) in enumerate(
            (ipv4, ipv6) for ipv4 in (Ipv4Method.NONE, Ipv4Method.DHCP) for ipv6 in Ipv6Method
        )
    ]
    root = rendered(Renderer.IFUPDOWN, tmp_path / "root", *nics)
    cards = {f"ens{number}": nic.mac for number, nic in enumerate(nics)}
    said = tools.run_in_room("ifup --no-act -v -a 2>&1", root / "etc", tmp_path / "room", cards)
    for number, nic in enumerate(nics):
        configured = [line for line in said.splitlines() if f"interface ens{number}=nic{number} (" in line]
        wanted = {Ipv4Method.DHCP: ["(inet)"], Ipv4Method.NONE: []}[nic.ipv4]
        wanted = wanted + (["(inet6)"] if nic.ipv6 is not Ipv6Method.NONE else [])
        assert [line.split()[-1] for line in configured] == (wanted or ["(inet)"])


def test_ifupdown_takes_the_names_of_older_guests(tools: GuestTools, tmp_path: Path) -> None:
    root = rendered(Renderer.IFUPDOWN, tmp_path / "root", FAR_GATEWAY, facts=Facts(matches_mac=False))
    script = "ifup -a; ip -brief -4 address"
    found = tools.run_in_room(script, root / "etc", tmp_path / "room", {"eth0": FAR_GATEWAY.mac})
    assert addresses(found)["eth0"] == ["192.0.2.7/24"]


NETWORKD = """
mkdir -p /run/systemd/system /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network:systemd-network /run/systemd/netif
SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_LEVEL=info {networkd} > /run/log 2>&1 &
networkd=$!
tries=0
until ip route | grep -q ^default && ip -brief -4 address show eth7 | grep -q 10.0.0.7; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || {{ cat /run/log; exit 1; }}
    sleep 0.1
done
ip -brief -4 address; echo ---; ip route; echo ---; ip -brief link; echo ---
grep -E "Unknown|Failed to parse|ignoring assignment" /run/log || true
kill $networkd
"""


def test_networkd_configures_the_cards(tools: GuestTools, tmp_path: Path) -> None:
    root = rendered(Renderer.NETWORKD, tmp_path / "root", FAR_GATEWAY, SECOND, IDLE, DHCP)
    script = NETWORKD.format(networkd=tools.networkd)
    cards = {**STATIC_CARDS, "lan": DHCP.mac}
    found = tools.run_in_room(script, root / "etc", tmp_path / "room", cards).split("---\n")
    assert addresses(found[0]) == {"lo": ["127.0.0.1/8"], "enp9s0": ["192.0.2.7/24"], "eth7": ["10.0.0.7/8"]}
    assert "default via 198.51.100.1 dev enp9s0 proto static onlink" in found[1]
    assert found[1].count("default") == 1
    assert "UP" in next(line for line in found[2].splitlines() if line.startswith("wan"))
    assert found[3] == ""


def test_netplan_takes_the_file_and_says_the_same_to_networkd(tools: GuestTools, tmp_path: Path) -> None:
    root = rendered(Renderer.NETPLAN, tmp_path, FAR_GATEWAY, SECOND, IDLE, DHCP)
    tools.run(tools.netplan, "--root-dir", str(root))
    read = {path.name: path.read_text() for path in (root / "run/systemd/network").iterdir()}
    assert read.keys() == {f"10-netplan-nic{number}.network" for number in range(4)}
    first, second, idle, dhcp = (read[f"10-netplan-nic{number}.network"] for number in range(4))
    assert "MACAddress=02:00:00:00:00:01\n" in first
    for line in ("Address=192.0.2.7/24", "Gateway=198.51.100.1", "GatewayOnLink=true", "IPv6AcceptRA=no"):
        assert f"{line}\n" in first
    assert "Address=10.0.0.7/8\n" in second
    assert "Gateway" not in second
    # What netplan thinks of waiting for an idle card moved to another file between Debian 12 and 13.
    assert "LinkLocalAddressing=no\n" in idle
    assert "\nAddress=" not in idle
    assert "\nDHCP=" not in idle
    assert "DHCP=ipv4\n" in dhcp
    assert "IPv6AcceptRA=yes\n" in dhcp


def test_netplan_can_speak_to_networkmanager(tools: GuestTools, tmp_path: Path) -> None:
    root = rendered(Renderer.NETPLAN, tmp_path, FAR_GATEWAY, facts=Facts(backend="NetworkManager"))
    tools.run(tools.netplan, "--root-dir", str(root))
    profiles = list((root / "run/NetworkManager/system-connections").iterdir())
    assert [path.name for path in profiles] == ["netplan-nic0.nmconnection"]


@pytest.mark.parametrize("nic", [FAR_GATEWAY, SECOND, IDLE, DHCP], ids=["far", "second", "idle", "dhcp"])
def test_networkmanager_reads_back_what_was_written(tools: GuestTools, tmp_path: Path, nic: Nic) -> None:
    root = rendered(Renderer.NETWORKMANAGER, tmp_path, nic)
    file = root / "etc/NetworkManager/system-connections/Wired connection 1"
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
