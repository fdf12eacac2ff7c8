# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of an import: the disk is divided for this node's instance, and the dumps of the stream restored onto it.

The first dump is looked at before the disk is touched. Then the guest gets what a disk of another shape needs, and no
more: it keeps its name, its keys and its users.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from snf_image_helper.archiving.transport import Incoming
from snf_image_helper.customize import customize_disk
from snf_image_helper.deployment.cell import Cell, cell
from snf_image_helper.deployment.content import Content
from snf_image_helper.deployment.deploy import deploy
from snf_image_helper.deployment.dumps import restore, restore_boot
from snf_image_helper.deployment.tree import Tree
from snf_image_helper.disks.disk import Disk
from snf_image_helper.reporter import Reporter
from snf_image_helper.stream import opened_stream
from snf_image_shared.deployment import Deployment
from snf_image_shared.errors import GuestError
from snf_image_shared.exchange import (
    BOOT_DUMP,
    DISK_IMAGE,
    DUMP_HEAD,
    ROOT_DUMP,
    ExchangeError,
    Member,
    is_dump,
    next_member,
)
from snf_image_shared.job import Job


def import_(job: Job, report: Reporter) -> None:
    """Fill the first disk from the stream if the job has a deployment, and adapt the guest on it. Raises GuestError."""
    disk = Disk.open(job.disks)
    if job.deployment:
        with opened_stream() as port:
            dumps = Dumps.opened(Incoming(port))
            root = deploy(disk, job.deployment, report, dumps.restored)
            job = replace(job, properties={**job.properties, "ROOT_PARTITION": str(root)})
    customize_disk(disk, job, report)


@dataclass
class Dumps:
    """The dumps of a stream, of which `first` comes next; None says that the stream is no archive but one dump."""

    incoming: Incoming
    first: Member | None

    @classmethod
    def opened(cls, incoming: Incoming) -> Dumps:
        """Raises ExchangeError unless the stream begins with a dump."""
        if is_dump(incoming.look(DUMP_HEAD)):
            return cls(incoming, None)
        first = next_member(incoming.read)
        if first is None:
            raise ExchangeError("the stream is an empty tar archive: look for the sender's error")
        _check(first, incoming)
        return cls(incoming, first)

    def restored(self, _deployment: Deployment, tree: Tree, report: Reporter) -> None:
        """Restore all of them, in the order in which they come, and read the stream to its end. Raises GuestError."""
        with cell(tree) as prepared:
            if self.first is None:
                with self.incoming.pipe(None) as source:
                    restore(Content("the dump of the stream", source), prepared, report)
            else:
                self._restore_members(self.first, prepared, report)
        self.incoming.finish()

    def _restore_members(self, first: Member, prepared: Cell, report: Reporter) -> None:
        seen: set[str] = set()
        member: Member | None = first
        while member:
            if member.name in seen:
                raise GuestError(f"the stream has {member.name} twice")
            seen.add(member.name)
            way = restore_boot if member.name == BOOT_DUMP else restore
            with self.incoming.pipe(member.size) as source:
                way(Content(member.name, source), prepared, report)
            self.incoming.read(member.padding)
            member = next_member(self.incoming.read)
            if member:
                _check(member, self.incoming)
        if ROOT_DUMP not in seen:
            raise GuestError(f"the stream has no {ROOT_DUMP}: export the instance again")


def _check(member: Member, incoming: Incoming) -> None:
    if member.name == DISK_IMAGE:
        raise ExchangeError(f"the stream has a {DISK_IMAGE} beside dumps, so nobody knows what it is: export it again")
    if member.size < DUMP_HEAD or not is_dump(incoming.look(DUMP_HEAD)):
        raise ExchangeError(f"{member.name} of the stream is no dump(8): look for the sender's error")
