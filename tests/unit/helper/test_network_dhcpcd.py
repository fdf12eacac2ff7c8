# SPDX-License-Identifier: GPL-2.0-or-later
"""dhcpcd as the whole network: what a real one makes of the files, and what of the image's stays in them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from network_inputs import INPUTS, mac
from snf_image_helper.network import dhcpcd
from snf_image_helper.network.cards import cards_of
from snf_image_helper.network.rendering import BACKUP, Facts
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic
from unit.helper.guest_tools import GuestTools
from unit.helper.network_rooms import Room, bring_up, check_kernel, renamed

# Its hooks are looked for where packages put them, its leases must not be the machine's, and there is no udev.
_DHCPCD = """
mkdir "$ROOM/usr" "$ROOM/usr-work"
mount -t overlay overlay -o "lowerdir={root}/usr:/usr,upperdir=$ROOM/usr,workdir=$ROOM/usr-work" /usr
mkdir -p /usr/lib/dhcpcd
cp -a {root}/lib/dhcpcd/. /usr/lib/dhcpcd/ 2> /dev/null || true
mount -t tmpfs leases /var/lib
mkdir -p /var/lib/dhcpcd /run/dhcpcd
grep -q ^dhcpcd: /etc/passwd || echo 'dhcpcd:x:999:999::/var/lib/dhcpcd:/bin/false' >> /etc/passwd
dhcpcd --nodev --noarp --nobackground --debug > /run/log 2>&1 &
"""
# Those that differ for the kernel.
_ANSWERED = (
    *("dhcp4", "slaac", "stateless-dhcp6", "stateful-dhcp6", "static6", "dual-static", "far-gateways", "routed"),
    *("routed-far6", "default-by-metric", "mtu", "routes-and-addresses", "addresses-beside-dhcp"),
    *("only6-slaac", "only6-static", "unconfigured-beside-static"),
)


@pytest.fixture(scope="module")
def rooms(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Future[Room]]:
    """All of them, begun."""
    tools = GuestTools.unpack(cache)
    directory = tmp_path_factory.mktemp("rooms")

    def begin(name: str) -> Room:
        rendered = renamed(dhcpcd.render(cards_of(INPUTS[name]), Facts()), "eth")
        return bring_up(tools, _DHCPCD.format(root=tools.root), rendered, INPUTS[name], directory / name)

    with ThreadPoolExecutor(6) as pool:
        return {name: pool.submit(begin, name) for name in _ANSWERED}


@pytest.mark.root
@pytest.mark.row(185)
@pytest.mark.parametrize("name", _ANSWERED)
def test_the_kernel_has_what_was_asked_for(rooms: Mapping[str, Future[Room]], name: str) -> None:
    check_kernel(rooms[name].result(), INPUTS[name])


OLD = """\
# A sample configuration for dhcpcd.
hostname
duid
denyinterfaces wlan0
option rapid_commit
static domain_name_servers=192.0.2.99
nohook resolv.conf

interface eth0
static ip_address=192.0.2.99/24
"""
STATIC = Nic(mac(1), ipv4=Ipv4Method.STATIC, address4="192.0.2.7/24", gateway4="192.0.2.1")


def test_options_for_all_cards_stay_and_those_for_one_go() -> None:
    facts = Facts((dhcpcd.CONFIG,), texts={dhcpcd.CONFIG: OLD})
    found = dhcpcd.render(cards_of([STATIC]), facts)
    lines = [line for line in found.files[dhcpcd.CONFIG].text.splitlines() if line and not line.startswith("#")]
    assert lines == [
        *("hostname", "duid", "option rapid_commit"),
        *("interface eth0", "    static ip_address=192.0.2.7/24", "    static routers=192.0.2.1", "    noipv6"),
    ]
    assert found.retired == {dhcpcd.CONFIG: dhcpcd.CONFIG + BACKUP}


@pytest.mark.parametrize(
    ("method", "lines"),
    [
        (Ipv6Method.NONE, ["noipv6"]),
        (Ipv6Method.SLAAC, ["ipv6rs", "slaac hwaddr", "nodhcp6"]),
        (Ipv6Method.SLAAC_DHCP, ["ipv6rs", "slaac hwaddr"]),
        # An address of DHCPv6's alone, whatever prefixes a router speaks of.
        (Ipv6Method.DHCP, ["ipv6rs", "ipv6ra_noautoconf", "ia_na"]),
    ],
)
def test_each_method_of_ipv6_has_its_options(method: Ipv6Method, lines: list[str]) -> None:
    nic = Nic(mac(1), ipv4=Ipv4Method.DHCP, ipv6=method)
    found = dhcpcd.render(cards_of([nic]), Facts()).files[dhcpcd.CONFIG].text
    assert found.partition("interface eth0\n")[2] == "".join(f"    {line}\n" for line in lines)


def test_what_was_written_before_is_written_again() -> None:
    first = dhcpcd.render(cards_of([STATIC]), Facts(texts={dhcpcd.CONFIG: OLD})).files[dhcpcd.CONFIG].text
    second = dhcpcd.render(cards_of([STATIC]), Facts(texts={dhcpcd.CONFIG: first})).files[dhcpcd.CONFIG].text
    assert second == first
