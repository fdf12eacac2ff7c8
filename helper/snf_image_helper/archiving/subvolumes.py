# SPDX-License-Identifier: GPL-2.0-or-later
"""What an archive leaves out of a guest's btrfs: snapshots that nobody can write to, and what it would have twice.

In a plain tree each of them were a whole copy: openSUSE has its root below /.snapshots once more, and its past there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper.detection import looked_at
from snf_image_helper.disks.filesystems import mount_table
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_shared.errors import GuestError
from snf_image_shared.process import run

_BTRFS = "btrfs"
_ROOT_INODE = 256  # of each subvolume: BTRFS_FIRST_FREE_OBJECTID
_SNAPSHOT = re.compile(r"ID \d+ gen \d+ top level \d+ parent_uuid +[^- ]\S* +path (.+)")  # btrfs-subvolume(8), list
_MOST = 1000  # names that a command line has room for


@dataclass(frozen=True)
class MountedPart:
    """A part of a btrfs, `inside` as a path from its top, that is mounted at `path`."""

    device: str
    inside: str
    path: str


def left_out(guest: Guest, report: Reporter) -> tuple[str, ...]:
    """Paths below the guest's root, without a slash before them; snapshots are told. Raises GuestError."""
    parts = _mounted_parts(guest)
    snapshots = {path for device in {part.device for part in parts} for path in _snapshots(device, parts)}
    found = {path for path in snapshots | set(seen_twice(parts)) if _is_subvolume(path)}
    if snapshots & found:
        report.warning(
            "Read-only snapshots of btrfs are not in the archive; "
            "an image of the whole disk, -t qcow2 or -t raw, has them"
        )
    if len(found) > _MOST:
        raise GuestError(f"the guest has {len(found)} snapshots, more than {_MOST}: remove some, or take -t qcow2")
    return tuple(sorted(os.path.relpath(path, guest.root) for path in found))


def seen_twice(parts: Sequence[MountedPart]) -> Iterator[str]:
    """Where a part is to be seen that is mounted elsewhere as well. Pure."""
    for number, one in enumerate(parts):
        for other in parts:
            path = _below(one, other.inside) if other.device == one.device else None
            if path and path != other.path:
                yield path
        if any((each.device, each.inside) == (one.device, one.inside) for each in parts[:number]):
            yield one.path


def _below(part: MountedPart, inside: str) -> str | None:
    """Where what is `inside` of the file system is to be seen below the mount point of `part`."""
    top = part.inside.rstrip("/")
    return f"{part.path}{inside.removeprefix(top)}" if inside.startswith(f"{top}/") and inside != part.inside else None


def _snapshots(device: str, parts: Sequence[MountedPart]) -> Iterator[str]:
    with looked_at(device, _BTRFS, "subvolid=5") as top:
        told = run(["btrfs", "subvolume", "list", "-r", "-q", top]).stdout
    mine = [part for part in parts if part.device == device]
    for inside in (f"/{found[1]}" for found in map(_SNAPSHOT.match, told.split("\n")) if found):
        if inside not in {part.inside for part in mine}:
            yield from (path for path in (_below(part, inside) for part in mine) if path)


def _mounted_parts(guest: Guest) -> tuple[MountedPart, ...]:
    """In the order of mounting."""
    parts = []
    for _, _, _, inside, path, *rest in mount_table("/proc/self/mountinfo"):
        kind, device, *_ = rest[rest.index("-") + 1 :]  # what comes before has a colon or is a known word
        if kind == _BTRFS and (path == guest.root or path.startswith(f"{guest.root}/")):
            parts.append(MountedPart(device, inside, path))
    return tuple(parts)


def _is_subvolume(path: str) -> bool:
    place = Path(path)
    return place.is_dir() and not place.is_symlink() and place.lstat().st_ino == _ROOT_INODE
