# SPDX-License-Identifier: GPL-2.0-or-later
"""What a BSD calls the partitions of its first disk, in the first field of its fstab.

FreeBSD: ada0p2, ada0s1a and labels of GEOM (man 5 geom, glabel(8)). NetBSD: wd0a, dk0, NAME= and ROOT.a (fstab(5)).
OpenBSD: sd0a and the disk label's own identity, DUID.a (disklabel(8)).
"""

from __future__ import annotations

import re

from snf_image_helper.disks.disk import Place
from snf_image_helper.disks.disklabel import Labelled
from snf_image_helper.disks.filesystems import spelled
from snf_image_helper.disks.volumes import Volumes
from snf_image_helper.system import OsFamily

# The first disk of each kind of controller; on CAM's and ATA's the numbers begin anew for each driver.
_DISKS = {
    OsFamily.FREEBSD: "vtbd0|ada0|da0|nda0|nvd0|nvme0ns1|ad0|xbd0|mmcsd0",
    OsFamily.NETBSD: "wd0|ld0|sd0|xbd0",
    OsFamily.OPENBSD: "wd0|sd0",
}
_NUMBERED = re.compile(r"[ps]([1-9][0-9]{0,2})")
_SLICE_LETTER = re.compile(r"s([1-4])([a-z])")
_GEOM = re.compile(r"/dev/(gpt|gptid|ufs|ufsid|msdosfs)/([^/]+)")
_WEDGE = re.compile(r"/dev/dk([0-9]{1,3})")
_DUID = re.compile(r"([0-9a-f]{16})\.([a-zA-Z])")


def place_named(name: str, volumes: Volumes, family: OsFamily, root: Place) -> Place | None:
    """The place on the image's disk that `name` means to the guest whose root is at `root`; None for any other."""
    match family:
        case OsFamily.FREEBSD:
            return _by_geom(name, volumes) or _by_disk(name, volumes, family)
        case OsFamily.NETBSD:
            return _by_netbsd(name, volumes, root) or _by_disk(name, volumes, family)
        case OsFamily.OPENBSD:
            return _by_duid(name, volumes) or _by_disk(name, volumes, family)
    return None


def _by_geom(name: str, volumes: Volumes) -> Place | None:
    found = _GEOM.fullmatch(name)
    if found is None:
        return None
    kind, label = found[1], found[2]
    tag = {"gpt": "partlabel", "gptid": "partuuid", "ufsid": "uuid"}.get(kind, "label")
    value = spelled(label) if tag == "label" else label.lower() if tag in {"partuuid", "uuid"} else label
    place = _on(volumes, volumes.names.get((tag, value)))
    file_system = {"ufs": "ufs", "ufsid": "ufs", "msdosfs": "vfat"}.get(kind)
    return place if place and file_system in {None, volumes.on(place).type} else None


def _by_disk(name: str, volumes: Volumes, family: OsFamily) -> Place | None:
    found = re.fullmatch(rf"/dev/r?({_DISKS[family]})([a-z0-9]*)", name)
    if found is None:
        return None
    rest = found[2]
    if family is not OsFamily.FREEBSD:
        return _lettered(volumes, rest) if len(rest) == 1 else None
    if numbered := _NUMBERED.fullmatch(rest):
        return next((item for item in volumes.places if item.number == int(numbered[1]) and not item.slice), None)
    if of_slice := _SLICE_LETTER.fullmatch(rest):
        return _lettered(volumes, of_slice[2], int(of_slice[1]))
    return _lettered(volumes, rest) if len(rest) == 1 else None


def _by_netbsd(name: str, volumes: Volumes, root: Place) -> Place | None:
    if name.startswith("NAME="):
        return _on(volumes, volumes.names.get(("partlabel", name.removeprefix("NAME="))))
    if wedge := _WEDGE.fullmatch(name):
        # Wedges are numbered as they are found: in the order of the table, where a table of its own has them.
        ordered = [item for item in volumes.places if item.partition and not item.slice]
        number = int(wedge[1])
        return ordered[number] if number < len(ordered) and not volumes.disk.labels else None
    if name == "ROOT":
        return root
    if name.startswith("ROOT.") and len(name) == 6:
        return _lettered(volumes, name[5])
    return None


def _by_duid(name: str, volumes: Volumes) -> Place | None:
    found = _DUID.fullmatch(name)
    labelled = next((item for item in volumes.disk.labels if found and item.label.duid == found[1]), None)
    return _of_label(volumes, labelled, found[2]) if found and labelled else None


def _lettered(volumes: Volumes, letter: str, parent: int | None = None) -> Place | None:
    """A letter of the only disk label, or of the one in the partition `parent`."""
    labels = [item for item in volumes.disk.labels if parent in {None, item.parent.number}]
    return _of_label(volumes, labels[0], letter) if len(labels) == 1 else None


def _of_label(volumes: Volumes, labelled: Labelled, letter: str) -> Place | None:
    """Its own slice of that letter, or the partition of the table that it also names, as OpenBSD's i is the ESP."""
    number = next((number for number, item in labelled.slices.items() if item.letter == letter), None)
    if number is not None:
        return next((item for item in volumes.places if item.number == number), None)
    spoofed = next((item for item in labelled.label.slices if item.letter == letter), None)
    return next(
        (
            item
            for item in volumes.places
            if item.partition
            and spoofed
            and (item.partition.start, item.partition.size) == (spoofed.start, spoofed.size)
        ),
        None,
    )


def _on(volumes: Volumes, device: str | None) -> Place | None:
    return next((item for item in volumes.places if item.device == device), None)
