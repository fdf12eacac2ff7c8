# SPDX-License-Identifier: GPL-2.0-or-later
"""What the image's template was to its network: leases, DHCP identities, card names.

Two clones with one DUID fight over one address; a lease of another network delays the boot. All of it is made anew.
"""

from __future__ import annotations

import re

from snf_image_helper.guest import Guest
from snf_image_helper.network.name_servers import BESIDES
from snf_image_helper.network.rendering import BACKUP, HEADER

UDEV_RULES = "/etc/udev/rules.d/70-persistent-net.rules"
_LEASES = r".*\.leases?6?"
# Of clients alone: the leases that a DHCP server of the guest has given away lie in the same directories.
_LEFTOVERS = {
    "/etc": r"dhcpcd\.duid",
    "/var/lib/dhcp": rf"dhclient{_LEASES}",  # Debian; dhcpd.leases is the server's
    "/var/lib/dhclient": _LEASES,  # dhclient, Red Hat
    "/var/lib/dhcpcd": rf"{_LEASES}|duid|secret",
    "/var/lib/dhcpcd5": rf"{_LEASES}|duid|secret",
    "/var/lib/NetworkManager": rf"(?!dnsmasq-){_LEASES}|secret_key|timestamps",  # dnsmasq serves shared connections
    "/var/lib/wicked": r"(duid|iaid|lease-.*)\.xml",
}


def forget(guest: Guest) -> None:
    """Remove it; rules that tie the names of cards to other cards are only put out of the way.

    An image may be the snapshot of an instance of ours: what its resolver was told is nothing for the next one.
    """
    for directory, pattern in _LEFTOVERS.items():
        for name in guest.list_directory(directory, missing_ok=True):
            if re.fullmatch(pattern, name) and guest.is_file(f"{directory}/{name}"):
                guest.remove(f"{directory}/{name}")
    for path in BESIDES:
        if _is_ours(guest, path):
            guest.remove(path)
    if guest.is_file(UDEV_RULES) and not _is_ours(guest, UDEV_RULES):
        guest.rename(UDEV_RULES, UDEV_RULES + BACKUP)


def _is_ours(guest: Guest, path: str) -> bool:
    return guest.is_file(path) and guest.read_text(path).startswith(HEADER)
