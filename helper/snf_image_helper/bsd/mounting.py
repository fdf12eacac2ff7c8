# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts the file systems of a BSD guest as its fstab says; each UFS is checked before the kernel gets to see it.

After the last task Mounts checks all that was written. Why Linux may write there, and where not: docs/bsd-guests.md.
"""

from __future__ import annotations

from pathlib import Path

from snf_image_helper import fstab
from snf_image_helper.bsd.device_names import place_named
from snf_image_helper.disks.disk import Disk, Place
from snf_image_helper.disks.filesystems import FileSystem
from snf_image_helper.disks.ufs import UFS, Ufs, prepare_for_writing, read_ufs, refuse_unwritable
from snf_image_helper.disks.ufs_check import refuse_damaged
from snf_image_helper.disks.volumes import Volumes
from snf_image_helper.fstab import FSTAB, Entry, printable
from snf_image_helper.guest import Guest
from snf_image_helper.mounts import TARGET, Mounts, opened_mount_point
from snf_image_helper.system import System
from snf_image_shared.errors import GuestError

# What fstab calls a file system, and what is on the disk then.
_KINDS = {"ufs": UFS, "ffs": UFS, "4.2bsd": UFS, "msdosfs": "vfat", "msdos": "vfat", "ext2fs": "ext2"}
_OPTIONAL = ("nofail", "failok")  # FreeBSD's mount(8)


def refuse_unsafe(disk: Disk, system: System) -> None:
    """Refuse a root whose superblock says that mount_bsd() would not write to it. Raises GuestError."""
    _writable(disk.partition_device(system.root_partition), system)


def mount_bsd(disk: Disk, system: System, volumes: Volumes, mounts: Mounts, only: frozenset[str] | None) -> Guest:
    """As mount_linux(). Raises GuestError."""
    root = next((item for item in volumes.places if item.number == system.root_partition), None)
    if root is None:
        raise GuestError(f"there is no partition {system.root_partition}; correct ROOT_PARTITION")
    Path(TARGET).mkdir(parents=True, exist_ok=True)
    _add(FileSystem(root.device, UFS), TARGET, system, mounts)
    guest = Guest(TARGET, disk, system)
    try:
        if not guest.is_dir("/etc"):
            raise GuestError(f"{root.name} has no directory /etc; correct ROOT_PARTITION")
        guest.mounts["/"] = root.device
        _mount_others(guest, volumes, mounts, (root, only))
    except BaseException:
        guest.close()
        raise
    return guest


def _add(what: FileSystem, path: str, system: System, mounts: Mounts, *, at: str | None = None) -> None:
    if what.type == UFS and not mounts.read_only:
        ufs = _writable(what.device, system)
        refuse_damaged(what.device)
        prepare_for_writing(ufs, system.family, what.device)
    mounts.add(what, path, at=at)


def _writable(device: str, system: System) -> Ufs:
    ufs = read_ufs(device)
    refuse_unwritable(ufs, system.family, device)
    return ufs


def _mount_others(guest: Guest, volumes: Volumes, mounts: Mounts, where: tuple[Place, frozenset[str] | None]) -> None:
    root, only = where
    if not guest.exists(FSTAB):
        mounts.report.warning(f"the guest has no {FSTAB}: only its root file system is mounted")
        return
    entries, problems = fstab.parse(guest.read_text(FSTAB, missing_ok=True) or "")
    wanted, skipped = fstab.local_mounts(entries, frozenset(_KINDS))
    for warning in (*problems, *skipped) if only is None else ():
        mounts.report.warning(warning)
    for entry in wanted:
        if only is not None and "/" + "/".join(entry.place) not in only:
            continue
        place = place_named(entry.device, volumes, guest.system.family, root)
        what = f"{FSTAB}: {printable(entry.mount_point)} ({printable(entry.device)})"
        if place is None:
            mounts.report.warning(f"{what} is not mounted: no partition of the image has this name")
            continue
        try:
            _mount_entry(entry, volumes.on(place), guest, mounts)
        except GuestError as error:
            if only is None and not any(entry.has(option) for option in _OPTIONAL):
                raise GuestError(f"{what}: {error}; or give the line the option noauto") from error
            mounts.report.warning(f"{what}: {error}; it is not mounted")


def _mount_entry(entry: Entry, found: FileSystem, guest: Guest, mounts: Mounts) -> None:
    kind = _KINDS[entry.type]
    if found.type != kind and not (kind == "ext2" and found.type.startswith("ext")):
        raise GuestError(f"there is {found.type or 'no known file system'}, not {printable(entry.type)}")
    if there := next((path for path, device in guest.mounts.items() if device == found.device), None):
        # Linux would mount it twice, and it would be checked and prepared while it is written to.
        raise GuestError(f"it is mounted on {printable(there)} already")
    if not guest.is_dir(entry.mount_point):
        mounts.report.warning(
            f"{FSTAB}: {printable(entry.mount_point)} is not mounted: the guest has no such directory"
        )
        return
    with opened_mount_point(entry, guest, mounts.report) as where:
        if where is None:
            return
        path, resolved = where
        _add(found, path, guest.system, mounts, at=resolved)
    guest.mounts["/" + "/".join(entry.place)] = found.device
