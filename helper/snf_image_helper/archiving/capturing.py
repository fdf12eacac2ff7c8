# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of snf-image-capture for images that are no disk: the guest mounted, and archived into the stream.

The disk is an overlay of the instance's, so that journals are replayed as its own kernel would, and nothing of that
reaches the instance.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from snf_image_helper.archiving import subvolumes
from snf_image_helper.archiving.tarring import tar_command
from snf_image_helper.detection import detect
from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import EXT, SWAP, mounted_types
from snf_image_helper.disks.volumes import refuse_suspended, volumes_of
from snf_image_helper.fstab import printable
from snf_image_helper.guest import Guest
from snf_image_helper.mounting import mounted
from snf_image_helper.reporter import Reporter
from snf_image_helper.stream import opened_stream
from snf_image_helper.system import OsFamily, System
from snf_image_helper.task import reported
from snf_image_shared import codec
from snf_image_shared.captured import Captured, CapturedFileSystem
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Archive, Job
from snf_image_shared.pipeline import chain
from snf_image_shared.process import Limits

TASK = "ArchiveGuest"
_PATIENCE = 7 * 24 * 3600.0  # seconds: the host's deadline is the one that counts
_BOTH = ("/", "/boot")
_DUMPED = frozenset({*_BOTH, "/boot/efi", "/efi"})  # an EFI system partition is made anew
_WHOLE = "capture the whole disk, with -t qcow2 or -t raw"


def capture(job: Job, report: Reporter) -> None:
    """Write the archive that the job names. Raises GuestError, ProcessError."""
    with archivable(Disk.open(job.disks), job, report) as (command, captured):
        with reported(TASK, report), opened_stream() as port:
            nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            try:
                # A port takes less at once than it is given, which tar and dump would take for a failure.
                chain([command, ["cat"]], nothing, Limits(timeout=_PATIENCE, stdout=port))
            finally:
                os.close(nothing)
        report.findings(codec.dump(captured))


@contextmanager
def archivable(disk: Disk, job: Job, report: Reporter) -> Iterator[tuple[list[str], Captured]]:
    """The mounted guest: what writes its archive to standard output, and what that is made of.

    Raises GuestError for a guest of which there can be no such archive.
    """
    with _cured():
        system = detect(disk, job, report)
    if system.family is not OsFamily.LINUX or system.ignition:
        raise GuestError(f"an archive can only be made of a Linux that is set up file by file; {_WHOLE}")
    refuse_suspended(disk, system, report)
    swap = _swap(disk, system, report)
    with ExitStack() as stack:
        with _cured():
            guest = stack.enter_context(mounted(disk, system, report))
        captured = Captured(_file_systems(guest), swap)
        yield _command(job, guest, captured, report), captured


@contextmanager
def _cured() -> Iterator[None]:
    """What keeps a guest from being looked into keeps nobody from having its disk."""
    try:
        yield
    except GuestError as error:
        raise GuestError(f"{error}; or {_WHOLE}") from error


def _swap(disk: Disk, system: System, report: Reporter) -> int:
    """Bytes of swap space on partitions and logical volumes."""
    with volumes_of(disk, system, report, read_only=True) as volumes:
        return sum(_size(device) for device, found in volumes.systems.items() if found.type == SWAP)


def _file_systems(guest: Guest) -> tuple[CapturedFileSystem, ...]:
    """Each once: a subvolume of the root's has no size of its own."""
    kinds = mounted_types()
    firsts = {device: place for place, device in reversed(guest.mounts.items())}
    return tuple(
        CapturedFileSystem(place, kinds[device][0] if device in kinds else "", _size(device))
        for place, device in guest.mounts.items()
        if firsts[device] == place
    )


def _size(device: str) -> int:
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)


def _command(job: Job, guest: Guest, captured: Captured, report: Reporter) -> list[str]:
    match job.archive:
        case Archive.TARBALL:
            return tar_command(guest, subvolumes.left_out(guest, report))
        case Archive.ROOT_DUMP:
            left_out = sorted(set(guest.mounts) - _DUMPED)
            if left_out:
                raise GuestError(
                    f"dumps are of / and /boot alone, and the guest has more: {printable(' '.join(left_out))}; "
                    f"take -t tarball, or {_WHOLE}"
                )
            for place in _BOTH:
                _check_dumpable(captured.at(place))
            return _dump("/", guest, job)
        case Archive.BOOT_DUMP:
            if captured.at("/boot") is None:
                raise GuestError("the guest has no file system of its own at /boot")
            return _dump("/boot", guest, job)
        case _:
            raise GuestError(f"the job names no archive of a guest: {job.archive}")


def _check_dumpable(found: CapturedFileSystem | None) -> None:
    """Before the first dump, so that nobody waits for one that is no use without the other. Raises GuestError."""
    if found and found.type not in EXT:
        raise GuestError(
            f"{found.mount_point} is {found.type}, and dump(8) knows ext2, ext3 and ext4 alone; "
            f"take -t tarball, or {_WHOLE}"
        )


def _dump(mount_point: str, guest: Guest, job: Job) -> list[str]:
    """It is mounted meanwhile, by us alone, and nobody writes."""
    os.sync()
    return ["dump", "-0", "-q", *(["-z6"] if job.compressed else []), "-f", "-", guest.mounts[mount_point]]
