# SPDX-License-Identifier: GPL-2.0-or-later
"""The network scripts of three BSDs in small, and a kernel that takes what ifconfig(8) and route(8) tell it.

Written from the systems' own scripts and manuals, without the code under test: FreeBSD's network.subr and
rc.d/routing, NetBSD's rc.d/network and dhcpcd.conf(5), OpenBSD's netstart(8). What is not understood fails.
"""

from __future__ import annotations

import ipaddress
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass
class Card:
    """What the kernel has of a card, and which clients look after it: "dhcp4", "ra", "dhcp6", "information"."""

    up: bool = False
    mtu: int = 1500
    addresses: list[str] = field(default_factory=list)
    clients: set[str] = field(default_factory=set)
    ways_out: bool = True  # which clients may bring


@dataclass
class Kernel:
    """Routes are (destination, gateway, card) with a priority, which is 0 where a system knows none."""

    cards: dict[str, Card]
    routes: dict[tuple[str, str | None, str], int] = field(default_factory=dict)
    leased: bool = False  # whether DHCP has been waited for

    def add(self, name: str, address: str) -> None:
        self.cards[name].addresses.append(str(ipaddress.ip_interface(address)))

    def route(self, destination: str, gateway: str | None, name: str | None, priority: int = 0) -> None:
        """A gateway has to be on a card's link, as each of the kernels wants it."""
        if gateway is not None:
            bare, _, zone = gateway.partition("%")
            name = zone or self._towards(bare)
            gateway = bare
        assert name is not None
        assert name in self.cards
        place = (destination if destination == "default" else str(ipaddress.ip_network(destination)), gateway, name)
        same = [
            other
            for other, rank in self.routes.items()
            if (other[0], ":" in str(other[1]), rank) == (place[0], ":" in str(gateway), priority)
        ]
        assert not same, f"a second route: {place}"
        self.routes[place] = priority

    def by_address(self, own: str) -> str:
        """The card with this address."""
        return next(name for name, card in self.cards.items() if own in [text.split("/")[0] for text in card.addresses])

    def _towards(self, gateway: str) -> str:
        address = ipaddress.ip_address(gateway)
        for name, card in self.cards.items():
            networks: list[Network] = [ipaddress.ip_interface(text).network for text in card.addresses]
            networks += [
                ipaddress.ip_network(destination)
                for destination, via, other in self.routes
                if via is None and other == name and destination != "default"
            ]
            if any(address in network for network in networks if network.version == address.version):
                return name
        for name, card in self.cards.items():
            if self.leased and "dhcp4" in card.clients:
                return name
        raise AssertionError(f"network is unreachable: {gateway}")


def shell_variables(text: str) -> dict[str, str]:
    """What sh(1) makes of a file of variables."""
    script = 'set -e\neval "$1"\nset'
    done = subprocess.run(["sh", "-c", script, "sh", text], capture_output=True, text=True, check=True, env={})
    found = re.finditer(r"^(\w+)='([^']*)'$", done.stdout, re.MULTILINE)
    return {match[1]: match[2] for match in found}


def freebsd(files: Mapping[str, str], names: Sequence[str]) -> Kernel:
    """rc.d/netif, rc.d/routing, dhclient and dhcp6c."""
    kernel = Kernel({name: Card() for name in names})
    rc = shell_variables(files["/etc/rc.conf"])
    for name, card in kernel.cards.items():
        words = rc.get(f"ifconfig_{name}", rc.get("ifconfig_DEFAULT", "")).split()
        if words:
            card.up = True
        for word in ("DHCP", "SYNCDHCP"):
            if word in words:
                words.remove(word)
                card.clients.add("dhcp4")
                kernel.leased |= word == "SYNCDHCP"
        _ifconfig_of_freebsd(kernel, name, words)
        ipv6 = rc.get(f"ifconfig_{name}_ipv6", "").split()
        _ifconfig_of_freebsd(kernel, name, ipv6)
        number = 0
        while alias := rc.get(f"ifconfig_{name}_alias{number}"):
            assert alias.startswith("inet ") or ipv6
            _ifconfig_of_freebsd(kernel, name, alias.split())
            number += 1
        assert not [key for key in rc if re.fullmatch(rf"ifconfig_{name}_alias\d+", key)][number:]
    for prefix in ("", "ipv6_"):
        for route in rc.get(f"{prefix}static_routes", "").split():
            _route_of_freebsd(kernel, rc[f"{prefix}route_{route}"].split())
        if f"{prefix}defaultrouter" in rc:
            _route_of_freebsd(kernel, ["default", rc[f"{prefix}defaultrouter"]])
    _dhclient(kernel, files.get("/etc/dhclient.conf", ""))
    if rc.get("dhcp6c_enable") == "YES":
        _dhcp6c(kernel, files["/usr/local/etc/dhcp6c.conf"], rc["dhcp6c_interfaces"].split())
    if any("ra" in card.clients for card in kernel.cards.values()):
        assert rc["rtsold_enable"] == "YES"
    return kernel


