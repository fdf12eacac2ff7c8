# SPDX-License-Identifier: GPL-2.0-or-later
"""ConfigureNetwork: static addresses, routes and name servers, by the MAC addresses of the cards.

Setup takes them from the answer file in its specialize pass; what that cannot say SetupComplete.cmd sets.
"""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.network.cards import Card, cards_of
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import MOUNT_IMAGE, WINDOWS, CloudInit, Task
from snf_image_helper.windows import legacy_network
from snf_image_helper.windows.facts import Facts, facts
from snf_image_helper.windows.setup_scripts import at_setup_complete, powershell, script_path, write_script
from snf_image_shared.job import Job


def configure_network(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError for an impossible NIC, and without an answer file."""
    cards = cards_of(job.nics)
    for card in cards:
        for warning in card.warnings:
            report.warning(warning)
    found = facts(guest)
    if found.legacy:
        _configure_legacy(guest, cards, report)
    else:
        _configure(guest, cards, found, report)


def _configure(guest: Guest, cards: tuple[Card, ...], found: Facts, report: Reporter) -> None:
    from snf_image_helper.windows import network, unattend  # noqa: PLC0415  # XML, for this family alone
    from snf_image_helper.windows.answer_file import Component, Pass  # noqa: PLC0415

    for warning in network.left_out(cards, found.build):
        report.warning(warning)
    wanted = network.answers(cards)
    if wanted.tcpip or wanted.dns_client:
        with unattend.changed(guest) as answers:
            for name, elements in ((network.TCPIP, wanted.tcpip), (network.DNS_CLIENT, wanted.dns_client)):
                if elements:
                    answers.put(Component(Pass.SPECIALIZE, name, found.architecture), *elements)
    for script in network.scripts(cards, found.build):
        at_setup_complete(guest, powershell(script))


def _configure_legacy(guest: Guest, cards: tuple[Card, ...], report: Reporter) -> None:
    for warning in legacy_network.left_out(cards):
        report.warning(warning)
    lines = legacy_network.script(cards)
    if lines:
        write_script(guest, legacy_network.SCRIPT, lines)
        at_setup_complete(guest, f'cscript.exe //nologo "{script_path(legacy_network.SCRIPT)}"')


TASK: Task[Guest] = Task(
    "ConfigureNetwork",
    configure_network,
    families=WINDOWS,
    cloud_init=CloudInit.OFF,
    after=(MOUNT_IMAGE, "InstallUnattend"),
    skip=lambda job: None if job.nics else "the instance has no NIC",
)
