# SPDX-License-Identifier: GPL-2.0-or-later
"""Alpine's network, brought up by busybox's ifup and by ifupdown-ng, with no program but busybox's beside them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from network_inputs import INPUTS, mac
from snf_image_helper.network import alpine
from snf_image_helper.network.cards import cards_of
from snf_image_helper.network.rendering import Facts
from snf_image_shared.job import Ipv6Method, Nic
from unit.helper.guest_tools import ALPINE_PACKAGES, GuestTools
from unit.helper.guest_trees import put
from unit.helper.network_rooms import Room, bring_up, check_kernel, renamed

pytestmark = [pytest.mark.root, pytest.mark.row(179, 185)]

# busybox takes the address of the loopback for a failure if it is there already, as in a room.
_BUSYBOX = """
ip address flush dev lo
mkdir "$ROOM/applets" "$ROOM/usr" "$ROOM/usr-work"
mount -t overlay overlay -o "lowerdir={root}/usr:/usr,upperdir=$ROOM/usr,workdir=$ROOM/usr-work" /usr
mkdir -p /etc/udhcpc
cp {root}/etc/udhcpc/default.script /etc/udhcpc/
{root}/bin/busybox --install -s "$ROOM/applets"
ln -s {root}/bin/busybox /usr/sbin/udhcpc
ln -s {root}/bin/busybox /usr/sbin/busybox
env -i PATH="$ROOM/applets" {ifup} -a > /run/log 2>&1 || {{ cat /run/log; exit 1; }}
"""
IFUP = {"busybox": "{root}/bin/busybox ifup", "ifupdown-ng": "{root}/sbin/ifup"}
# Those that differ for the kernel, without stateful DHCPv6: Debian's busybox has no client of it.
_ANSWERED = (
    *("slaac", "stateless-dhcp6", "static6", "dual-static", "far-gateways", "routed", "routed-far6"),
    *("default-by-metric", "mtu", "routes-and-addresses", "addresses-beside-dhcp", "unconfigured-beside-static"),
)


@pytest.fixture(scope="module")
def rooms(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str], Future[Room]]:
    """All of them, begun; the script that names the cards finds them named already."""
    tools, programs = GuestTools.unpack(cache), GuestTools.unpack(cache, ALPINE_PACKAGES, "alpine-tools")
    directory = tmp_path_factory.mktemp("rooms")

    def begin(software: str, name: str) -> Room:
        program = _BUSYBOX.format(root=programs.root, ifup=IFUP[software].format(root=programs.root))
        rendered = renamed(alpine.render(cards_of(INPUTS[name]), Facts()), "eth")
        return bring_up(tools, program, rendered, INPUTS[name], directory / software / name)

    with ThreadPoolExecutor(8) as pool:
        return {(software, name): pool.submit(begin, software, name) for software in IFUP for name in _ANSWERED}


@pytest.mark.guest(family="Alpine Linux", version="", stack="ifupdown", boot="not started", proven="tool")
@pytest.mark.parametrize("name", _ANSWERED)
@pytest.mark.parametrize("software", IFUP)
def test_the_kernel_has_what_was_asked_for(
    rooms: Mapping[tuple[str, str], Future[Room]], software: str, name: str
) -> None:
    check_kernel(rooms[software, name].result(), INPUTS[name])


def test_cards_get_their_names_though_one_has_the_name_of_another(cache: Path, tmp_path: Path) -> None:
    tools, programs = GuestTools.unpack(cache), GuestTools.unpack(cache, ALPINE_PACKAGES, "alpine-tools")
    nics = [Nic(mac(1)), Nic(mac(2)), Nic(mac(3))]
    put(tmp_path, {alpine.NAMES_SCRIPT: alpine.render(cards_of(nics), Facts()).files[alpine.NAMES_SCRIPT].text})
    applets = "".join(f"ln -s {programs.root}/bin/busybox $ROOM/{name}; " for name in ("sh", "ip", "cat", "["))
    script = f"{applets} PATH=$ROOM sh {alpine.NAMES_SCRIPT}; ip -brief link"
    cards = {"eth1": mac(1), "eth0": mac(2), "enp3s0": mac(3)}
    found = [
        line.split() for line in tools.run_in_room(script, tmp_path / "etc", tmp_path / "room", cards).splitlines()
    ]
    assert {words[0].partition("@")[0]: words[2] for words in found if words[0].startswith("e")} == {
        "eth0": mac(1),
        "eth1": mac(2),
        "eth2": mac(3),
    }


def test_an_address_from_dhcpv6_is_taken_with_its_name_servers(cache: Path, tmp_path: Path) -> None:
    tools = GuestTools.unpack(cache)
    nic = Nic(mac(1), ipv6=Ipv6Method.DHCP)
    put(tmp_path, {alpine.DHCP6_SCRIPT: alpine.render(cards_of([nic]), Facts()).files[alpine.DHCP6_SCRIPT].text})
    put(tmp_path, {"/etc/resolv.conf": "nameserver 2001:db8::53\n"})
    # As udhcpc6 calls it.
    script = f"""
        ip link set eth0 up
        for reason in deconfig bound renew; do
            ipv6=2001:db8::7 dns="2001:db8::53 2001:db8::54" interface=eth0 sh {alpine.DHCP6_SCRIPT} $reason
        done
        ip -brief -6 address show dev eth0; cat /etc/resolv.conf
    """
    found = tools.run_in_room(script, tmp_path / "etc", tmp_path / "room", {"eth0": mac(1)}).splitlines()
    assert "2001:db8::7/128" in found[0]
    assert found[1:] == ["nameserver 2001:db8::53", "nameserver 2001:db8::54"]