def _ifconfig_of_freebsd(kernel: Kernel, name: str, words: list[str]) -> None:
    card = kernel.cards[name]
    while words:
        match words:
            case ["up", *words]:
                card.up = True
            case ["mtu", number, *words]:
                card.mtu = int(number)
            case ["inet", address, "netmask", mask, *words] | ["inet6", address, "prefixlen", mask, *words]:
                kernel.add(name, f"{address}/{mask}")
            case ["inet6", "accept_rtadv", *words]:
                card.clients.add("ra")
            case ["no_radr", *words]:
                card.ways_out = False
            case _:
                raise AssertionError(words)


def _route_of_freebsd(kernel: Kernel, words: list[str]) -> None:
    match words:
        case ["default", gateway]:
            kernel.route("default", gateway, None)
        case ["-host", address, "-interface", name]:
            kernel.route(address, None, name)
        case ["-net", destination, "-interface", name]:
            kernel.route(destination, None, name)
        case ["-net", destination, gateway]:
            kernel.route(destination, gateway, None)
        case [address, "-prefixlen", prefix, "-interface", name]:
            kernel.route(f"{address}/{prefix}", None, name)
        case [address, "-prefixlen", prefix, gateway]:
            kernel.route(f"{address}/{prefix}", gateway, None)
        case _:
            raise AssertionError(words)


