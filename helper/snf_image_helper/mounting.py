# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts the guest's file systems as its fstab says, and takes them all down again whatever happens in between.

Only partitions of the instance's own first disk are candidates: a label or UUID that is equal to one of the helper's
own file systems, or to something left on another disk, changes nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from snf_image_helper import fstab
from snf_image_helper.detection import btrfs_root
from snf_image_helper.disk import Disk
from snf_image_helper.filesystems import (
    MOUNTABLE,
    FileSystem,
    check_writable,
    mount,
    mount_for_a_look,
    probe,
    spelled,
    unmount,
)
from snf_image_helper.fstab import Entry, printable
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import System
from snf_image_helper.task import MOUNT_IMAGE, UMOUNT_IMAGE, reported
from snf_image_shared.errors import GuestError

TARGET = "/run/snf-image/target"
_FSTAB = "/etc/fstab"
_FIRST_DISK = re.compile(r"/dev/(?:(?:s|v|h|xv)da|nvme0n1p|mmcblk0p)([1-9][0-9]{0,2})")


@contextmanager
def mounted(
    disk: Disk, system: System, report: Reporter, *, only: frozenset[str] | None = None, read_only: bool = False
) -> Iterator[Guest]:
    """The guest with everything mounted, `guest.mounts` filled; flushed and unmounted at the end, deepest first.

    With `only`, nothing but the root and these mount points is mounted, and the latter are as good as nofail. With
    `read_only` the devices are not touched, journals included.
    Reports MountImage and UmountImage. Raises GuestError when the root or what fstab demands cannot be mounted or
    unmounted; a failure of the body is raised instead, after unmounting.
    """
    mounts = _Mounts(read_only)
    with ExitStack() as cleanup:
        cleanup.callback(mounts.abandon)
        with reported(MOUNT_IMAGE, report):
            partitions = _Partitions.of(disk)
            _mount_root(disk, system, partitions, mounts)
            guest = cleanup.enter_context(Guest(TARGET, disk, system))
            _mount_others(guest, partitions, mounts, report, only)
        yield guest
        guest.close()
        with reported(UMOUNT_IMAGE, report):
            mounts.release()


@dataclass(frozen=True)
class _Mount:
    device: str
    path: str


@dataclass
class _Mounts:
    """What is mounted, in order. The paths are the helper's, without links in them."""

    read_only: bool
    stack: list[_Mount] = field(default_factory=list)

    def add(self, system: FileSystem, path: str, options: str = "", *, at: str | None = None) -> None:
        """Mount at `path`; `at` is another name of the same directory that nobody can exchange. Raises GuestError."""
        put = mount_for_a_look if self.read_only else mount
        put(system.device, at or path, system.type, options)
        self.stack.append(_Mount(system.device, path))
        if not self.read_only:
            check_writable(system.device, path)

    def release(self) -> None:
        """Flush and unmount all, the last one first. Raises GuestError."""
        for done in () if self.read_only else self.stack:
            check_writable(done.device, done.path)
        while self.stack:
            unmount(self.stack[-1].path)
            self.stack.pop()
        os.sync()

    def abandon(self) -> None:
        """Unmount what a failure left mounted; that failure is the one to tell."""
        while self.stack:
            left = self.stack.pop()
            try:
                unmount(left.path)
            except GuestError:
                with suppress(GuestError):
                    unmount(left.path, lazily=True)


@dataclass(frozen=True)
class _Partitions:
    """The partitions of the first disk with what is on them, and all that fstab may call them."""

    disk: Disk
    systems: dict[int, FileSystem]
    names: dict[tuple[str, str], int]

    @classmethod
    def of(cls, disk: Disk) -> _Partitions:
        """Look at every partition once."""
        partitions = [item for item in disk.require_table().partitions if not item.is_extended]
        devices = {item.number: disk.partition_device(item.number) for item in partitions}
        found = probe(list(devices.values()))
        systems = {number: found[device] for number, device in devices.items()}
        names: dict[tuple[str, str], int] = {}
        for item in partitions:
            system = systems[item.number]
            for tag, value in (
                ("uuid", system.uuid.lower()),
                ("label", system.label),
                ("partuuid", item.uuid.lower()),
                ("partlabel", item.name),
            ):
                if value:
                    names.setdefault((tag, value), item.number)
        return cls(disk, systems, names)

    def mountable(self, number: int) -> FileSystem:
        """Raises GuestError when there is no such partition, or nothing on it that can be mounted."""
        system = self.systems.get(number)
        if system is None:
            raise GuestError(f"there is no partition {number} (there are {self.disk.require_table().numbers})")
        if system.type not in MOUNTABLE:
            raise GuestError(
                f"partition {number} holds {system.type or 'no known file system'}, which cannot be mounted; "
                f"only {', '.join(sorted(MOUNTABLE))} can"
            )
        return system

    def named(self, device: str) -> tuple[int, str | None]:
        """The number of the partition that the first field of an fstab line means, and a warning. Raises GuestError."""
        tag, value = _tag(device)
        if tag is None:
            found = _FIRST_DISK.fullmatch(device)
            if found is None:
                raise GuestError("such a device is not supported, write UUID=")
            return int(found[1]), f"{device} is taken as partition {found[1]} of the first disk; better write UUID="
        if tag == "label":
            value = spelled(value)
        number = self.names.get((tag, value.lower() if tag.endswith("uuid") else value))
        if number is None:
            raise GuestError("no partition of the image has this name")
        return number, None


