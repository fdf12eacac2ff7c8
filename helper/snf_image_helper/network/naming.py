# SPDX-License-Identifier: GPL-2.0-or-later
"""What cards are called, for network software that knows them by nothing else: a rule of udev's binds name and MAC.

Names of the kernel's own kind (eth0) are only given where the guest uses them anyway, for udev cannot exchange the
names of two cards since systemd 197; nic0 is nobody's, so that a card always gets it.
"""

from __future__ import annotations

import re

from snf_image_helper.guest import Guest
from snf_image_helper.network.cards import Card
from snf_image_helper.network.leftovers import UDEV_RULES
from snf_image_helper.network.rendering import HEADER, Facts, FileContent

KERNELS, OURS = "eth", "nic"
# Where boot loaders keep the kernel's arguments, or what they are made of.
_ARGUMENTS = ("/etc/default/grub", "/etc/kernel/cmdline", "/boot/grub2/grub.cfg", "/boot/grub/grub.cfg")
_ENOUGH = 1 << 20  # bytes of one of them
# Links to /dev/null that turn systemd's names off, systemd.link(5); the first is of systemd before 209.
_MASKS = (
    "/etc/udev/rules.d/80-net-name-slot.rules",
    "/etc/udev/rules.d/80-net-setup-link.rules",
    "/etc/systemd/network/99-default.link",
)
# Files for one card, whose names say what it is called.
_FILES = {
    "/etc/sysconfig/network-scripts": r"ifcfg-eth[0-9]+",
    "/etc/sysconfig/network": r"ifcfg-eth[0-9]+",
    "/etc/init.d": r"net\.eth[0-9]+",
}


def prefix_of(guest: Guest) -> str:
    """What stands before the number in the names of the guest's cards."""
    if any(guest.link_target(path) == "/dev/null" for path in _MASKS):
        return KERNELS
    for directory, pattern in _FILES.items():
        if any(re.fullmatch(pattern, name) for name in guest.list_directory(directory, missing_ok=True)):
            return KERNELS
    texts = (guest.head(path, _ENOUGH) for path in _ARGUMENTS if guest.is_file(path))
    return KERNELS if any(b"net.ifnames=0" in text for text in texts) else OURS


def name_of(card: Card, facts: Facts) -> str:
    """What the card is called."""
    return f"{facts.name}{card.number}"


def rules(cards: tuple[Card, ...], facts: Facts) -> dict[str, FileContent]:
    """The file that gives the cards their names."""
    lines = (
        f'SUBSYSTEM=="net", ACTION=="add", ATTR{{address}}=="{card.mac}", ATTR{{type}}=="1", '
        f'NAME="{name_of(card, facts)}"\n'
        for card in cards
    )
    return {UDEV_RULES: FileContent(HEADER + "".join(lines))}
