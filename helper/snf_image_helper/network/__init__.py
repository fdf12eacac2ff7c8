# SPDX-License-Identifier: GPL-2.0-or-later
"""From the job's network cards to the files that the guest's own network software reads: the choice and the table.

A renderer is pure: cards and facts in, files out. Only facts_for() and choose() look at the guest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from snf_image_helper.distros import Distro, Family
from snf_image_helper.guest import Guest
from snf_image_helper.network import (
    alpine,
    dhcpcd,
    ifcfg,
    ifupdown,
    name_servers,
    netifrc,
    netplan,
    networkd,
    networkmanager,
    wicked,
)
from snf_image_helper.network.cards import Card
from snf_image_helper.network.rendering import Facts, Rendered, Renderer
from snf_image_shared.properties import Properties

RENDERERS: Mapping[Renderer, Callable[[tuple[Card, ...], Facts], Rendered]] = {
    Renderer.NETPLAN: netplan.render,
    Renderer.NETWORKD: networkd.render,
    Renderer.IFUPDOWN: ifupdown.render,
    Renderer.NETWORKMANAGER: networkmanager.render,
    Renderer.IFCFG: ifcfg.render,
    Renderer.WICKED: wicked.render,
    Renderer.NETIFRC: netifrc.render,
    Renderer.ALPINE: alpine.render,
    Renderer.DHCPCD: dhcpcd.render,
}
__all__ = ["RENDERERS", "Renderer", "choose", "chosen", "facts_for", "files_for", "is_enabled"]


def choose(guest: Guest) -> Renderer | None:
    """What the guest has installed and uses; None when it is nothing we write for.

    networkd and NetworkManager have to be enabled, and yield to ifupdown where only that has cards configured. Where it
    has none, NetworkManager takes every card, also one of which interfaces(5) speaks by its MAC address.
    """
    netplan_files = _files(guest, netplan.DIRECTORY, r".*\.yaml")
    classic = _has_ifupdown(guest)
    configured = classic and _configures_cards(guest)
    if _first(guest, _NETPLAN) and guest.is_dir(netplan.DIRECTORY) and (netplan_files or not configured):
        return Renderer.NETPLAN
    its_own = not configured or bool(_files(guest, networkd.DIRECTORY, r".*\.network"))
    if its_own and is_enabled(guest, "systemd-networkd.service"):
        return Renderer.NETWORKD
    managed = _has_networkmanager(guest)
    if classic and (configured or not (managed and is_enabled(guest, _NETWORKMANAGER_UNIT))):
        return Renderer.IFUPDOWN
    return Renderer.NETWORKMANAGER if managed else None


def chosen(guest: Guest, wishes: Properties) -> Renderer | None:
    """What ConfigureNetwork writes for: as choose(), unless a property asks for NetworkManager."""
    return Renderer.NETWORKMANAGER if wishes.flag("NM_NETWORKING") else choose(guest)


def files_for(renderer: Renderer, guest: Guest, cards: tuple[Card, ...]) -> Rendered:
    """All that makes the cards work in this guest, name servers included."""
    facts = facts_for(renderer, guest, cards)
    rendered = RENDERERS[renderer](cards, facts)
    if renderer is Renderer.NETWORKMANAGER or facts.backend == "NetworkManager":
        return rendered
    names = name_servers.names_of(guest, resolved=is_enabled(guest, name_servers.RESOLVED))
    # The hook of ifupdown 0.8.41 for systemd-resolved is there, but does nothing: its assignments are quoted.
    tell_resolved = renderer is Renderer.IFUPDOWN
    return rendered.beside(name_servers.render(cards, names, tell_resolved=tell_resolved))


def facts_for(renderer: Renderer, guest: Guest, cards: tuple[Card, ...]) -> Facts:
    """What this renderer has to know of the guest."""
    match renderer:
        case Renderer.NETPLAN:
            managed = _has_networkmanager(guest) and not is_enabled(guest, "systemd-networkd.service")
            return Facts(
                _files(guest, netplan.DIRECTORY, r".*\.yaml"), backend="NetworkManager" if managed else "networkd"
            )
        case Renderer.NETWORKD:
            return Facts(_files(guest, networkd.DIRECTORY, r".*\.network"))
        case Renderer.IFUPDOWN:
            old = (ifupdown.INTERFACES,) if guest.is_file(ifupdown.INTERFACES) else ()
            return Facts(old, _matches_mac(guest), Distro.of(guest).family is not Family.ALPINE)
        case Renderer.NETWORKMANAGER:
            return Facts(_profiles(guest, cards))
        case Renderer.IFCFG | Renderer.WICKED | Renderer.NETIFRC | Renderer.ALPINE | Renderer.DHCPCD:
            return Facts()


def is_enabled(guest: Guest, unit: str) -> bool:
    """Whether a systemd target wants the unit, and nobody masked it."""
    if guest.link_target(f"/etc/systemd/system/{unit}") == "/dev/null":
        return False
    return any(
        guest.is_link(f"{directory}/{name}/{unit}") or guest.exists(f"{directory}/{name}/{unit}")
        for directory in _UNIT_DIRECTORIES
        for name in guest.list_directory(directory, missing_ok=True)
        if name.endswith((".wants", ".requires"))
    )


_UNIT_DIRECTORIES = ("/etc/systemd/system", "/usr/lib/systemd/system")
_NETPLAN = ("/usr/sbin/netplan", "/usr/libexec/netplan/generate", "/usr/lib/netplan/generate", "/lib/netplan/generate")
_IFUP = ("/usr/sbin/ifup", "/sbin/ifup")
_NETWORKMANAGER = ("/usr/sbin/NetworkManager", "/usr/bin/NetworkManager")
_SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
_NETWORKMANAGER_UNIT = "NetworkManager.service"
_DPKG_STATUS = "/var/lib/dpkg/status"
_LARGEST_STATUS = 64 * 1024 * 1024  # bytes; a desktop has 5 MiB
_FIRST_WITH_MAC = (0, 8, 35)
_IFCFG_DIRECTORY = "/etc/sysconfig/network-scripts"


def _first(guest: Guest, paths: tuple[str, ...]) -> bool:
    return any(guest.exists(path) for path in paths)


def _has_ifupdown(guest: Guest) -> bool:
    # Red Hat has a command of that name, and never had this directory.
    return _first(guest, _IFUP) and guest.is_dir(ifupdown.INTERFACES.rpartition("/")[0])


def _has_networkmanager(guest: Guest) -> bool:
    return _first(guest, _NETWORKMANAGER) and (is_enabled(guest, _NETWORKMANAGER_UNIT) or not _first(guest, _SYSTEMD))


def _configures_cards(guest: Guest) -> bool:
    """Whether interfaces(5), or a file it may source, speaks of more than the loopback."""
    paths = (ifupdown.INTERFACES, *_files(guest, f"{ifupdown.INTERFACES}.d", r"[^.].*"))
    texts = (guest.read_text(path, missing_ok=True) or "" for path in paths)
    return any(re.search(r"^[ \t]*iface[ \t]+(?!lo\s)\S", text, re.MULTILINE) for text in texts)


def _matches_mac(guest: Guest) -> bool:
    """Whether dpkg says that ifupdown is new enough to know "mac/..."; other implementations do not."""
    status = guest.read_bytes(_DPKG_STATUS, missing_ok=True, limit=_LARGEST_STATUS) or b""
    entry = re.search(rb"^Package: ifupdown\n(?:(?!Package:).+\n)*?Version: (\d+)\.(\d+)\.(\d+)", status, re.MULTILINE)
    return entry is not None and tuple(int(part) for part in entry.groups()) >= _FIRST_WITH_MAC


def _files(guest: Guest, directory: str, pattern: str) -> tuple[str, ...]:
    names = guest.list_directory(directory, missing_ok=True)
    paths = (f"{directory}/{name}" for name in names if re.fullmatch(pattern, name))
    return tuple(path for path in paths if guest.is_file(path))


def _profiles(guest: Guest, cards: tuple[Card, ...]) -> tuple[str, ...]:
    """Ethernet profiles bound to one of our cards or to no card at all, old ifcfg files included."""
    macs = {card.mac for card in cards}
    keyfiles = (
        path
        for path in _files(guest, networkmanager.DIRECTORY, r"[^.].*")
        if _fits(guest.read_text(path), r"^type=(?:802-3-)?ethernet\s*$", r"^mac-address=(\S+)", macs)
    )
    ifcfg = (
        path
        for path in _files(guest, _IFCFG_DIRECTORY, r"ifcfg-(?!lo$).*")
        if _fits(guest.read_text(path), r"\A(?!(?:.*\n)*TYPE=(?![\"']?Ethernet))", r"^HWADDR=[\"']?([^\s\"']+)", macs)
    )
    return (*keyfiles, *ifcfg)


def _fits(text: str, wanted: str, mac: str, macs: set[str]) -> bool:
    """Whether the profile is of the wanted type and bound to one of the cards, or to none in particular."""
    bound = re.search(mac, text, re.MULTILINE)
    return bool(re.search(wanted, text, re.MULTILINE)) and (bound is None or bound[1].lower() in macs)
