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
from snf_image_helper.disks.filesystems import EXT, mounted_types
from snf_image_helper.disks.volumes import refuse_suspended
from snf_image_helper.fstab import printable
from snf_image_helper.guest import Guest
from snf_image_helper.mounting import mounted
from snf_image_helper.reporter import Reporter
from snf_image_helper.stream import opened_stream
from snf_image_helper.system import OsFamily
from snf_image_helper.task import reported
from snf_image_shared import codec
from snf_image_shared.captured import Captured, CapturedFileSystem
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Archive, Job
from snf_image_shared.pipeline import chain
from snf_image_shared.process import Limits

TASK = "ArchiveGuest"
_PATIENCE = 7 * 24 * 3600.0  # seconds: the host's deadline is the one that counts
_DUMPED = frozenset({"/", "/boot", "/boot/efi", "/efi"})  # an EFI system partition is made anew
_WHOLE = "capture the whole disk, with -t qcow2 or -t raw"


def capture(job: Job, report: Reporter) -> None:
    """Write the archive that the job names. Raises GuestError, ProcessError."""
    disk = Disk.open(job.disks)
    system = detect(disk, job, report)
    if system.family is not OsFamily.LINUX or system.ignition:
        raise GuestError(f"an archive can only be made of a Linux that is set up file by file; {_WHOLE}")
    refuse_suspended(disk, system, report)
    with mounted(disk, system, report) as guest:
        captured = _captured(guest)
        command = _command(job, guest, captured)
        with reported(TASK, report), opened_stream() as port:
            nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            try:
                # A port takes less at once than it is given, which tar and dump would take for a failure.
                chain([command, ["cat"]], nothing, Limits(timeout=_PATIENCE, stdout=port))
            finally:
                os.close(nothing)
        report.findings(codec.dump(captured))


def _captured(guest: Guest) -> Captured:
    kinds = mounted_types()
    return Captured(
        tuple(
            CapturedFileSystem(place, kinds[device][0] if device in kinds else "", _size(device))
            for place, device in guest.mounts.items()
        )
    )


def _size(device: str) -> int:
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)


def _command(job: Job, guest: Guest, captured: Captured) -> list[str]:
    match job.archive:
        case Archive.TARBALL:
            return tar_command(guest)
        case Archive.ROOT_DUMP:
            left_out = sorted(set(guest.mounts) - _DUMPED)
            if left_out:
                raise GuestError(
                    f"dumps are of / and /boot alone, and the guest has more: {printable(' '.join(left_out))}; "
                    f"take -t tarball, or {_WHOLE}"
                )
            return _dump("/", guest, captured, job)
        case Archive.BOOT_DUMP:
            return _dump("/boot", guest, captured, job)
        case _:
            raise GuestError(f"the job names no archive of a guest: {job.archive}")


def _dump(mount_point: str, guest: Guest, captured: Captured, job: Job) -> list[str]:
    """It is mounted meanwhile, by us alone, and nobody writes."""
    found = captured.at(mount_point)
    if found is None:
        raise GuestError(f"the guest has no file system of its own at {mount_point}")
    if found.type not in EXT:
        raise GuestError(f"{mount_point} is {found.type}, and dump(8) knows ext2, ext3 and ext4 alone; take -t tarball")
    os.sync()
    return ["dump", "-0", "-q", *(["-z6"] if job.compressed else []), "-f", "-", guest.mounts[mount_point]]
