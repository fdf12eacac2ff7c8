# SPDX-License-Identifier: GPL-2.0-or-later
"""Which system is on the disk and where its root is: told by the properties, or found by a look that writes nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from snf_image_helper.bsd import roots as bsd
from snf_image_helper.disks import lvm
from snf_image_helper.disks.disk import Disk, Place
from snf_image_helper.disks.filesystems import MOUNTABLE, SWAP, FileSystem, mount_for_a_look, probe, unmount
from snf_image_helper.disks.ntfs import NTFS
from snf_image_helper.disks.partitions import DYNAMIC
from snf_image_helper.disks.ufs import UFS, read_ufs
from snf_image_helper.linux import immutable
from snf_image_helper.problems import fact
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import WHOLE_DISK, OsFamily, System, UnknownGuestError
from snf_image_helper.task import MOUNTED_EXCLUDED, WINDOWS
from snf_image_helper.windows.detection import BITLOCKER, why_locked, windows_in
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

_LOOK_AT = "/run/snf-image/look"
_BTRFS_SUBVOLUME_INODE = 256  # BTRFS_FIRST_FREE_OBJECTID
_BTRFS_USUAL_ROOTS = ("@", "root", "@rootfs")
_MAX_SUBVOLUMES = 64
_MOST = 16  # places in a message
# Volumes that are looked at first: the names that the installers of Red Hat, Debian, Ubuntu and SUSE give a root.
_USUAL_VOLUMES = ("root", "lv_root", "rootvol", "rootlv", "ubuntu-lv", "system", "slash")

# Discoverable Partitions Specification: the roots of the architectures Debian, Fedora and SUSE publish images for.
_LINUX_ROOTS = frozenset(
    {
        "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",  # x86-64
        "44479540-F297-41B2-9AF7-D131D5F0458A",  # x86
        "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",  # arm64
        "69DAD710-2CE4-4E3C-B16C-21A1D49ABED3",  # arm
        "72EC70A6-CF74-40E6-BD49-4BDA08E8F224",  # riscv64
        "C31C45E6-3F39-412E-80FB-4809C4980599",  # ppc64le
        "5EEAD9A9-FE09-4A1E-A1D7-520D00531306",  # s390x
        "77055800-792C-4F94-B39A-98C91B762BB6",  # loong64
    }
)
_LINUX_DATA = frozenset({"83", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"})
_ALIEN = frozenset({NTFS, UFS})  # no Linux lies there, though they can be mounted
# What blkid calls things that hold a system which cannot be reached from here.
_LOCKED = {
    "crypto_LUKS": "encrypted with LUKS",
    "BitLocker": "encrypted with BitLocker",
    "zfs_member": "ZFS",
    "linux_raid_member": "a part of a software RAID (md)",
    "ddf_raid_member": "a part of a RAID",
    "isw_raid_member": "a part of a RAID",
    "bcachefs": "bcachefs",
    "bcache": "bcache",
    "LVM1_member": "LVM of the first version",
    "LVM2_member": "LVM",
}


class NoRootError(GuestError):
    """A file system is sound and holds no root."""


def detect(disk: Disk, job: Job, report: Reporter) -> System:
    """As find(), with a warning for each property that had to be found out."""
    system = find(disk, job, report)
    for name, found in (("OSFAMILY", system.family), ("ROOT_PARTITION", system.root_partition)):
        if job.wishes.text(name) is None:
            report.warning(f"Property {name} is not given: found {found}")
    return system


def find(disk: Disk, job: Job, report: Reporter) -> System:
    """Family and root, which the disk remembers as well. Nothing is written.

    Raises UnknownGuestError when nothing that can be customised is there, and GuestError for impossible properties,
    impossible tables and damaged file systems.
    """
    # The kernel may have read no table, or another one than we did.
    disk.reload()
    family = _family_property(job.wishes.text("OSFAMILY"))
    number = _root_property(job.wishes.text("ROOT_PARTITION"), disk)
    places = [item for item in disk.places() if number in {None, item.number}]
    on = probe([item.device for item in disk.places()])
    search = _Search(disk, places, on, report)
    is_mounted = not job.wishes.flag(MOUNTED_EXCLUDED)
    disk.system = search.system(family, is_told=number is not None, is_mounted=is_mounted)
    return disk.system


def btrfs_root(device: str) -> str:
    """The mount options that lead to the root of the system on a btrfs, "" for its default subvolume.

    Raises GuestError when the file system cannot be mounted or none of its subvolumes looks like a root.
    """
    with looked_at(device, "btrfs") as directory:
        if _is_root(directory):
            return ""
    with looked_at(device, "btrfs", "subvolid=5") as directory:
        for name in _subvolumes(directory):
            if _is_root(f"{directory}/{name}"):
                return f"subvol={name}"
        if _is_root(directory):
            return "subvolid=5"
    raise NoRootError(
        f"no subvolume of the btrfs on {device} holds /etc/fstab or /etc/os-release; "
        "make the root the default subvolume, or correct the property ROOT_PARTITION"
    )


@contextmanager
def looked_at(device: str, kind: str, options: str = "") -> Iterator[str]:
    """The directory where `device` is mounted read-only. Raises GuestError."""
    Path(_LOOK_AT).mkdir(parents=True, exist_ok=True)
    mount_for_a_look(device, _LOOK_AT, kind, options)
    try:
        yield _LOOK_AT
    finally:
        unmount(_LOOK_AT)


@contextmanager
def _look(system: FileSystem) -> Iterator[str]:
    """As looked_at(), at the root of the system where a btrfs has one elsewhere."""
    options = btrfs_root(system.device) if system.type == "btrfs" else ""
    with looked_at(system.device, system.type, options) as directory:
        yield directory


def _family_property(text: str | None) -> OsFamily | None:
    if text is None:
        return None
    try:
        return OsFamily(text.strip().lower())
    except ValueError as error:
        raise GuestError(f"property OSFAMILY: {text[:40]!r} is not one of {', '.join(OsFamily)}") from error


def _root_property(text: str | None, disk: Disk) -> int | None:
    if text is None:
        return None
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else -1
    numbers = [item.number for item in disk.places()]
    if number not in numbers:
        what = disk.numbers if disk.table else f"{WHOLE_DISK}, as it has no partition table"
        raise GuestError(
            f"property ROOT_PARTITION: {text[:40]!r} is not the number of a partition of the image ({what})"
        )
    return number


@dataclass(frozen=True)
class _Search:
    """The places where a root may be, with what is on each."""

    disk: Disk
    places: Sequence[Place]
    on: Mapping[str, FileSystem]
    report: Reporter
    damaged: list[str] = field(default_factory=list)

    def system(self, family: OsFamily | None, *, is_told: bool, is_mounted: bool) -> System:
        """What find() gives; with `is_told` there is one place, which a property names.

        Then that is believed, unless tasks are to change its files (`is_mounted`) and it has none that they could.
        """
        told = self.places[0] if family is not None and is_told and self._type(self.places[0]) not in _LOCKED else None
        is_zfs = family is OsFamily.FREEBSD and bsd.on_zfs(self.places[:1]) is not None
        if told and family and (not is_mounted or (family is not OsFamily.LINUX and not is_zfs)):
            return System(family, told.number)
        if family in {None, OsFamily.LINUX} and (found := self._linux(is_told=told is not None)):
            return found
        if told and family and self.damaged:
            return System(family, told.number)
        if family in {None, *WINDOWS} and (found := self._windows(family)):
            return found
        if found := self._bsd(family, is_mounted=is_mounted):
            return found
        if self.damaged:
            raise GuestError(f"no operating system is recognised, and a file system cannot be read: {self.damaged[0]}")
        locked = [place.name for place in self.places if self._type(place) == BITLOCKER]
        if locked and family in {None, *WINDOWS}:
            raise UnknownGuestError(
                f"{why_locked(locked[0])}; or set EXCLUDE_ALL_TASKS=yes to deliver the image as it is"
            )
        raise UnknownGuestError(self._nothing_found())

    def _windows(self, family: OsFamily | None) -> System | None:
        """A Windows, on an NTFS that no firmware or rescue system has for itself."""
        for place in self.places:
            role = place.partition.fixed_role if place.partition else None
            if self._type(place) == NTFS and role in {None, DYNAMIC}:
                try:
                    if found := windows_in(self.disk, place, looked_at, family):
                        return found
                except GuestError as error:
                    self.report.warning(f"Looking for Windows: {error}")
                    self.damaged.append(str(error))
        return None

    def _bsd(self, family: OsFamily | None, *, is_mounted: bool) -> System | None:
        """A BSD, whose types of partitions say what it is; of several places, the one with a root in it.

        Raises ZfsRootError for a FreeBSD whose files are to be changed and cannot be.
        """
        mine = {place.number for place in self.places}
        found = [item for item in bsd.roots(self.disk) if item[0].number in mine and family in {None, item[1]}]
        found = found if len(found) == 1 else [item for item in found if self._has_fstab(item[0])] or found
        if found:
            return System(found[0][1], found[0][0].number)
        number = bsd.on_zfs(self.places) if family in {None, OsFamily.FREEBSD} else None
        if number is not None and is_mounted:
            raise bsd.ZfsRootError(number)
        return System(OsFamily.FREEBSD, number) if number is not None else None

    def _has_fstab(self, place: Place) -> bool:
        try:
            with looked_at(place.device, UFS, f"ufstype={read_ufs(place.device).kind}") as directory:
                return immutable.exists(directory, "/etc/fstab")
        except GuestError:  # a helper without UFS
            return False

    @property
    def _layout(self) -> immutable.Layout:
        return immutable.Layout(self.disk.places(), self.on, _look)

    def _linux(self, *, is_told: bool) -> System | None:
        if found := immutable.told_by_partitions(self._layout):
            return found
        for place in sorted(self.places, key=_likelihood):
            is_fixed = place.partition is not None and place.partition.fixed_role
            if not is_fixed and (found := self._linux_in(self.on[place.device], place.number, is_told=is_told)):
                return found
        members = [place for place in self.places if self._type(place) == lvm.MEMBER]
        try:
            return self._linux_on_lvm(members) if members else None
        except UnknownGuestError:
            if self.damaged:
                return None
            raise

    def _linux_on_lvm(self, members: Sequence[Place]) -> System | None:
        ordered = sorted(members, key=lambda place: place.partition.start if place.partition else 0)
        physical = [device for device, found in self.on.items() if found.type == lvm.MEMBER]
        groups = [
            group for group in lvm.groups_on(physical) if {place.device for place in members} & set(group.devices)
        ]
        with lvm.active(groups, read_only=True) as volumes:
            systems = probe([volume.device for volume in volumes])
            for volume in sorted(volumes, key=_usualness):
                group = next(group for group in groups if group.name == volume.group)
                # The last of its parts on the disk: the one that can grow.
                number = next(place.number for place in reversed(ordered) if place.device in group.devices)
                if root := self._linux_in(systems[volume.device], number, volume.full_name):
                    return root
        seen = [
            f"{volume.full_name}: {_LOCKED.get(found.type, found.type) or 'nothing known'}"
            for volume in volumes
            for found in (systems[volume.device],)
            if found.type != SWAP
        ]
        seen += [
            f"{item.full_name}: {fact(item.layout)}"
            for group in groups
            for item in group.volumes
            if not item.is_simple and not item.layout.startswith("pool")
        ]
        raise UnknownGuestError(
            _unknown(f"LVM without a volume that holds a Linux root: {', '.join(seen[:_MOST]) or 'none'}")
        )

    def _linux_in(self, system: FileSystem, number: int, volume: str = "", *, is_told: bool = False) -> System | None:
        """The system whose root is this file system; one that is told needs no more than a directory /etc.

        Raises UnknownGuestError for one that cannot be customised.
        """
        if system.type not in MOUNTABLE or system.type in _ALIEN:
            return None
        try:
            with _look(system) as directory:
                if not _is_root(directory) and not (is_told and immutable.exists(directory, "/etc")):
                    return None
                if not immutable.is_deployed(directory):
                    ignition = immutable.told_by_files(self._layout, number, directory)
                    return System(OsFamily.LINUX, number, volume, ignition)
        except UnknownGuestError:
            raise
        except NoRootError as error:
            self.report.warning(f"Looking for the root file system: {error}")
            return None
        except GuestError as error:
            self.report.warning(f"Looking for the root file system: {error}")
            self.damaged.append(str(error))
            return None
        return immutable.deployed(self._layout, number)

    def _type(self, place: Place) -> str:
        return self.on[place.device].type

    def _nothing_found(self) -> str:
        if self.disk.table is None:
            kind = self.on[self.disk.device].type
            what = f"the image is a bare {_LOCKED.get(kind, kind)}" if kind else "nothing was recognised on the disk"
            return _unknown(f"no partition table; {what}")
        seen = ", ".join(
            f"{Path(place.device).name}: {_LOCKED.get(self._type(place), self._type(place)) or 'nothing known'}"
            for place in self.places[:_MOST]
        )
        return _unknown(seen or "no partition")


def _unknown(seen: str) -> str:
    return (
        f"no operating system is recognised on the image's disk ({seen}); set or correct the properties OSFAMILY "
        "and ROOT_PARTITION, or EXCLUDE_ALL_TASKS=yes to deliver the image as it is"
    )


def _likelihood(place: Place) -> tuple[int, int]:
    """Sorts the declared root first, then Linux data, then the rest, each in table order."""
    kind = place.partition.type if place.partition else ""
    if kind in _LINUX_ROOTS:
        return 0, place.number
    return (1 if kind in _LINUX_DATA else 2), place.number


def _usualness(volume: lvm.Volume) -> tuple[int, str]:
    """Sorts the usual names of a root first."""
    name = volume.name.lower()
    return (_USUAL_VOLUMES.index(name) if name in _USUAL_VOLUMES else len(_USUAL_VOLUMES)), volume.full_name


def _is_root(directory: str) -> bool:
    """Whether the tree looks like a Linux root, perhaps one of ostree's; its links lead nowhere outside."""
    signs = ("/etc/fstab", "/etc/os-release", "/usr/lib/os-release")
    return any(immutable.exists(directory, path) for path in signs) or immutable.is_deployed(directory)


def _subvolumes(directory: str) -> Iterator[str]:
    """Names of top-level subvolumes that can stand in mount options, the usual ones first."""
    names = []
    with os.scandir(directory) as entries:
        for entry in entries:
            details = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(details.st_mode) and details.st_ino == _BTRFS_SUBVOLUME_INODE and "," not in entry.name:
                names.append(entry.name)
            if len(names) >= _MAX_SUBVOLUMES:
                break
    yield from (name for name in _BTRFS_USUAL_ROOTS if name in names)
    yield from sorted(set(names) - set(_BTRFS_USUAL_ROOTS))
