# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of an export: the guest's file systems as dumps in a tar archive, through the stream port.

The length comes first, in a line. Where dumps do not tell all that is on the disk the line says that, and the host
exports the disk as it is.
"""

from __future__ import annotations

from snf_image_helper.archiving.dumping import dump, has_open_journal, measure
from snf_image_helper.archiving.sources import dump_sources
from snf_image_helper.archiving.transport import send
from snf_image_helper.disks.disk import Disk
from snf_image_helper.reporter import Reporter
from snf_image_helper.stream import opened_stream
from snf_image_helper.task import reported
from snf_image_shared import exchange
from snf_image_shared.errors import GuestError
from snf_image_shared.exchange import Member
from snf_image_shared.job import Job


def export(job: Job, report: Reporter) -> None:
    """Write the archive, or the word that there is none, to the stream port. Raises GuestError."""
    disk = Disk.open(job.disks)
    with opened_stream() as port:
        try:
            sources = dump_sources(disk, job, report)
            with reported("MeasureFileSystems", report):
                members = {device: Member(name, measure(device)) for name, device in sources.items()}
        except GuestError as reason:
            report.end_tasks()
            report.warning(f"The disk is exported whole, as an image: {reason}")
            send(port, exchange.NO_DUMPS)
            return
        for device, member in members.items():
            if has_open_journal(device):
                report.warning(
                    f"{device} ({member.name}) was not unmounted cleanly, as in a snapshot of a running instance: what "
                    "its journal alone has is not exported; shut the instance down for an export of everything"
                )
        with reported("DumpFileSystems", report):
            _write(port, members)


def _write(port: int, members: dict[str, Member]) -> None:
    send(port, b"%d\n" % exchange.length(members.values()))
    for device, member in members.items():
        send(port, exchange.header(member))
        dump(device, port)
        send(port, bytes(member.padding))
    send(port, bytes(exchange.ending(members.values())))
