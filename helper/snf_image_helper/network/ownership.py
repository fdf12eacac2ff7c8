# SPDX-License-Identifier: GPL-2.0-or-later
"""Who owns the guest's network: decided from what is installed, what starts at boot and what has files of its own.

Exactly one owner is written for. What else starts and would take the same cards is named, for competition.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from snf_image_helper.guest import Guest
from snf_image_helper.linux.distros import Distro, Family
from snf_image_helper.linux.services import is_enabled, is_started, knows_init
from snf_image_helper.network import ifupdown, netplan, networkd
from snf_image_helper.network.facts import IFCFG_DIRECTORY, files_in, reads_ifcfg, runs_networkmanager
from snf_image_helper.network.rendering import Renderer
from snf_image_shared.properties import Properties

NM_NETWORKING = "NM_NETWORKING"


@dataclass(frozen=True)
class Seen:
    """`started` are those that are installed and begin at boot; `configured` those of them that have cards to serve.

    Unless it `knows_init`, what is installed is only taken to begin. `reads_ifcfg`: NetworkManager does, up to RHEL 8.
    """

    started: frozenset[Renderer] = frozenset()
    configured: frozenset[Renderer] = frozenset()
    knows_init: bool = True
    reads_ifcfg: bool = False


@dataclass(frozen=True)
class Decision:
    """`owner` is None when there is nothing we write for. `reason` is a sentence; `others` would take the same cards.

    In the order of the decision.
    """

    owner: Renderer | None
    reason: str
    others: tuple[Renderer, ...] = ()


def decide(guest: Guest, wishes: Properties) -> Decision:
    """Who owns the network of this guest, unless a property asks for NetworkManager."""
    seen = look(guest)
    if wishes.flag(NM_NETWORKING):
        return _decision(Renderer.NETWORKMANAGER, f"the property {NM_NETWORKING} asks for it", seen)
    for owner, is_owner, reason in _RULES:
        if owner in seen.started and is_owner(seen):
            return _decision(owner, reason, seen)
    return Decision(None, "none that is known starts at boot")


def look(guest: Guest) -> Seen:
    """What of the guest the decision is made from."""
    started = frozenset(renderer for renderer, starts in _STARTED.items() if starts(guest))
    configured = frozenset(item for item in started if item in _CONFIGURED and _CONFIGURED[item](guest))
    return Seen(started, configured, knows_init(guest), reads_ifcfg(guest))


def _decision(owner: Renderer, reason: str, seen: Seen) -> Decision:
    # Software that has no card in its files leaves them all, but for those that take whatever they find.
    active = seen.configured | (seen.started & _GRASPING)
    if owner is Renderer.IFCFG and seen.reads_ifcfg:
        active -= {Renderer.NETWORKMANAGER}  # it does what the files say
    return Decision(
        owner, reason, tuple(dict.fromkeys(item for item, _, _ in _RULES if item in active and item is not owner))
    )


def _has_netplan(guest: Guest) -> bool:
    return _first(guest, _NETPLAN) and guest.is_dir(netplan.DIRECTORY)


def _starts_ifupdown(guest: Guest, *, alpine: bool) -> bool:
    # Red Hat has a command of that name, and never had this directory.
    if not (_first(guest, _IFUP) and guest.is_dir(ifupdown.INTERFACES.rpartition("/")[0])):
        return False
    # A tree without the service's own files says nothing about it: then the program counts.
    known = _first(guest, _NETWORKING)
    return (not known or is_started(guest, "networking")) and (Distro.of(guest).family is Family.ALPINE) is alpine


def _starts_wicked(guest: Guest) -> bool:
    # SUSE's network.service is an alias of the one that is in charge.
    return _first(guest, _WICKED) and (
        is_started(guest, "wicked") or (guest.link_target(_SUSE_ALIAS) or "").endswith("/wicked.service")
    )


def _starts_dhcpcd(guest: Guest) -> bool:
    return _first(guest, _DHCPCD) and guest.is_file("/etc/dhcpcd.conf") and is_started(guest, "dhcpcd")


def _starts_netifrc(guest: Guest) -> bool:
    runlevels = ("/etc/runlevels/default", "/etc/runlevels/boot")
    return guest.exists("/etc/init.d/net.lo") and any(
        name.startswith("net.") and name != "net.lo"
        for level in runlevels
        for name in guest.list_directory(level, missing_ok=True)
    )


def _configures_cards(guest: Guest) -> bool:
    """Whether interfaces(5), or a file it may source, speaks of more than the loopback."""
    paths = (ifupdown.INTERFACES, *files_in(guest, f"{ifupdown.INTERFACES}.d", r"[^.].*"))
    texts = (guest.read_text(path, missing_ok=True) or "" for path in paths)
    return any(re.search(r"^[ \t]*iface[ \t]+(?!lo\s)\S", text, re.MULTILINE) for text in texts)


def _has_networkd_files(guest: Guest) -> bool:
    """Whether somebody wrote files for networkd: not systemd itself, which brings 80-* and 89-*, and not we."""
    theirs = rf"(?!{re.escape(networkd.PREFIX)}).*\.network"
    return bool(files_in(guest, networkd.DIRECTORY, theirs)) or any(
        files_in(guest, directory, r"(?!8[09]-).*\.network") for directory in _VENDORS_NETWORKD
    )


def _first(guest: Guest, paths: tuple[str, ...]) -> bool:
    return any(map(guest.exists, paths))


_NETPLAN = ("/usr/sbin/netplan", "/usr/libexec/netplan/generate", "/usr/lib/netplan/generate", "/lib/netplan/generate")
_IFUP = ("/usr/sbin/ifup", "/sbin/ifup")
_NETWORKING = (
    "/usr/lib/systemd/system/networking.service",
    "/lib/systemd/system/networking.service",
    "/etc/init.d/networking",
)
_WICKED = ("/usr/sbin/wicked", "/sbin/wicked")
_DHCPCD = ("/usr/sbin/dhcpcd", "/sbin/dhcpcd", "/usr/bin/dhcpcd")
_SUSE_ALIAS = "/etc/systemd/system/network.service"
_RED_HAT_SCRIPTS = ("/etc/init.d/network", "/etc/rc.d/init.d/network")
_VENDORS_NETWORKD = ("/usr/lib/systemd/network", "/lib/systemd/network")
_GRASPING = frozenset({Renderer.NETWORKMANAGER, Renderer.DHCPCD})

_STARTED: dict[Renderer, Callable[[Guest], bool]] = {
    Renderer.NETPLAN: _has_netplan,  # a generator of systemd's: nothing has to be enabled
    Renderer.NETWORKD: lambda guest: is_enabled(guest, "systemd-networkd.service"),
    Renderer.IFUPDOWN: lambda guest: _starts_ifupdown(guest, alpine=False),
    Renderer.ALPINE: lambda guest: _starts_ifupdown(guest, alpine=True),
    Renderer.NETWORKMANAGER: runs_networkmanager,
    Renderer.WICKED: _starts_wicked,
    Renderer.IFCFG: lambda guest: (
        reads_ifcfg(guest) or (_first(guest, _RED_HAT_SCRIPTS) and is_started(guest, "network"))
    ),
    Renderer.DHCPCD: _starts_dhcpcd,
    Renderer.NETIFRC: _starts_netifrc,
}
_CONFIGURED: dict[Renderer, Callable[[Guest], bool]] = {
    Renderer.NETPLAN: lambda guest: bool(files_in(guest, netplan.DIRECTORY, r".*\.yaml")),
    Renderer.NETWORKD: _has_networkd_files,
    Renderer.IFUPDOWN: _configures_cards,
    Renderer.ALPINE: _configures_cards,
    Renderer.WICKED: lambda guest: bool(files_in(guest, "/etc/sysconfig/network", r"ifcfg-(?!lo$).*")),
    Renderer.IFCFG: lambda guest: bool(files_in(guest, IFCFG_DIRECTORY, r"ifcfg-(?!lo$).*")),
    Renderer.NETIFRC: lambda guest: True,
}
# The first that starts and fulfils its condition owns the network.
_RULES: tuple[tuple[Renderer, Callable[[Seen], bool], str], ...] = (
    (
        Renderer.NETPLAN,
        lambda seen: Renderer.NETPLAN in seen.configured or Renderer.IFUPDOWN not in seen.configured,
        "netplan is installed, and writes for the others at each boot",
    ),
    (
        Renderer.NETWORKD,
        lambda seen: Renderer.NETWORKD in seen.configured,
        "it starts at boot and has files of its own",
    ),
    (
        Renderer.IFUPDOWN,
        lambda seen: Renderer.IFUPDOWN in seen.configured,
        "it starts at boot and has cards in its interfaces",
    ),
    (
        Renderer.IFCFG,
        lambda seen: seen.knows_init and seen.reads_ifcfg,
        "up to RHEL 8 both NetworkManager, which starts at boot, and Red Hat's network service read its files",
    ),
    (
        Renderer.NETWORKMANAGER,
        lambda seen: seen.knows_init,
        "it starts at boot, and nothing else has cards in its files",
    ),
    (Renderer.NETWORKD, lambda seen: True, "it starts at boot, and nothing else has cards in its files"),
    (Renderer.WICKED, lambda seen: True, "it is the network service that starts at boot"),
    (Renderer.DHCPCD, lambda seen: True, "it starts at boot, and takes every card"),
    (Renderer.IFUPDOWN, lambda seen: True, "it is installed, and nothing else takes cards"),
    (Renderer.ALPINE, lambda seen: True, "it is Alpine's own, and nothing else takes cards"),
    (Renderer.IFCFG, lambda seen: True, "Red Hat's network service starts at boot, and nothing else takes cards"),
    (Renderer.NETIFRC, lambda seen: True, "a net.* service of Gentoo's starts at boot"),
    (Renderer.NETWORKMANAGER, lambda seen: True, "it is installed, and nothing else is"),
)
