# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts the file systems of a Linux guest as its fstab says, and those that its systemd finds by their types."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from snf_image_helper import fstab
from snf_image_helper.detection import btrfs_root
from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import FileSystem, unmount
from snf_image_helper.disks.volumes import Volumes
from snf_image_helper.fstab import FSTAB, Entry, printable
from snf_image_helper.guest import Guest
from snf_image_helper.mounts import TARGET, Mounts, opened_mount_point
from snf_image_helper.system import System
from snf_image_shared.errors import GuestError

_GENERATORS = tuple(f"{at}/lib/systemd/system-generators/systemd-gpt-auto-generator" for at in ("", "/usr"))
# Types of partitions and where systemd mounts them, the first place that is free. /var is missing: systemd takes it
# only for the machine from whose ID the partition's UUID was made, which a new machine never is.
_DISCOVERED = {
    "BC13C2FF-59E6-4262-A352-B275FD6F7172": ("/boot",),
    "C12A7328-F81F-11D2-BA4B-00A0C93EC93B": ("/efi", "/boot"),
    "933AC7E1-2EB4-4F13-B844-0E14E2AEF915": ("/home",),
    "3B8F8425-20E0-4F3B-907F-1A25A76F98E8": ("/srv",),
}


def mount_linux(disk: Disk, system: System, volumes: Volumes, mounts: Mounts, only: frozenset[str] | None) -> Guest:
    """Mount root and others, of the latter those that `only` names, if it is not None. Raises GuestError."""
    _mount_root(disk, system, volumes, mounts)
    guest = Guest(TARGET, disk, system)
    try:
        _mount_others(guest, volumes, mounts, only)
        _mount_discovered(guest, volumes, mounts, only)
    except BaseException:
        guest.close()
        raise
    return guest


def _mount_root(disk: Disk, system: System, volumes: Volumes, mounts: Mounts) -> None:
    root = volumes.root(system)
    Path(TARGET).mkdir(parents=True, exist_ok=True)
    options = btrfs_root(root.device) if root.type == "btrfs" else ""
    mounts.add(root, TARGET, options)
    with Guest(TARGET, disk, system) as guest:
        if not guest.is_dir("/etc"):
            what = system.volume or f"partition {system.root_partition}"
            raise GuestError(f"{what} has no directory /etc; correct ROOT_PARTITION")
        entry = fstab.root_entry(_entries(guest)[0])
    declared = _subvolume(entry) if entry and root.type == "btrfs" else ""
    if declared and declared != options:
        unmount(TARGET)
        mounts.stack.pop()
        mounts.add(root, TARGET, declared)


def _mount_others(guest: Guest, volumes: Volumes, mounts: Mounts, only: frozenset[str] | None) -> None:
    report = mounts.report
    guest.mounts["/"] = mounts.stack[0].device
    if not guest.exists(FSTAB):
        report.warning(f"the guest has no {FSTAB}: only its root file system is mounted")
        return
    entries, problems = _entries(guest)
    wanted, skipped = fstab.local_mounts(entries)
    if only is None:
        for warning in (*problems, *skipped):
            report.warning(warning)
    else:
        chosen = [entry for entry in wanted if "/" + "/".join(entry.place) in only]
        wanted = tuple(replace(entry, options=(*entry.options, "nofail")) for entry in chosen)
    for entry in wanted:
        try:
            _mount_entry(entry, guest, volumes, mounts)
        except GuestError as error:
            what = f"{FSTAB}: {printable(entry.mount_point)} ({printable(entry.device)}): {error}"
            if not entry.has("nofail"):
                raise GuestError(f"{what}; or give the line the option nofail or noauto") from error
            report.warning(f"{what}; it is not mounted, the option nofail allows that")


def _mount_entry(entry: Entry, guest: Guest, volumes: Volumes, mounts: Mounts) -> None:
    report = mounts.report
    system, warning = volumes.named(entry.device)
    if warning:
        report.warning(f"{FSTAB}: {printable(warning)}")
    if not guest.is_dir(entry.mount_point):
        report.warning(f"{FSTAB}: {printable(entry.mount_point)} is not mounted: the guest has no such directory")
        return
    _mount_at(entry, system, guest, mounts)


def _mount_at(entry: Entry, system: FileSystem, guest: Guest, mounts: Mounts) -> None:
    with opened_mount_point(entry, guest, mounts.report) as where:
        if where is None:
            return
        path, resolved = where
        mounts.add(system, path, _subvolume(entry) if system.type == "btrfs" else "", at=resolved)
    guest.mounts["/" + "/".join(entry.place)] = system.device


def _mount_discovered(guest: Guest, volumes: Volumes, mounts: Mounts, only: frozenset[str] | None) -> None:
    """Mount what systemd-gpt-auto-generator(8) would mount in the guest without a line of fstab.

    Only empty directories get it, and a failure is a warning: the guest starts without it as well.
    """
    if not any(guest.exists(path) for path in _GENERATORS):
        return
    declared = {entry.place for entry in _entries(guest)[0]}
    for place in volumes.places:
        for mount_point in _DISCOVERED.get(place.partition.type, ()) if place.partition else ():
            entry = Entry(volumes.on(place).device, mount_point, "auto")
            if only is not None and mount_point not in only:
                continue
            if entry.place in declared or not _is_empty_directory(guest, mount_point):
                continue
            try:
                _mount_at(entry, volumes.on(place), guest, mounts)
            except GuestError as error:
                mounts.report.warning(f"{mount_point} is not mounted: {error}")
            else:
                declared.add(entry.place)
            break


def _is_empty_directory(guest: Guest, path: str) -> bool:
    return guest.is_dir(path) and guest.link_target(path) is None and not guest.list_directory(path)


def _entries(guest: Guest) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    return fstab.parse(guest.read_text(FSTAB, missing_ok=True) or "")


def _subvolume(entry: Entry) -> str:
    """The mount options that choose a btrfs subvolume, "" for the default one."""
    name, number = entry.value("subvol"), entry.value("subvolid")
    if name is not None:
        return f"subvol={name.lstrip('/')}" if name.strip("/") else "subvolid=5"
    return f"subvolid={number}" if number is not None and number.isascii() and number.isdecimal() else ""
