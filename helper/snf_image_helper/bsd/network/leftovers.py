# SPDX-License-Identifier: GPL-2.0-or-later
"""What the template was to its network: the only part of the BSDs' networking that looks at the guest.

Files for interfaces that are no cards (lo1, vlan10, wg0, ...) are left alone: they serve something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from snf_image_helper.bsd.network import freebsd, netbsd, openbsd
from snf_image_helper.bsd.network.ports import Facts, is_card
from snf_image_helper.files.removal import remove_files
from snf_image_helper.guest import Guest
from snf_image_helper.network import dhcpcd
from snf_image_helper.network.rendering import HEADER
from snf_image_helper.system import OsFamily

# Clients alone; a server's leases lie elsewhere.
_LEASES = {
    "/var/db": r"dhclient\.leases\..+|dhcp6c_duid",
    "/var/db/dhcpcd": r".+\.leases?6?|duid|secret|rdm_monotonic",
    "/var/db/dhcpleased": r"[A-Za-z]+[0-9]+",
    "/var/db/dhcp6leased": r"[A-Za-z]+[0-9]+|uuid",
    "/etc": r"dhcpcd\.duid",
}
_MAC = r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}"
# Files that rc(8) reads for a script of that name alone, or that lie in a directory of such a name.
_SERVICES = {
    OsFamily.FREEBSD: ("netif", "network", "routing", "rtsold", "dhcp6c", "dhcpcd"),
    OsFamily.NETBSD: ("network", "dhcpcd"),
    OsFamily.OPENBSD: (),
}
_SERVICE_PLACES = ("/etc/rc.conf.d", "/usr/local/etc/rc.conf.d")
_TEXTS = {
    OsFamily.FREEBSD: (freebsd.RC_CONF, freebsd.RC_CONF_LOCAL),
    OsFamily.NETBSD: (netbsd.RC_CONF, dhcpcd.CONFIG),
    OsFamily.OPENBSD: (openbsd.RC_CONF_LOCAL,),
}
_OURS: Mapping[OsFamily, tuple[str, ...]] = {
    OsFamily.FREEBSD: freebsd.OURS,
    OsFamily.NETBSD: netbsd.OURS,
    OsFamily.OPENBSD: openbsd.OURS,
}
_NETSTART = "/etc/netstart"


def facts_for(guest: Guest) -> Facts:
    """What the renderer of this guest's family has to know. Raises GuestError."""
    family = guest.system.family
    texts = {path: guest.read_text(path) for path in _TEXTS[family] if guest.is_file(path)}
    # What of netstart(8) is new is told by its own text; a guest without the file is taken for a new one.
    netstart = guest.read_text(_NETSTART, missing_ok=True) or "" if family is OsFamily.OPENBSD else ""
    return Facts(
        texts,
        (*filter(guest.is_file, _OURS[family]), *_COMPETING[family](guest), *_of_services(guest)),
        matches_mac=not netstart or "lladdr" in netstart,
        autoconf=not netstart or "V4_AUTOCONF" in netstart,
        dhcp6c=guest.is_file(freebsd.DHCP6C),
    )


def withdraw(guest: Guest, written: Mapping[str, object]) -> None:
    """Take back what an earlier deployment told the guest's software, unless it is about to be written again."""
    for path in _OURS[guest.system.family]:
        if path not in written and guest.is_file(path) and guest.read_text(path).startswith(HEADER):
            guest.remove(path)


def forget_leases(guest: Guest) -> int:
    """Remove leases and DHCP identities; how many there were.

    Two clones with one identity fight over one address; a lease of another network delays the boot.
    """
    return remove_files(guest, _LEASES)


def _freebsd(guest: Guest) -> Iterator[str]:
    yield from _of_cards(guest, r"start_if\.([A-Za-z]+\d*)")


def _netbsd(guest: Guest) -> Iterator[str]:
    yield from _of_cards(guest, r"ifconfig\.([A-Za-z]+\d*)")
    yield from filter(guest.is_file, ("/etc/mygate", "/etc/mygate6", "/etc/ifaliases"))


def _openbsd(guest: Guest) -> Iterator[str]:
    yield from _of_cards(guest, rf"hostname\.([A-Za-z]+\d+|{_MAC})")
    yield from filter(guest.is_file, (openbsd.MYGATE,))


def _of_cards(guest: Guest, pattern: str) -> Iterator[str]:
    for name in guest.list_directory("/etc"):
        found = re.fullmatch(pattern, name)
        if found and is_card(found[1]) and guest.is_file(f"/etc/{name}"):
            yield f"/etc/{name}"


def _of_services(guest: Guest) -> Iterator[str]:
    for service in _SERVICES[guest.system.family]:
        for place in (f"{directory}/{service}" for directory in _SERVICE_PLACES):
            if guest.is_file(place):
                yield place
            elif guest.is_dir(place):
                names = (name for name in guest.list_directory(place) if not name.startswith("."))
                yield from filter(guest.is_file, (f"{place}/{name}" for name in names))


_COMPETING: Mapping[OsFamily, Callable[[Guest], Iterator[str]]] = {
    OsFamily.FREEBSD: _freebsd,
    OsFamily.NETBSD: _netbsd,
    OsFamily.OPENBSD: _openbsd,
}
