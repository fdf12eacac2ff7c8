# SPDX-License-Identifier: GPL-2.0-or-later
"""The name that a DHCP client sends to its server, for guests whose client does not send it by itself.

Source: dhclient.conf(5) and initscripts' ifup-eth; the files are those of instance-image's hook zz_ddns.
"""

from __future__ import annotations

import re

from snf_image_helper.guest import Guest
from snf_image_helper.linux.distros import Distro, Family
from snf_image_helper.network.ownership import look
from snf_image_helper.network.rendering import Renderer
from snf_image_shared.errors import GuestError

_DHCLIENT = ("/etc/dhcp/dhclient.conf", "/etc/dhcp3/dhclient.conf")
_SCRIPTS = "/etc/sysconfig/network-scripts"
_CARD = re.compile(r"ifcfg-(?!lo$)[A-Za-z0-9_.-]+(?<!\.bak)(?<!~)")
# They send the guest's name unless they are told not to.
_TELLING = frozenset({Renderer.NETWORKD, Renderer.NETPLAN, Renderer.NETWORKMANAGER, Renderer.DHCPCD})


def send_name(guest: Guest, name: str, *, only_renewed: bool = False) -> str:
    """Have `name` sent; the answer is a remark, or "". With `only_renewed` no file gets such a line that has none.

    Raises GuestError for a guest without any place for it.
    """
    match Distro.of(guest).family:
        case Family.DEBIAN:
            paths = [path for path in _DHCLIENT if guest.is_file(path)][:1]
            pattern, line = re.compile(r"^[ \t]*send[ \t]+host-name\b.*$", re.MULTILINE), f'send host-name "{name}";'
            missing = _DHCLIENT[0]
        case Family.REDHAT:
            names = guest.list_directory(_SCRIPTS, missing_ok=True)
            paths = [f"{_SCRIPTS}/{found}" for found in names if _CARD.fullmatch(found)]
            pattern, line = re.compile(r"^DHCP_HOSTNAME=.*$", re.MULTILINE), f"DHCP_HOSTNAME={name}"
            missing = f"{_SCRIPTS}/ifcfg-eth0"
        case family:
            return f"A guest of the family {family} sends its name by itself, or never: no file of it is changed"
    if not paths and not only_renewed and not look(guest).started & _TELLING:
        raise GuestError(f"{missing}: is missing, where the DHCP client is told the guest's name; install the client")
    for path in paths:
        old = guest.read_text(path)
        new = pattern.sub(lambda _: line, old)
        if not pattern.search(old) and not only_renewed:
            new = f"{old}{'' if not old or old.endswith(chr(10)) else chr(10)}{line}\n"
        if new != old:
            guest.write_text(path, new)
    return ""
