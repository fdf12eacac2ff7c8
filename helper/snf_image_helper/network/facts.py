# SPDX-License-Identifier: GPL-2.0-or-later
"""What each renderer has to know of the guest: the only part of rendering that looks at it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from snf_image_helper.guest import Guest
from snf_image_helper.linux.distros import Distro, Family
from snf_image_helper.linux.services import has_systemd, is_enabled, is_started
from snf_image_helper.network import (
    alpine,
    dhcpcd,
    ifcfg,
    ifupdown,
    naming,
    netifrc,
    netplan,
    networkd,
    networkmanager,
    wicked,
)
from snf_image_helper.network.cards import Card
from snf_image_helper.network.leftovers import UDEV_RULES
from snf_image_helper.network.rendering import Facts, Renderer

NETWORKMANAGER_PROGRAMS = ("/usr/sbin/NetworkManager", "/usr/bin/NetworkManager")
IFCFG_DIRECTORY = "/etc/sysconfig/network-scripts"
_DPKG_STATUS = "/var/lib/dpkg/status"
_LARGEST_STATUS = 64 * 1024 * 1024  # bytes; a desktop has 5 MiB
_VERSION = re.compile(rb"^Version: (\d{1,4})\.(\d{1,4})\.(\d{1,4})", re.MULTILINE)
_FIRST_WITH_MAC = (0, 8, 35)
_LAST_WITH_IFCFG = 8


def facts_for(renderer: Renderer, guest: Guest, cards: tuple[Card, ...]) -> Facts:
    """What this renderer has to know of the guest."""
    return _FACTS[renderer](guest, cards)


def files_in(guest: Guest, directory: str, pattern: str) -> tuple[str, ...]:
    """The regular files there whose whole names fit."""
    names = guest.list_directory(directory, missing_ok=True)
    paths = (f"{directory}/{name}" for name in names if re.fullmatch(pattern, name))
    return tuple(path for path in paths if guest.is_file(path))


def runs_networkmanager(guest: Guest) -> bool:
    """Whether it is there and starts at boot."""
    # Debian's script for System V has another name.
    starts = any(is_started(guest, name) for name in ("NetworkManager", "network-manager"))
    return starts and any(map(guest.exists, NETWORKMANAGER_PROGRAMS))


def reads_ifcfg(guest: Guest) -> bool:
    """Whether the guest's NetworkManager keeps its profiles in Red Hat's files, as it did up to RHEL 8."""
    distro = Distro.of(guest)
    major = distro.version.partition(".")[0]
    old = distro.family is Family.REDHAT and major.isdigit() and int(major) <= _LAST_WITH_IFCFG
    return old and guest.is_dir(ifcfg.DIRECTORY) and runs_networkmanager(guest)


def ifcfg_files(guest: Guest, cards: tuple[Card, ...]) -> tuple[str, ...]:
    """Red Hat's profiles of Ethernet that are bound to one of our cards or to no hardware address at all."""
    macs = {card.mac for card in cards}
    profiles = ((path, guest.read_text(path)) for path in files_in(guest, IFCFG_DIRECTORY, r"ifcfg-(?!lo$).*"))
    return tuple(
        path
        for path, text in profiles
        if not re.search(r"^TYPE=(?![\"']?Ethernet)", text, re.MULTILINE)
        and _fits(text, r"^HWADDR=[\"']?([^\s\"']+)", macs)
    )


def _of_ifcfg(guest: Guest, cards: tuple[Card, ...]) -> Facts:
    """The routes of a profile go with it; and where NetworkManager reads it, it reads keyfiles, too."""
    prefix = naming.prefix_of(guest)
    ours = (f"{ifcfg.DIRECTORY}/ifcfg-{prefix}{card.number}" for card in cards)
    profiles = _with_those_in_place(guest, ifcfg_files(guest, cards), ours)
    names = [path.partition("/ifcfg-")[2] for path in profiles]
    routes = (f"{ifcfg.DIRECTORY}/{kind}-{name}" for name in names for kind in ("route", "route6"))
    managed = runs_networkmanager(guest)
    return Facts(
        (*profiles, *filter(guest.is_file, routes), *(_keyfiles(guest, cards) if managed else ())),
        backend=ifcfg.NETWORKMANAGER if managed else "scripts",
        name=prefix,
        texts=_texts(guest, ifcfg.NETWORK),
    )


def _of_networkmanager(guest: Guest, cards: tuple[Card, ...]) -> Facts:
    ours = (networkmanager.profile_path(card.number) for card in cards)
    return Facts((*_with_those_in_place(guest, _keyfiles(guest, cards), ours), *ifcfg_files(guest, cards)))