def _mount_root(disk: Disk, system: System, partitions: _Partitions, mounts: _Mounts) -> None:
    root = partitions.mountable(system.root_partition)
    Path(TARGET).mkdir(parents=True, exist_ok=True)
    options = btrfs_root(root.device) if root.type == "btrfs" else ""
    mounts.add(root, TARGET, options)
    with Guest(TARGET, disk, system) as guest:
        if not guest.is_dir("/etc"):
            raise GuestError(f"partition {system.root_partition} has no directory /etc; correct ROOT_PARTITION")
        entry = fstab.root_entry(_entries(guest)[0])
    declared = _subvolume(entry) if entry and root.type == "btrfs" else ""
    if declared and declared != options:
        unmount(TARGET)
        mounts.stack.pop()
        mounts.add(root, TARGET, declared)


def _mount_others(
    guest: Guest, partitions: _Partitions, mounts: _Mounts, report: Reporter, only: frozenset[str] | None
) -> None:
    guest.mounts["/"] = mounts.stack[0].device
    if not guest.exists(_FSTAB):
        report.warning(f"the guest has no {_FSTAB}: only its root file system is mounted")
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
            _mount_entry(entry, guest, partitions, mounts, report)
        except GuestError as error:
            what = f"{_FSTAB}: {printable(entry.mount_point)} ({printable(entry.device)}): {error}"
            if not entry.has("nofail"):
                raise GuestError(f"{what}; or give the line the option nofail or noauto") from error
            report.warning(f"{what}; it is not mounted, the option nofail allows that")


def _mount_entry(entry: Entry, guest: Guest, partitions: _Partitions, mounts: _Mounts, report: Reporter) -> None:
    number, warning = partitions.named(entry.device)
    system = partitions.mountable(number)
    if warning:
        report.warning(f"{_FSTAB}: {printable(warning)}")
    if not guest.is_dir(entry.mount_point):
        report.warning(f"{_FSTAB}: {printable(entry.mount_point)} is not mounted: the guest has no such directory")
        return
    directory = guest.open_directory(entry.mount_point)
    try:
        # Mounted at the descriptor, which the kernel has resolved inside the root; the name is for unmounting.
        place = str(Path(f"/proc/self/fd/{directory}").readlink())
        if not place.startswith(f"{TARGET}/"):
            report.warning(f"{_FSTAB}: {printable(entry.mount_point)} is not mounted: it is the root itself")
            return
        options = _subvolume(entry) if system.type == "btrfs" else ""
        mounts.add(system, place, options, at=f"/proc/self/fd/{directory}")
    finally:
        os.close(directory)
    guest.mounts["/" + "/".join(entry.place)] = system.device


def _entries(guest: Guest) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    return fstab.parse(guest.read_text(_FSTAB, missing_ok=True) or "")


def _subvolume(entry: Entry) -> str:
    """The mount options that choose a btrfs subvolume, "" for the default one."""
    name, number = entry.value("subvol"), entry.value("subvolid")
    if name is not None:
        return f"subvol={name.lstrip('/')}" if name.strip("/") else "subvolid=5"
    return f"subvolid={number}" if number is not None and number.isascii() and number.isdecimal() else ""


def _tag(device: str) -> tuple[str | None, str]:
    """("uuid", value) and its like, for TAG=value as well as /dev/disk/by-tag/value; (None, device) for the rest."""
    found = re.fullmatch(r"(UUID|LABEL|PARTUUID|PARTLABEL)=(\"?)(.*)\2", device)
    if found:
        return found[1].lower(), found[3]
    found = re.fullmatch(r"/dev/disk/by-(uuid|label|partuuid|partlabel)/(.+)", device)
    if found:
        # udev writes what may not stand in a file name as \xNN.
        raw = re.sub(rb"\\x([0-9a-f]{2})", lambda escape: bytes.fromhex(escape[1].decode()), os.fsencode(found[2]))
        return found[1], raw.decode("utf-8", "replace")
    return None, device
