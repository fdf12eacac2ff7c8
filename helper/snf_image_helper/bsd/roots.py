# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the root of a BSD may be: told by types of partitions and by disklabels. Nothing is mounted here.

Types: sys/sys/disk/gpt.h of FreeBSD, sys/sys/disklabel_gpt.h of NetBSD, and those of an MBR in fdisk(8).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from snf_image_helper.disks.disk import Disk, Place
from snf_image_helper.disks.disklabel import FFS, Labelled, Slice
from snf_image_helper.system import OsFamily, UnknownGuestError

_TYPES = {
    "a5": OsFamily.FREEBSD,
    "a6": OsFamily.OPENBSD,
    "a9": OsFamily.NETBSD,
    "516E7CB6-6ECF-11D6-8FF8-00022D09712B": OsFamily.FREEBSD,
    "824CC7A0-36A8-11E3-890A-952519AD3F61": OsFamily.OPENBSD,
    "49F48D5A-B10E-11DC-B99B-0019D1879648": OsFamily.NETBSD,
}
_FREEBSD_ZFS = "516E7CBA-6ECF-11D6-8FF8-00022D09712B"


class ZfsRootError(UnknownGuestError):
    """A FreeBSD that has its root on ZFS, in the partition `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"FreeBSD has its root on ZFS here (partition {number}), which Linux cannot write; for an image with "
            "nuageinit or cloud-init set CLOUD_INIT=yes and CLOUD_INIT_SEED=partition, or publish one with UFS"
        )
        self.number = number


def roots(disk: Disk) -> Iterator[tuple[Place, OsFamily]]:
    """The places that may hold the root of a BSD, the likelier first, and whose. Raises GuestError."""
    labels = {number: found for found in disk.labels for number in found.slices}
    for place in disk.places():
        if place.slice:
            found = labels[place.number]
            if place.slice == _root_slice(found):
                yield place, found.label.family
        elif place.partition and place.partition.type in _TYPES:
            yield place, _TYPES[place.partition.type]


def on_zfs(places: Iterable[Place]) -> int | None:
    """The number of the partition on which FreeBSD has its ZFS, None when there is none."""
    types = ((place.number, place.partition.type) for place in places if place.partition)
    return next((number for number, kind in types if kind == _FREEBSD_ZFS), None)


def _root_slice(found: Labelled) -> Slice | None:
    """Slice a, or the first FFS of a label that has none there."""
    own = found.label.own(found.parent)
    return next((item for item in own if item.letter == "a"), next((item for item in own if item.kind == FFS), None))
