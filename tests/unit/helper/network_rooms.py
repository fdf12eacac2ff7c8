# SPDX-License-Identifier: GPL-2.0-or-later
"""Rooms where a guest's own network software brings up its cards, on links where a router and a DHCP server answer.

What a card should get is worked out here from the job's NICs alone, without the code under test.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from snf_image_helper.network.rendering import Rendered, Renderer
from snf_image_shared.job import Ipv4Method, Ipv6Method, Nic
from unit.helper.guest_tools import GuestTools
from unit.helper.guest_trees import put

# Names that no card has by chance: the software has to find its cards by their addresses.
NAMES = ("enp9s0", "eth7", "wan", "lan", "ens3", "eno1", "p4p1")

# Every link has a router that announces itself, and a server for whoever asks. Who does not forward says so when asked
# whether he is still there, seconds later, and the way through him is then forgotten.
_OUTSIDE = """
mkdir -p /run/netns
ip netns add outside
ip netns exec outside sh -c "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
ip -n outside link set lo up
{links}
ip netns exec outside {dnsmasq} --keep-in-foreground --conf-file=/dev/null --no-hosts --no-resolv --port=0 --user=root \
    --pid-file= --leasefile-ro --bind-interfaces --dhcp-authoritative --no-ping --enable-ra \
    {ranges} > /run/dnsmasq 2>&1 &
"""
_UNMANAGED = "/etc/NetworkManager/conf.d/99-snf-image.conf"
_LINK = """
ip link set far{number} netns outside
ip -n outside link set far{number} up
ip -n outside address add 10.{number}.0.1/24 dev far{number}
ip -n outside address add 2001:db8:f{number}::1/64 dev far{number} nodad
"""
_SETTLED = """
tries=0
until [ "$(ip -o address show scope global -tentative | wc -l)" -ge {addresses} ] &&
    [ "$(ip -4 route show default | wc -l)" -ge {defaults4} ] &&
    [ "$(ip -6 route show default | wc -l)" -ge {defaults6} ]; do
    tries=$((tries + 1))
    [ $tries -lt 1500 ] || break
    sleep 0.1
done
"""
_KERNEL = r"""
echo ---; ip -json address; echo ---; ip -json -4 route; echo ---; ip -json -6 route; echo ---
"""


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

Place = tuple[str, str | None, str]  # destination, gateway, card


@dataclass
class Card:
    """What the kernel says of a card, or what it should say."""

    up: bool = False
    mtu: int = 1500
    addresses: set[str] = field(default_factory=set)


@dataclass
class Room:
    """Cards by name, and routes with their metrics: None for one that nobody chose.

    `routers` are the families and cards of default routes that no NIC names, but a router or a server.
    """

    cards: dict[str, Card] = field(default_factory=dict)
    routes: dict[Place, int | None] = field(default_factory=dict)
    routers: set[tuple[int, str]] = field(default_factory=set)
    log: str = ""

    @property
    def defaults(self) -> set[Place]:
        return {place for place in self.routes if place[0] == "default"}


def bring_up(tools: GuestTools, program: str, rendered: Rendered, nics: Sequence[Nic], directory: Path) -> Room:
    """Run `program`, a shell script that starts the network with the files; then look at the kernel."""
    for path, file in rendered.files.items():
        put(directory / "root", {path: file.text})
        (directory / "root" / path.lstrip("/")).chmod(file.mode)
    awaited = expected(nics)
    script = _OUTSIDE.format(
        links="".join(_LINK.format(number=number) for number in range(len(nics))),
        ranges=" ".join(_ranges(nics)),
        dnsmasq=f"{tools.root}/usr/sbin/dnsmasq",
    )
    settled = _SETTLED.format(
        addresses=sum(len(card.addresses) for card in awaited.cards.values()),
        defaults4=int(_families(awaited, 4)),
        defaults6=int(_families(awaited, 6)),
    )
    names = {name: nic.mac for name, nic in zip(NAMES, nics, strict=False)}
    # NetworkManager means the address that a card was made with, and these cards have none.
    told = "".join(f"sed -i s/mac:{mac}/interface-name:{name}/ {_UNMANAGED} || true\n" for name, mac in names.items())
    look = _KERNEL + "cat /run/log 2>/dev/null || true"
    (directory / "root/etc").mkdir(parents=True, exist_ok=True)
    said = tools.run_in_room(
        script + told + program + settled + look, directory / "root/etc", directory / "room", names
    )
    _, links, routes4, routes6, log = said.split("---\n", 4)
    return _seen(json.loads(links), json.loads(routes4) + json.loads(routes6), log)


def check_kernel(room: Room, nics: Sequence[Nic]) -> None:
    """Fail unless the kernel has what the cards were ordered with, and nobody else's way out was learnt."""
    wanted = expected(nics)
    print(room.log)
    assert room.cards == wanted.cards
    assert room.defaults == wanted.defaults
    for place, metric in wanted.routes.items():
        assert room.routes[place] == metric or metric is None
    assert {family for family, _ in room.routers} == {family for family, _ in wanted.routers}


