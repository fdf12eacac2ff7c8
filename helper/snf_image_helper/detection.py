# SPDX-License-Identifier: GPL-2.0-or-later
"""Which system is on the disk and where its root is: told by the properties, or found by a look that writes nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from snf_image_helper.disk import Disk
from snf_image_helper.filesystems import MOUNTABLE, FileSystem, mount_for_a_look, probe, unmount
from snf_image_helper.partitions import Partition, PartitionTable
from snf_image_helper.reporter import Reporter
from snf_image_helper.resolution import open_inside
from snf_image_helper.system import OsFamily, System
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

_LOOK_AT = "/run/snf-image/look"
_BTRFS_SUBVOLUME_INODE = 256  # BTRFS_FIRST_FREE_OBJECTID
_BTRFS_USUAL_ROOTS = ("@", "root", "@rootfs")
_MAX_SUBVOLUMES = 64

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
_BSD = {
    "a5": OsFamily.FREEBSD,
    "a6": OsFamily.OPENBSD,
    "a9": OsFamily.NETBSD,
    "516E7CB6-6ECF-11D6-8FF8-00022D09712B": OsFamily.FREEBSD,
    "824CC7A0-36A8-11E3-890A-952519AD3F61": OsFamily.OPENBSD,
    "49F48D5A-B10E-11DC-B99B-0019D1879648": OsFamily.NETBSD,
}
_WINDOWS_DATA = frozenset({"7", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"})
_LOCKED = {"crypto_LUKS": "encrypted with LUKS", "BitLocker": "encrypted with BitLocker", "LVM2_member": "LVM"}


def detect(disk: Disk, job: Job, report: Reporter) -> System:
    """As find(), with a warning for each property that had to be found out."""
    system = find(disk, job, report)
    for name, found in (("OSFAMILY", system.family), ("ROOT_PARTITION", system.root_partition)):
        if job.wishes.text(name) is None:
            report.warning(f"Property {name} is not given: found {found}")
    return system


def find(disk: Disk, job: Job, report: Reporter) -> System:
    """Family and root partition. Raises GuestError for impossible properties and when nothing is recognised."""
    # The kernel may have read no table, or another one than we did.
    table = disk.reload()
    family = _family_property(job.wishes.text("OSFAMILY"))
    number = _root_property(job.wishes.text("ROOT_PARTITION"), table)
    if family is not None and number is not None:
        return System(family, number)
    return _found(disk, table, family, number, report)


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
    raise GuestError(
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


def _family_property(text: str | None) -> OsFamily | None:
    if text is None:
        return None
    try:
        return OsFamily(text.strip().lower())
    except ValueError as error:
        raise GuestError(f"property OSFAMILY: {text[:40]!r} is not one of {', '.join(OsFamily)}") from error


def _root_property(text: str | None, table: PartitionTable) -> int | None:
    if text is None:
        return None
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else 0
    partition = table.partition(number)
    if partition is None or partition.is_extended:
        raise GuestError(
            f"property ROOT_PARTITION: {text[:40]!r} is not the number of a partition of the image ({table.numbers})"
        )
    return number


def _found(disk: Disk, table: PartitionTable, family: OsFamily | None, number: int | None, report: Reporter) -> System:
    candidates = [
        item for item in table.partitions if not item.is_extended and (number is None or item.number == number)
    ]
    systems = probe([disk.partition_device(item.number) for item in candidates])
    on = {item.number: systems[disk.partition_device(item.number)] for item in candidates}
    if family in {None, OsFamily.LINUX}:
        for item in sorted(candidates, key=_likelihood):
            if not item.fixed_role and on[item.number].type in MOUNTABLE and _holds_linux(on[item.number], report):
                return System(OsFamily.LINUX, item.number)
    for item in candidates:
        guess = _foreign_family(item, on[item.number])
        if guess is not None and family in {None, guess, _legacy(guess)}:
            return System(family or guess, item.number)
    raise GuestError(_nothing_found(disk, [on[item.number] for item in candidates]))


def _likelihood(partition: Partition) -> tuple[int, int]:
    """Sorts the declared root first, then Linux data, then the rest, each in table order."""
    if partition.type in _LINUX_ROOTS:
        return 0, partition.number
    return (1 if partition.type in _LINUX_DATA else 2), partition.number


def _holds_linux(system: FileSystem, report: Reporter) -> bool:
    try:
        if system.type == "btrfs":
            btrfs_root(system.device)
            return True
        with looked_at(system.device, system.type) as directory:
            return _is_root(directory)
    except GuestError as error:
        report.warning(f"Looking for the root file system: {error}")
        return False


def _foreign_family(partition: Partition, system: FileSystem) -> OsFamily | None:
    if partition.type in _WINDOWS_DATA and system.type == "ntfs":
        return OsFamily.WINDOWS
    return _BSD.get(partition.type)


def _legacy(family: OsFamily) -> OsFamily:
    return OsFamily.WINDOWS_LEGACY if family is OsFamily.WINDOWS else family


def _nothing_found(disk: Disk, systems: Sequence[FileSystem]) -> str:
    seen = ", ".join(
        f"{Path(item.device).name}: {_LOCKED.get(item.type, item.type) or 'nothing known'}" for item in systems
    )
    return (
        f"no operating system is recognised on {disk.device} ({seen or 'no partition'}); set the properties OSFAMILY "
        "and ROOT_PARTITION, or EXCLUDE_ALL_TASKS=yes to deliver the image as it is"
    )


def _is_root(directory: str) -> bool:
    """Whether the tree looks like a Linux root; its links lead nowhere outside."""
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return any(_leads_somewhere(root, path) for path in ("/etc/fstab", "/etc/os-release", "/usr/lib/os-release"))
    finally:
        os.close(root)


def _leads_somewhere(root: int, path: str) -> bool:
    try:
        os.close(open_inside(root, path, os.O_PATH))
    except OSError:
        return False
    return True


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
