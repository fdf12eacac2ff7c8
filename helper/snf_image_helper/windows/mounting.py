# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts the system volume of a Windows guest, and that alone: what else is on the disk is not for its tasks."""

from __future__ import annotations

from pathlib import Path

from snf_image_helper.disks import ntfs
from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import probe
from snf_image_helper.disks.volumes import Volumes
from snf_image_helper.guest import Guest
from snf_image_helper.mounts import TARGET, Mounts
from snf_image_helper.system import System
from snf_image_helper.windows.detection import BITLOCKER, why_locked
from snf_image_helper.windows.places import CONFIG
from snf_image_shared.errors import GuestError


def refuse_unsafe(disk: Disk, system: System) -> None:
    """Refuse what mount_windows() would not write to, before the table around it changes. Raises GuestError."""
    place = next(place for place in disk.places() if place.number == system.root_partition)
    _refuse_other(probe([place.device])[place.device].type, place.name)
    ntfs.refuse_unsafe(place.device)


def mount_windows(disk: Disk, system: System, volumes: Volumes, mounts: Mounts, only: frozenset[str] | None) -> Guest:
    """Mount C:. Raises GuestError for what cannot be it, or is not safe to write to."""
    device = disk.partition_device(system.root_partition)
    called = volumes.called(device)
    found = volumes.systems[device]
    _refuse_other(found.type, called)
    Path(TARGET).mkdir(parents=True, exist_ok=True)
    if mounts.repairs:
        place = next(place for place in volumes.places if place.device == device)
        start = place.partition.start * disk.sector_size if place.partition else 0
        for warning in ntfs.correct_start(device, start):
            mounts.report.warning(warning)
    mounts.add(found, TARGET)
    guest = Guest(TARGET, disk, system)
    try:
        if not guest.is_dir(CONFIG):
            raise GuestError(f"{called} has no directory {CONFIG}, so it is not C:; correct ROOT_PARTITION")
    except BaseException:
        guest.close()
        raise
    guest.mounts["/"] = device
    return guest


def _refuse_other(kind: str, called: str) -> None:
    if kind == BITLOCKER:
        raise GuestError(why_locked(called))
    if kind != ntfs.NTFS:
        raise GuestError(f"{called} holds {kind or 'no known file system'} and no NTFS; correct ROOT_PARTITION")
