# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a disk is all told by dumps of its root and /boot, and where these are.

Journals are replayed where the disk can be written to, which is then no more than an overlay of the instance's.
Dumps leave behind what else is on the disk: another file system, a loader of UEFI, LVM. Such a disk is exported whole.
"""

from __future__ import annotations

from pathlib import Path

from snf_image_helper.detection import find
from snf_image_helper.disks.disk import Disk, Place
from snf_image_helper.disks.filesystems import EXT, SWAP, FileSystem, probe
from snf_image_helper.mounting import mounted
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import WHOLE_DISK, OsFamily, System
from snf_image_shared.errors import GuestError
from snf_image_shared.exchange import BOOT_DUMP, ROOT_DUMP
from snf_image_shared.job import Job

_BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"  # GRUB's own, made anew with it


def dump_sources(disk: Disk, job: Job, report: Reporter) -> dict[str, str]:
    """The devices by the names of their dumps, the root first. Raises GuestError: it holds more, or nothing known."""
    system = find(disk, job, report)
    if system.family is not OsFamily.LINUX:
        raise GuestError(f"its system is {system.family}")
    if system.volume:
        raise GuestError(f"its root is on the logical volume {system.volume}")
    if system.root_partition == WHOLE_DISK:
        raise GuestError("it has no partition table")
    found = _sources(disk, system, job, report)
    on = probe([place.device for place in disk.places()])
    for device in found.values():
        if on[device].type not in EXT:
            raise GuestError(f"{on[device].type} cannot be dumped, which is on {device}")
    for place in disk.places():
        if place.device not in found.values() and not _is_made_anew(place, on[place.device]):
            raise GuestError(f"{place.name} holds {on[place.device].type or 'something unknown'}")
    return found


def _sources(disk: Disk, system: System, job: Job, report: Reporter) -> dict[str, str]:
    with mounted(disk, system, report, only=frozenset({"/boot"}), read_only=_is_read_only(disk.device)) as guest:
        devices = {ROOT_DUMP: guest.mounts["/"]}
        if "/boot" in guest.mounts:
            devices[BOOT_DUMP] = guest.mounts["/boot"]
    return devices


def _is_read_only(device: str) -> bool:
    return Path("/sys/block", Path(device).name, "ro").read_text().strip() == "1"


def _is_made_anew(place: Place, found: FileSystem) -> bool:
    return found.type == SWAP or (place.partition is not None and place.partition.type.upper() == _BIOS_BOOT)