def _with_those_in_place(guest: Guest, competing: tuple[str, ...], ours: Iterable[str]) -> tuple[str, ...]:
    """Besides, what has the name of a file of ours: a profile bound to the card of the template."""
    return tuple(dict.fromkeys((*competing, *filter(guest.is_file, ours))))


def _services(guest: Guest) -> tuple[str, ...]:
    """The links that start netifrc's services for cards."""
    levels = [f"{netifrc.RUNLEVELS}/{name}" for name in guest.list_directory(netifrc.RUNLEVELS, missing_ok=True)]
    paths = (f"{level}/{name}" for level in levels for name in guest.list_directory(level, missing_ok=True))
    return tuple(path for path in paths if re.fullmatch(r".*/net\.(?!lo$)[^/]+", path) and guest.is_link(path))


def _texts(guest: Guest, path: str) -> dict[str, str]:
    return {path: guest.read_text(path)} if guest.is_file(path) else {}


def _backend(guest: Guest) -> str:
    return (
        "NetworkManager"
        if runs_networkmanager(guest) and not is_enabled(guest, "systemd-networkd.service")
        else "networkd"
    )


def _matches_mac(guest: Guest) -> bool:
    """Whether dpkg says that ifupdown is new enough to know "mac/..."; other implementations do not."""
    status = guest.read_bytes(_DPKG_STATUS, missing_ok=True, limit=_LARGEST_STATUS) or b""
    entry = re.search(rb"^Package: ifupdown\n", status, re.MULTILINE)
    if entry is None:
        return False
    end = status.find(b"\n\n", entry.end())
    found = _VERSION.search(status, entry.end(), end if end >= 0 else len(status))
    return found is not None and tuple(int(part) for part in found.groups()) >= _FIRST_WITH_MAC


def _keyfiles(guest: Guest, cards: tuple[Card, ...]) -> tuple[str, ...]:
    """Ethernet profiles bound to one of our cards or to no hardware address at all."""
    macs = {card.mac for card in cards}
    profiles = ((path, guest.read_text(path)) for path in files_in(guest, networkmanager.DIRECTORY, r"[^.].*"))
    return tuple(
        path
        for path, text in profiles
        if re.search(r"^type=(?:802-3-)?ethernet\s*$", text, re.MULTILINE) and _fits(text, r"^mac-address=(\S+)", macs)
    )


def _fits(text: str, mac: str, macs: set[str]) -> bool:
    """Whether the profile is bound to one of the cards, or to none in particular."""
    bound = re.search(mac, text, re.MULTILINE)
    return bound is None or bound[1].lower() in macs


def _of_wicked(guest: Guest) -> Facts:
    old = files_in(guest, wicked.DIRECTORY, r"(?:ifcfg|ifroute|ifsysctl)-(?:eth|en|nic).*|routes")
    return Facts((*old, *_rules(guest)), name=naming.prefix_of(guest), texts=_texts(guest, wicked.CONFIG))


def _of_netifrc(guest: Guest) -> Facts:
    old = (*_there(guest, netifrc.CONFIG), *_rules(guest), *_services(guest))
    return Facts(old, name=naming.prefix_of(guest))


def _of_dhcpcd(guest: Guest) -> Facts:
    old = (*_there(guest, dhcpcd.CONFIG), *_there(guest, dhcpcd.HOOK), *_rules(guest))
    return Facts(old, name=naming.prefix_of(guest), texts=_texts(guest, dhcpcd.CONFIG))


def _rules(guest: Guest) -> tuple[str, ...]:
    """Rules of the image for the names of cards, which it may have kept on purpose."""
    return _there(guest, UDEV_RULES)


def _there(guest: Guest, path: str) -> tuple[str, ...]:
    return (path,) if guest.is_file(path) else ()


_FACTS: Mapping[Renderer, Callable[[Guest, tuple[Card, ...]], Facts]] = {
    Renderer.NETPLAN: lambda guest, cards: Facts(
        files_in(guest, netplan.DIRECTORY, r".*\.yaml"), backend=_backend(guest)
    ),
    Renderer.NETWORKD: lambda guest, cards: Facts(files_in(guest, networkd.DIRECTORY, r".*\.network")),
    Renderer.IFUPDOWN: lambda guest, cards: Facts(
        _there(guest, ifupdown.INTERFACES), _matches_mac(guest), has_systemd(guest)
    ),
    Renderer.NETWORKMANAGER: _of_networkmanager,
    Renderer.IFCFG: _of_ifcfg,
    Renderer.WICKED: lambda guest, cards: _of_wicked(guest),
    Renderer.NETIFRC: lambda guest, cards: _of_netifrc(guest),
    Renderer.ALPINE: lambda guest, cards: Facts(_there(guest, alpine.INTERFACES)),
    Renderer.DHCPCD: lambda guest, cards: _of_dhcpcd(guest),
}