def _dhclient(kernel: Kernel, text: str) -> None:
    for name, block in re.findall(r'^interface "(\w+)" \{\n(.*?)^\}$', text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            words = line.strip().rstrip(";").replace(",", "").split()
            if words[0] == "request":
                kernel.cards[name].ways_out = "routers" in words
            else:
                assert words == ["supersede", "interface-mtu", str(kernel.cards[name].mtu)]


def _dhcp6c(kernel: Kernel, text: str, names: list[str]) -> None:
    for name, block in re.findall(r"^interface (\w+) \{\n(.*?)^\};$", text, re.MULTILINE | re.DOTALL):
        assert name in names
        found = re.search(r"send ia-na (\d+);", block)
        kernel.cards[name].clients.add("dhcp6" if found else "information")
        assert found is None or f"id-assoc na {found[1]} {{\n}};" in text


def netbsd(files: Mapping[str, str], names: Sequence[str]) -> Kernel:
    """rc.d/network, then dhcpcd with its hook."""
    kernel = Kernel({name: Card() for name in names})
    rc = shell_variables(files["/etc/rc.conf"])
    for name in names:
        for line in files.get(f"/etc/ifconfig.{name}", "").splitlines():
            _line_of_netbsd(kernel, name, line.replace("$int", name).split())
    for variable in ("defaultroute", "defaultroute6"):
        if variable in rc:
            kernel.route("default", rc[variable], None)
    if rc["dhcpcd"] == "YES":
        _dhcpcd(kernel, files["/etc/dhcpcd.conf"])
        kernel.leased = True
        for name in names:
            _hook(kernel, files.get("/etc/dhcpcd.exit-hook", ""), name)
    return kernel


def _line_of_netbsd(kernel: Kernel, name: str, words: list[str]) -> None:
    card = kernel.cards[name]
    match words:
        case [] | ["#", *_]:
            pass
        case ["up"]:
            card.up = True
        case ["mtu", number]:
            card.mtu = int(number)
        case ["inet", address, "netmask", mask] if not [text for text in card.addresses if "." in text]:
            kernel.add(name, f"{address}/{mask}")
        case ["inet", address, "netmask", mask, "alias"] | ["inet6", address, "prefixlen", mask, "alias"]:
            kernel.add(name, f"{address}/{mask}")
        case ["!route", "add", *arguments]:
            _route_of_netbsd(kernel, arguments)
        case _:
            raise AssertionError(words)


def _route_of_netbsd(kernel: Kernel, words: list[str]) -> None:
    match words:
        case ["-inet" | "-inet6", "-host" | "-net", destination, "-interface", own]:
            kernel.route(destination, None, kernel.by_address(own))
        case ["-inet" | "-inet6", "default", gateway]:
            kernel.route("default", gateway, None)
        case ["-inet" | "-inet6", "-net", destination, gateway]:
            kernel.route(destination, gateway, None)
        case _:
            raise AssertionError(words)


def _dhcpcd(kernel: Kernel, text: str) -> None:
    general, *blocks = re.split(r"^interface (\w+)$", text, flags=re.MULTILINE)
    allowed = re.search(r"^allowinterfaces (.*)$", general, re.MULTILINE)
    assert allowed
    assert allowed[1].split() == blocks[::2]
    for name, block in zip(blocks[::2], blocks[1::2], strict=True):
        options = {line.strip() for line in block.splitlines()} - {""}
        card = kernel.cards[name]
        if "noipv4" not in options:
            card.clients.add("dhcp4")
        if "noipv6" not in options:
            assert "ipv6rs" in options
            card.clients.add("dhcp6" if {"ipv6ra_noautoconf", "ia_na"} <= options else "ra")
            card.clients |= set() if {"nodhcp6", "ia_na"} & options else {"information"}
        routers = "nooption routers, classless_static_routes"
        card.ways_out = routers not in options and "nogateway" not in options
        known = {"noipv4", "noipv6", "ipv6rs", "slaac hwaddr", "nodhcp6", "ipv6ra_noautoconf", "ia_na", "nogateway"}
        assert options <= known | {routers, "nooption interface_mtu"}


def _hook(kernel: Kernel, text: str, name: str) -> None:
    """Run by a real shell, with a command of that name that says what it was asked."""
    script = f'interface={name} reason=BOUND\nroute() {{ echo "$@"; }}\n{text}'
    done = subprocess.run(["sh", "-eu"], input=script, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        _route_of_netbsd(kernel, line.split()[1:])


def openbsd(files: Mapping[str, str], names: Sequence[str], macs: Sequence[str]) -> Kernel:
    """netstart(8): a file named after a hardware address comes before one named after a driver."""
    kernel = Kernel({name: Card() for name in names})
    autoconf = set()
    for name, mac in zip(names, macs, strict=True):
        path = next((f"/etc/hostname.{key}" for key in (mac, name) if f"/etc/hostname.{key}" in files), None)
        for line in files[path].splitlines() if path else ():
            autoconf |= _line_of_openbsd(kernel, name, line.replace("$if", name).split())
    for line in files.get("/etc/mygate", "").splitlines():
        gateway = line.split("#")[0].strip()
        family = 6 if ":" in gateway else 4
        if gateway and family not in autoconf:
            kernel.route("default", gateway, None, 8)
    return kernel


def _line_of_openbsd(kernel: Kernel, name: str, words: list[str]) -> set[int]:
    card = kernel.cards[name]
    match words:
        case [] | ["#", *_]:
            pass
        case ["up"]:
            card.up = True
        case ["mtu", number]:
            card.mtu = int(number)
        case ["inet", "autoconf"] | ["dhcp"]:
            card.clients.add("dhcp4")
            return {4}
        case ["inet6", "autoconf"]:
            card.clients.add("ra")
            return {6}
        case ["inet6", "-soii" | "-temporary" | "-autoconfprivacy"]:
            assert "ra" not in card.clients
        case ["inet" | "inet6", *arguments]:
            _address_of_openbsd(kernel, name, words[0], arguments)
        case ["!dhcpleasectl", "-w", _, own]:
            assert own == name
            kernel.leased = True
        case ["!route", "-qn", "add", "-inet" | "-inet6", *arguments]:
            _route_of_openbsd(kernel, arguments)
        case _:
            raise AssertionError(words)
    return set()


def _address_of_openbsd(kernel: Kernel, name: str, family: str, words: list[str]) -> None:
    is_first = words[0] != "alias"
    address, mask, *rest = words if is_first else words[1:]
    assert rest == (["NONE"] if family == "inet" else [])
    assert not is_first or not [text for text in kernel.cards[name].addresses if (":" in text) == (":" in address)]
    kernel.add(name, f"{address}/{mask}")


def _route_of_openbsd(kernel: Kernel, words: list[str]) -> None:
    priority = 8
    if words[0] == "-priority":
        priority, words = int(words[1]), words[2:]
    match words:
        case [destination, "-llinfo", "-link", "-static", "-iface", name] | [
            destination,
            "-cloning",
            "-link",
            "-iface",
            name,
        ]:
            kernel.route(destination, None, name, priority)
        case [destination, gateway]:
            kernel.route(destination, gateway, None, priority)
        case _:
            raise AssertionError(words)


Reader = Callable[[Mapping[str, str], Sequence[str], Sequence[str]], Kernel]
READERS: Mapping[str, Reader] = {
    "freebsd": lambda files, names, macs: freebsd(files, names),
    "netbsd": lambda files, names, macs: netbsd(files, names),
    "openbsd": openbsd,
}


def told_links(kernel: Kernel) -> Iterator[tuple[str, str | None, str]]:
    """Routes that only lead to a gateway on a card's link."""
    gateways = {gateway for _, gateway, _ in kernel.routes if gateway}
    for destination, gateway, name in kernel.routes:
        if gateway is None and destination.partition("/")[0] in gateways:
            yield destination, gateway, name