def expected(nics: Sequence[Nic]) -> Room:
    """What these NICs ask for on the links that bring_up() makes. An address of a pool is that pool's network."""
    room = Room()
    for number, (name, nic) in enumerate(zip(NAMES, nics, strict=False)):
        addresses = {text for text in (nic.address4, nic.address6, *nic.addresses) if text}
        if nic.ipv4 is Ipv4Method.DHCP:
            addresses.add(f"10.{number}.0.0/24")
            room.routers.add((4, name))
        if nic.ipv6 in {Ipv6Method.SLAAC, Ipv6Method.SLAAC_DHCP}:
            addresses.add(f"{_of_hardware(nic.mac, number)}/64")
        elif nic.ipv6 is Ipv6Method.DHCP:
            addresses.add(f"2001:db8:f{number}::/64")
        if nic.ipv6 not in {Ipv6Method.NONE, Ipv6Method.STATIC}:
            room.routers.add((6, name))
        room.cards[name] = Card(bool(addresses or nic.mtu), nic.mtu or 1500, addresses)
        for route in nic.routes:
            to = "default" if route.destination in {"0.0.0.0/0", "::/0"} else route.destination
            room.routes[to, route.gateway, name] = route.metric or None
    # A gateway that belongs to the network gives way to a default route that was asked for, and to an earlier one.
    for gateways in ([nic.gateway4 for nic in nics], [nic.gateway6 for nic in nics]):
        first = next(((via, name) for via, name in zip(gateways, NAMES, strict=False) if via), None)
        if first and not any((":" in str(via)) == (":" in first[0]) for _, via, _ in room.defaults):
            room.routes["default", first[0], first[1]] = None
    return room


def _ranges(nics: Sequence[Nic]) -> Iterator[str]:
    """How dnsmasq serves each link; those who are not to ask find everything."""
    for number, nic in enumerate(nics):
        yield f"--dhcp-range=10.{number}.0.100,10.{number}.0.199,255.255.255.0,1h"
        prefix = f"2001:db8:f{number}::"
        match nic.ipv6:
            case Ipv6Method.DHCP:
                yield f"--dhcp-range={prefix}100,{prefix}1ff,64,1h"
            case Ipv6Method.SLAAC_DHCP:
                yield f"--dhcp-range={prefix},ra-stateless,64,1h"
            case _:
                yield f"--dhcp-range={prefix},ra-only,64,1h"


def _of_hardware(mac: str, number: int) -> ipaddress.IPv6Address:
    """RFC 4291, appendix A."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identity = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    prefix = ipaddress.IPv6Address(f"2001:db8:f{number}::")
    return ipaddress.IPv6Address(prefix.packed[:8] + identity)


def _families(room: Room, version: int) -> bool:
    """Whether there is to be a default route of this family."""
    static = any((":" in str(via)) == (version == 6) for _, via, _ in room.defaults)
    return static or any(family == version for family, _ in room.routers)


def _seen(links: list[dict[str, Any]], routes: list[dict[str, Any]], log: str) -> Room:
    room = Room(log=log)
    for link in links:
        if link["ifname"] in NAMES:
            found = [one for one in link["addr_info"] if one["scope"] == "global"]
            addresses = {_place_of(one["local"], one["prefixlen"]) for one in found}
            room.cards[link["ifname"]] = Card("UP" in link["flags"], link["mtu"], addresses)
    for route in (one | hop for one in routes for hop in one.get("nexthops", [{}])):
        via, name = route.get("gateway"), route["dev"]
        if route["dst"] == "default" and str(via).startswith(("10.", "fe80::")) and via not in {"fe80::1"}:
            room.routers.add((6 if ":" in str(via) else 4, name))
        elif route.get("protocol") != "kernel":
            room.routes[route["dst"], via, name] = route.get("metric", 0)
    return room


def _place_of(address: str, prefix: int) -> str:
    """An address, or the pool of bring_up()'s that it is from."""
    found = ipaddress.ip_address(address)
    for number in range(len(NAMES)):
        for pool in (f"10.{number}.0.0/24", f"2001:db8:f{number}::/64"):
            network = ipaddress.ip_network(pool)
            if found in network and 0x64 <= int(found) - int(network.network_address) <= 0x1FF:
                return pool
    return f"{address}/{prefix}"


def renamed(rendered: Rendered, prefix: str) -> Rendered:
    """What knows cards by names, with those that they have in a room, where no udev gives them others."""
    files = rendered.files
    for number, name in enumerate(NAMES):
        pattern = rf"\b{prefix}{number}\b"
        files = {
            re.sub(pattern, name, path): replace(file, text=re.sub(pattern, name, file.text))
            for path, file in files.items()
        }
    return Rendered(files)
