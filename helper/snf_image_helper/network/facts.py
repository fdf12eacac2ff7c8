# SPDX-License-Identifier: GPL-2.0-or-later
"""What each renderer has to know of the guest: the only part of rendering that looks at it."""

from __future__ import annotations

import re

from snf_image_helper.distros import Distro, Family
from snf_image_helper.guest import Guest
from snf_image_helper.network import ifupdown, netplan, networkd, networkmanager
from snf_image_helper.network.cards import Card
from snf_image_helper.network.rendering import Facts, Renderer
from snf_image_helper.services import is_enabled, is_started

NETWORKMANAGER_PROGRAMS = ("/usr/sbin/NetworkManager", "/usr/bin/NetworkManager")
IFCFG_DIRECTORY = "/etc/sysconfig/network-scripts"
_DPKG_STATUS = "/var/lib/dpkg/status"
_LARGEST_STATUS = 64 * 1024 * 1024  # bytes; a desktop has 5 MiB
_FIRST_WITH_MAC = (0, 8, 35)


def facts_for(renderer: Renderer, guest: Guest, cards: tuple[Card, ...]) -> Facts:
    """What this renderer has to know of the guest."""
    match renderer:
        case Renderer.NETPLAN:
            return Facts(files_in(guest, netplan.DIRECTORY, r".*\.yaml"), backend=_backend(guest))
        case Renderer.NETWORKD:
            return Facts(files_in(guest, networkd.DIRECTORY, r".*\.network"))
        case Renderer.IFUPDOWN:
            old = (ifupdown.INTERFACES,) if guest.is_file(ifupdown.INTERFACES) else ()
            return Facts(old, _matches_mac(guest), Distro.of(guest).family is not Family.ALPINE)
        case Renderer.NETWORKMANAGER:
            return Facts((*_keyfiles(guest, cards), *ifcfg_files(guest, cards)))
        case Renderer.IFCFG | Renderer.WICKED | Renderer.NETIFRC | Renderer.ALPINE | Renderer.DHCPCD:
            return Facts()


def files_in(guest: Guest, directory: str, pattern: str) -> tuple[str, ...]:
    """The regular files there whose whole names fit."""
    names = guest.list_directory(directory, missing_ok=True)
    paths = (f"{directory}/{name}" for name in names if re.fullmatch(pattern, name))
    return tuple(path for path in paths if guest.is_file(path))


def runs_networkmanager(guest: Guest) -> bool:
    """Whether it is there and starts at boot."""
    return any(map(guest.exists, NETWORKMANAGER_PROGRAMS)) and is_started(guest, "NetworkManager")


def ifcfg_files(guest: Guest, cards: tuple[Card, ...]) -> tuple[str, ...]:
    """Red Hat's profiles of Ethernet that are bound to one of our cards or to no hardware address at all."""
    return tuple(
        path
        for path in files_in(guest, IFCFG_DIRECTORY, r"ifcfg-(?!lo$).*")
        if _fits(
            guest.read_text(path),
            r"\A(?!(?:.*\n)*TYPE=(?![\"']?Ethernet))",
            r"^HWADDR=[\"']?([^\s\"']+)",
            {card.mac for card in cards},
        )
    )


def _backend(guest: Guest) -> str:
    return (
        "NetworkManager"
        if runs_networkmanager(guest) and not is_enabled(guest, "systemd-networkd.service")
        else "networkd"
    )


def _matches_mac(guest: Guest) -> bool:
    """Whether dpkg says that ifupdown is new enough to know "mac/..."; other implementations do not."""
    status = guest.read_bytes(_DPKG_STATUS, missing_ok=True, limit=_LARGEST_STATUS) or b""
    entry = re.search(rb"^Package: ifupdown\n(?:(?!Package:).+\n)*?Version: (\d+)\.(\d+)\.(\d+)", status, re.MULTILINE)
    return entry is not None and tuple(int(part) for part in entry.groups()) >= _FIRST_WITH_MAC


def _keyfiles(guest: Guest, cards: tuple[Card, ...]) -> tuple[str, ...]:
    """Ethernet profiles bound to one of our cards or to no hardware address at all."""
    return tuple(
        path
        for path in files_in(guest, networkmanager.DIRECTORY, r"[^.].*")
        if _fits(
            guest.read_text(path),
            r"^type=(?:802-3-)?ethernet\s*$",
            r"^mac-address=(\S+)",
            {card.mac for card in cards},
        )
    )


def _fits(text: str, wanted: str, mac: str, macs: set[str]) -> bool:
    """Whether the profile is of the wanted type and bound to one of the cards, or to none in particular."""
    bound = re.search(mac, text, re.MULTILINE)
    return bool(re.search(wanted, text, re.MULTILINE)) and (bound is None or bound[1].lower() in macs)
