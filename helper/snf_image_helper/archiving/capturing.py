# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of snf-image-capture for images that are no disk: the guest mounted, and archived into the stream.

The disk is an overlay of the instance's, so that journals are replayed as its own kernel would, and nothing of that
reaches the instance.
"""

from __future__ import annotations

import os

from snf_image_helper.archiving.tarring import tar_command
from snf_image_helper.detection import detect
from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import EXT, probe
from snf_image_helper.disks.volumes import refuse_suspended
from snf_image_helper.guest import Guest
from snf_image_helper.mounting import mounted
from snf_image_helper.reporter import Reporter
from snf_image_helper.stream import opened_stream
from snf_image_helper.system import OsFamily
from snf_image_helper.task import reported
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Archive, Job
from snf_image_shared.pipeline import chain
from snf_image_shared.process import Limits

TASK = "ArchiveGuest"
_PATIENCE = 7 * 24 * 3600.0  # seconds: the host's deadline is the one that counts
_WHOLE = "capture the whole disk, with -t qcow2 or -t raw"


def capture(job: Job, report: Reporter) -> None:
    """Write the archive that the job names. Raises GuestError, ProcessError."""
    disk = Disk.open(job.disks)
    system = detect(disk, job, report)
    if system.family is not OsFamily.LINUX or system.ignition:
        raise GuestError(f"an archive can only be made of a Linux that is set up file by file; {_WHOLE}")
    refuse_suspended(disk, system, report)
    with mounted(disk, system, report) as guest:
        command = _command(job, guest)
        with reported(TASK, report), opened_stream() as port:
            nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            try:
                # A port takes less at once than it is given, which tar and dump would take for a failure.
                chain([command, ["cat"]], nothing, Limits(timeout=_PATIENCE, stdout=port))
            finally:
                os.close(nothing)


def _command(job: Job, guest: Guest) -> list[str]:
    match job.archive:
        case Archive.TARBALL:
            return tar_command(guest)
        case Archive.ROOT_DUMP:
            return _dump(guest, "/", job)
        case Archive.BOOT_DUMP:
            return _dump(guest, "/boot", job)
        case _:
            raise GuestError(f"the job names no archive of a guest: {job.archive}")


def _dump(guest: Guest, mount_point: str, job: Job) -> list[str]:
    """It is mounted meanwhile, by us alone, and nobody writes."""
    device = guest.mounts.get(mount_point)
    if device is None:
        raise GuestError(f"the guest has no file system of its own at {mount_point}")
    kind = probe([device])[device].type
    if kind not in EXT:
        raise GuestError(f"{mount_point} is {kind}, and dump(8) knows ext2, ext3 and ext4 alone; take -t tarball")
    os.sync()
    return ["dump", "-0", "-q", *(["-z6"] if job.compressed else []), "-f", "-", device]
