# SPDX-License-Identifier: GPL-2.0-or-later
"""ConfigureNetwork: write the instance's NICs for the network software that the guest uses, found by MAC address.

The network gets one owner (network/ownership.py). Files that would compete are renamed, not lost. cloud-init, where
there is one, is told to leave the network alone; under CLOUD_INIT it gets the cards through the seed's network-config
where the guest has nothing we write for.
"""

from __future__ import annotations

from collections.abc import Iterator

from snf_image_helper.cloud_init import network as cloud_init_network
from snf_image_helper.guest import Guest, Ownership
from snf_image_helper.network import Decision, Renderer, decide, files_for, netplan
from snf_image_helper.network.cards import Card, cards_of
from snf_image_helper.network.competition import DEAF
from snf_image_helper.network.facts import runs_networkmanager
from snf_image_helper.network.leftovers import withdraw
from snf_image_helper.network.rendering import FileContent, Rendered
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.job import Job


def configure_network(guest: Guest, job: Job, report: Reporter) -> None:
    """A guest with nothing we write for is left alone, with a warning. Raises GuestError for an impossible NIC."""
    cards = cards_of(job.nics)
    for card in cards:
        for warning in card.warnings:
            report.warning(warning)
    decision = decide(guest, job.wishes)
    for line in _told(decision, cards):
        print(line, flush=True)
    rendered = files_for(decision, guest, cards)
    withdraw(guest, rendered.files)
    write(guest, rendered)
    by_cloud_init = job.wishes.flag("CLOUD_INIT")
    if decision.owner is Renderer.NETWORKMANAGER and not runs_networkmanager(guest):
        report.warning(
            "NetworkManager does not start in this guest, which stays without network; "
            "install and enable it in the image, or drop the property NM_NETWORKING"
        )
    if decision.owner is not None:
        for other in DEAF.intersection(decision.others):
            report.warning(f"{other} starts at boot, too, and may take the cards from {decision.owner}; turn one off")
        if by_cloud_init or cloud_init_network.is_there(guest):
            # Without a source of data it would ask for an address on the first card at each boot.
            cloud_init_network.disable(guest)
    elif by_cloud_init:
        cloud_init_network.leave(guest, netplan.for_cloud_init(cards), report)
    else:
        report.warning(
            f"The guest uses none of {', '.join(Renderer)}: its network is left as it is; enable one in the image"
        )


def _told(decision: Decision, cards: tuple[Card, ...]) -> Iterator[str]:
    """What was decided, for the log of the VM."""
    others = f"; kept from the cards: {', '.join(decision.others)}" if decision.others else ""
    yield f"network: {decision.owner or 'nobody'} owns it: {decision.reason}{others}"
    for card in cards:
        addresses = ", ".join(map(str, card.addresses)) or "no address of its own"
        routes = "".join(f", {route.destination} by {route.gateway or 'its link'}" for route in card.routes)
        state = "kept down" if card.down else f"IPv4 {card.ipv4}, IPv6 {card.ipv6}, {addresses}{routes}"
        yield f"network: NIC {card.number} ({card.mac}): {state}"


def write(guest: Guest, rendered: Rendered) -> None:
    """Write our files, and put those out of the way that would compete. Done again it changes nothing.

    A failure leaves each file as it was or as it is to be; the first backup of it stays.
    """
    for path, content in rendered.files.items():
        if not _is_written(guest, path, content):
            guest.make_directory(path.rpartition("/")[0])
            if path in rendered.retired:
                _replace(guest, path, content, rendered.retired[path])
            else:
                guest.write_text(path, content.text, ownership=Ownership(mode=content.mode))
    for path, backup in rendered.retired.items():
        if path not in rendered.files:
            guest.rename(path, backup)
    for path in rendered.removed:
        if guest.is_link(path):
            guest.remove(path)
    for path, target in rendered.links.items():
        if guest.link_target(path) not in {None, target}:
            guest.remove(path)
        if guest.link_target(path) is None and not guest.exists(path):
            guest.make_directory(path.rpartition("/")[0])
            guest.symlink(target, path)


def _replace(guest: Guest, path: str, content: FileContent, backup: str) -> None:
    """What is written is to be the file itself, not what a link leads to; it is there before the old one goes."""
    staged = f"{path}.snf-image-new"
    guest.write_text(staged, content.text, ownership=Ownership(mode=content.mode))
    if (guest.exists(path) or guest.is_link(path)) and not guest.exists(backup):
        guest.rename(path, backup)
    guest.rename(staged, path)


def _is_written(guest: Guest, path: str, content: FileContent) -> bool:
    return (
        guest.is_file(path)
        and not guest.is_link(path)
        and guest.ownership(path) == Ownership(mode=content.mode)
        and guest.read_text(path) == content.text
    )


TASK: Task[Guest] = Task(
    "ConfigureNetwork",
    configure_network,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE, "InitializeDatasource"),
    skip=lambda job: None if job.nics else "the instance has no NIC",
    decides="for its network software",
)
