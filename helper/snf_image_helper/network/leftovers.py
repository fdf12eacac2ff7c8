# SPDX-License-Identifier: GPL-2.0-or-later
"""What the image's template was to its network: leases, DHCP identities, card names.

Two clones with one DUID fight over one address; a lease of another network delays the boot. ResetIdentity removes all
of it; the guest makes it anew.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from snf_image_helper.files.removal import remove_files
from snf_image_helper.guest import Guest
from snf_image_helper.network import networkd, networkmanager
from snf_image_helper.network.name_servers import BESIDES
from snf_image_helper.network.rendering import BACKUP, HEADER

_UDEV = "/etc/udev/rules.d"
UDEV_RULES = f"{_UDEV}/70-persistent-net.rules"
_RULES = re.compile(r"(70-|z[0-9]*_)persistent-net\.rules")  # the latter is what udev before 124 wrote in Debian
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


def forget_leases(guest: Guest) -> int:
    """Remove leases and DHCP identities; how many there were."""
    return remove_files(guest, _LEFTOVERS)


def retire_rules(guest: Guest) -> int:
    """Put udev's rules out of the way that tie the names of cards to other cards; how many there were."""
    names = sorted(guest.list_directory(_UDEV, missing_ok=True))
    paths = [f"{_UDEV}/{name}" for name in names if _RULES.fullmatch(name)]
    found = [path for path in paths if guest.is_file(path) and not _is_ours(guest, path)]
    for path in found:
        guest.rename(path, path + BACKUP)
    return len(found)


def withdraw(guest: Guest, written: Collection[str]) -> None:
    """Take back what an earlier deployment told the guest's software, unless it is about to be written again.

    An image may be the snapshot of an instance of ours, with another resolver, or another owner of its network.
    """
    names = guest.list_directory(networkd.DIRECTORY, missing_ok=True)
    profiles = (f"{networkd.DIRECTORY}/{name}" for name in names if name.startswith(networkd.PREFIX))
    for path in (*BESIDES, networkmanager.UNMANAGED, networkd.WAITS_FOR_NOTHING, *profiles):
        if path not in written and _is_ours(guest, path):
            guest.remove(path)


def _is_ours(guest: Guest, path: str) -> bool:
    return guest.is_file(path) and guest.read_text(path).startswith(HEADER)
