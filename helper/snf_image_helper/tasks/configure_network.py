# SPDX-License-Identifier: GPL-2.0-or-later
"""ConfigureNetwork: write the instance's NICs for the network software that the guest uses, found by MAC address.

netplan, systemd-networkd, ifupdown or NetworkManager (always, with the property NM_NETWORKING). Files that would
compete are renamed, not lost; leases and identities that the template got from its network are removed. Under
CLOUD_INIT the network has one owner: cloud-init is told to leave it alone, or gets the cards through the seed's
network-config where the guest has nothing we write for.
"""

from __future__ import annotations

import json

from snf_image_helper import cloud_init
from snf_image_helper.guest import Guest, Ownership
from snf_image_helper.network import Renderer, chosen, files_for, netplan
from snf_image_helper.network.cards import cards_of
from snf_image_helper.network.leftovers import forget
from snf_image_helper.network.rendering import FileContent, Rendered
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.job import Job


def configure_network(guest: Guest, job: Job, report: Reporter) -> None:
    """A guest with nothing we write for is left alone, with a warning. Raises GuestError for an impossible NIC."""
    cards = cards_of(job.nics)
    forget(guest)
    for card in cards:
        for gateway in card.left_out:
            report.warning(
                f"NIC {card.number}: the default route by {gateway} is left out, there is another one; "
                "give both as routes with different metrics to keep them"
            )
    renderer = chosen(guest, job.wishes)
    by_cloud_init = job.wishes.flag("CLOUD_INIT")
    if renderer is not None:
        write(guest, files_for(renderer, guest, cards))
        if by_cloud_init:
            cloud_init.write_configuration(guest, "50ConfigureNetwork", {"network": {"config": "disabled"}})
    elif by_cloud_init:
        model = {"version": 2, "ethernets": netplan.for_cloud_init(cards)}
        cloud_init.write_seed(guest, cloud_init.NETWORK_CONFIG, json.dumps(model, indent=1) + "\n")
    else:
        report.warning(
            f"The guest uses none of {', '.join(Renderer)}: its network is left as it is; enable one in the image"
        )


def write(guest: Guest, rendered: Rendered) -> None:
    """Put competing files out of the way, then write ours. Done again it changes nothing: the first backup stays."""
    for path, backup in rendered.retired.items():
        ours = rendered.files.get(path)
        if ours is None or not (guest.exists(backup) or _is_written(guest, path, ours)):
            guest.rename(path, backup)
        elif guest.is_link(path):
            guest.remove(path)  # what is written is to be the file itself, not what a link leads to
    for path in rendered.removed:
        if guest.is_link(path):
            guest.remove(path)
    for path, content in rendered.files.items():
        if not _is_written(guest, path, content):
            guest.make_directory(path.rpartition("/")[0])
            guest.write_text(path, content.text, ownership=Ownership(mode=content.mode))
    for path, target in rendered.links.items():
        if guest.link_target(path) not in {None, target}:
            guest.remove(path)
        if guest.link_target(path) is None and not guest.exists(path):
            guest.make_directory(path.rpartition("/")[0])
            guest.symlink(target, path)


def _is_written(guest: Guest, path: str, content: FileContent) -> bool:
    return (
        guest.is_file(path)
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
