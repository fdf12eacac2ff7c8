# SPDX-License-Identifier: GPL-2.0-or-later
"""ConfigureNetwork: write the instance's NICs for the BSD's own network scripts.

OpenBSD finds cards by their hardware addresses, the others by driver and number, from the type that Ganeti gives a
NIC. Nothing of the template's own configuration of cards stays in force; files are renamed, lines become comments.
cloud-init, where there is one, is told to leave the network alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from snf_image_helper.bsd.network import RENDERERS
from snf_image_helper.bsd.network.leftovers import facts_for, withdraw
from snf_image_helper.bsd.network.ports import PARAVIRTUAL, Port, ports_of
from snf_image_helper.cloud_init import network as cloud_init_network
from snf_image_helper.guest import Guest
from snf_image_helper.network.cards import cards_of
from snf_image_helper.network.rendering import BACKUP
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import OsFamily
from snf_image_helper.task import BSD, MOUNT_IMAGE, Task
from snf_image_helper.tasks.configure_network import write
from snf_image_shared.job import Job


def configure_network(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError for an impossible NIC, and for one of a type that the guest has no known name for."""
    cards = cards_of(job.nics)
    for card in cards:
        for warning in card.warnings:
            report.warning(warning)
    facts = facts_for(guest)
    family = guest.system.family
    by_mac = facts.matches_mac and family in _BY_MAC
    ports = ports_of(cards, job.nics, family, named=not by_mac)
    unset = ", ".join(str(number) for number, nic in enumerate(job.nics) if not nic.model)
    if unset and not by_mac:
        report.warning(f"NIC {unset}: its type is not known, and is taken for {PARAVIRTUAL}, Ganeti's default")
    for port in ports:
        print(f"network: NIC {port.card.number} ({port.card.mac}): {_told(port, by_mac=by_mac)}", flush=True)
    files = RENDERERS[family](ports, facts)
    for warning in files.warnings:
        report.warning(warning)
    withdraw(guest, files.rendered.files)
    write(guest, files.rendered)
    edit(guest, facts.texts, files.edited)
    if cloud_init_network.is_there(guest):
        cloud_init_network.disable(guest)


def edit(guest: Guest, before: Mapping[str, str], edited: Mapping[str, str]) -> None:
    """Write files of the guest with our lines in them; what was there first is kept beside them."""
    for path, text in edited.items():
        if text == before.get(path, ""):
            continue
        if path in before and not guest.exists(path + BACKUP):
            guest.write_text(path + BACKUP, before[path], ownership=guest.ownership(path))
        guest.write_text(path, text)


def _told(port: Port, *, by_mac: bool) -> str:
    if port.card.down:
        return "kept down"
    return "found by its hardware address" if by_mac else f"called {' or '.join(port.names)}"


_BY_MAC = frozenset({OsFamily.OPENBSD})

TASK: Task[Guest] = Task(
    "ConfigureNetwork",
    configure_network,
    families=BSD,
    after=(MOUNT_IMAGE, "InitializeDatasource"),
    skip=lambda job: None if job.nics else "the instance has no NIC",
    decides="by the types of the cards",
)
