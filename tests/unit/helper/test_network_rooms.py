# SPDX-License-Identifier: GPL-2.0-or-later
"""Every input brought up by each network software that Debian has: what the kernel says then is what was asked for.

The rooms of one software are brought up side by side: most of their time is waiting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from network_inputs import INPUTS
from snf_image_helper.network import RENDERERS, Renderer
from snf_image_helper.network.cards import cards_of
from snf_image_helper.network.rendering import Facts
from unit.helper.guest_tools import GuestTools
from unit.helper.network_rooms import Room, bring_up, expected

pytestmark = [pytest.mark.root, pytest.mark.row(179, 181, 182, 185)]

_NETWORKD = """
mkdir -p /run/systemd/system /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network:systemd-network /run/systemd/netif
SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_LEVEL=info {networkd} > /run/log 2>&1 &
"""
# No card of a room has an address that it was made with, as cards of a machine have.
_NETPLAN = """
{netplan} --root-dir / > /run/log 2>&1
sed -i s/PermanentMACAddress/MACAddress/ /run/systemd/network/*.network || true
"""
# As in an initial RAM disk: without D-Bus, and with an end, but not before both families have what they wait for.
_NETWORKMANAGER = """
mkdir -p /run/NetworkManager
cat > /run/nm.conf << END
[main]
plugins=keyfile
no-auto-default=*
rc-manager=file
[connection]
ipv4.required-timeout=30000
ipv6.required-timeout=30000
END
rm -f /etc/resolv.conf
{networkmanager} --debug --configure-and-quit=initrd --config=/run/nm.conf --config-dir=/etc/NetworkManager/conf.d \
    --system-config-dir=/run/nothing --state-file=/run/nm.state > /run/log 2>&1 || {{ cat /run/log; exit 1; }}
"""
# ifupdown looks for its DHCP client where packages install it, and that for its script and leases.
_IFUPDOWN = """
mkdir "$ROOM/lib" "$ROOM/lib-work"
mount -t overlay overlay -o "lowerdir=/var/lib,upperdir=$ROOM/lib,workdir=$ROOM/lib-work" /var/lib
mkdir -p /var/lib/dhcp
mount -t overlay overlay -o "lowerdir={root}/lib:/usr/lib" /usr/lib
mount -t overlay overlay -o "lowerdir={root}/sbin:{root}/usr/sbin:/usr/sbin" /usr/sbin
ifup -a > /run/log 2>&1 || {{ cat /run/log; exit 1; }}
"""
PROGRAMS: Mapping[str, tuple[Renderer, str]] = {
    "ifupdown": (Renderer.IFUPDOWN, _IFUPDOWN),
    "networkd": (Renderer.NETWORKD, _NETWORKD),
    "netplan": (Renderer.NETPLAN, _NETPLAN + _NETWORKD),
    "networkmanager": (Renderer.NETWORKMANAGER, _NETWORKMANAGER),
}
_SIDE_BY_SIDE = 12


@pytest.fixture(scope="module")
def rooms(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str], Future[Room]]:
    """All of them, begun."""
    tools = GuestTools.unpack(cache)
    directory = tmp_path_factory.mktemp("rooms")

    def begin(software: str, name: str) -> Room:
        renderer, program = PROGRAMS[software]
        script = program.format(
            root=tools.root, networkd=tools.networkd, networkmanager=tools.networkmanager, netplan=tools.netplan
        )
        rendered = RENDERERS[renderer](cards_of(INPUTS[name]), Facts())
        return bring_up(tools, script, rendered, INPUTS[name], directory / software / name)

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        return {(software, name): pool.submit(begin, software, name) for software in PROGRAMS for name in INPUTS}


@pytest.mark.guest(family="Debian", version="12, 13", stack="ifupdown", boot="not started", proven="tool")
@pytest.mark.guest(family="Debian", version="12, 13", stack="netplan", boot="not started", proven="tool")
@pytest.mark.guest(family="Debian", version="12, 13", stack="networkd", boot="not started", proven="tool")
@pytest.mark.guest(family="Debian", version="12, 13", stack="networkmanager", boot="not started", proven="tool")
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("software", PROGRAMS)
def test_the_kernel_has_what_was_asked_for(
    rooms: Mapping[tuple[str, str], Future[Room]], software: str, name: str
) -> None:
    room, wanted = rooms[software, name].result(), expected(INPUTS[name])
    print(room.log)
    # A word that netplan itself adds.
    said = room.log.replace("Scope= is specified for IPv6 route. It will be ignored.", "")
    assert not re.search("Unknown (key|section|lvalue)|Failed to parse|be ignored|ignoring", said)
    assert room.cards == wanted.cards
    assert room.defaults == wanted.defaults
    for place, metric in wanted.routes.items():
        assert room.routes[place] == metric or metric is None
    # Nobody learns a way out on a card that was not to ask, and whoever was told none learns one.
    assert room.routers <= wanted.routers
    told = {6 if ":" in str(gateway) else 4 for _, gateway, _ in wanted.defaults}
    assert {family for family, _ in room.routers} | told == {family for family, _ in wanted.routers} | told
