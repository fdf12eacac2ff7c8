# SPDX-License-Identifier: GPL-2.0-or-later
"""FilesystemResizeMounted: let the guest grow the file system on the last partition at its first boot.

By the system's own means, for there is no other program for it here: growfs_enable and the sentinel of the first boot
on FreeBSD (rc.d/growfs), resize_root on NetBSD (rc.d/resize_root, then a reboot as in its own images, for the kernel
has the old superblock), growfs(8) on OpenBSD, which only takes what is not mounted.
"""

from __future__ import annotations

import re

from snf_image_helper import fstab
from snf_image_helper.bsd import first_boot
from snf_image_helper.bsd.first_boot import Moment, Step
from snf_image_helper.bsd.rc_conf import RcConf
from snf_image_helper.disks.disk import Place
from snf_image_helper.disks.growth import filling
from snf_image_helper.disks.partitions import MIB
from snf_image_helper.disks.ufs import read_ufs
from snf_image_helper.files.edits import Edits
from snf_image_helper.files.guest_errors import shown
from snf_image_helper.fstab import FSTAB, Entry
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import OsFamily
from snf_image_helper.task import BSD, MOUNT_IMAGE, CloudInit, Task
from snf_image_shared.job import Job

_GROWFS, _RESIZE_ROOT = "/etc/rc.d/growfs", "/etc/rc.d/resize_root"
_SENTINEL = "/firstboot"
_NETBSD_CONF = "/etc/rc.conf.d/resize_root"
# Programs of these run as long as the system does.
_ALWAYS_BUSY = frozenset({"/", "/usr", "/var", "/tmp", "/usr/local", "/usr/X11R6", "/usr/libexec"})  # noqa: S108
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/-]{1,200}")
_PLAIN_DEVICE = re.compile(r"[0-9a-f]{16}\.[a-zA-Z]|/dev/[a-z]+[0-9]+[a-zA-Z]")


def filesystem_resize_mounted(guest: Guest, job: Job, report: Reporter) -> None:
    """Nothing is left for the first boot where nothing can grow. Raises GuestError."""
    place = filling(guest.disk, None)
    if place is None or not _has_room(guest, place):
        return
    is_root = place.number == guest.system.root_partition
    match guest.system.family:
        case OsFamily.OPENBSD:
            problem = grow_openbsd(guest, place)
        case _ if not is_root:
            problem = f"{place.name} is not the root's, and {guest.system.family} grows no other by itself"
        case OsFamily.FREEBSD:
            problem = grow_freebsd(guest)
        case _:
            problem = grow_netbsd(guest)
    if problem:
        report.warning(f"The file system on {place.name} is not grown: {problem}")


def grow_freebsd(guest: Guest) -> str:
    """Order the growth of the root; the answer is why it will not happen, or ""."""
    if not guest.is_file(_GROWFS):
        return f"the guest has no {_GROWFS}; run growfs in it"
    edits = Edits(guest)
    configuration = RcConf(edits)
    configuration.set("growfs_enable", "YES")
    sentinel = configuration.value("firstboot_sentinel") or _SENTINEL
    edits.apply()
    if not guest.exists(sentinel if sentinel.startswith("/") else _SENTINEL):
        guest.write_text(sentinel if sentinel.startswith("/") else _SENTINEL, "")
    return ""


def grow_netbsd(guest: Guest) -> str:
    """As grow_freebsd(). rc.d/resize_root looks at every boot; the order goes when the root has its size.

    NetBSD 9's takes "ROOT.a" for a device, older ones do not, and none of them NAME=, which is no error to them.
    """
    root = fstab.root_entry(fstab.parse(guest.read_text(FSTAB, missing_ok=True) or "")[0])
    if not guest.is_file(_RESIZE_ROOT):
        return f"the guest has no {_RESIZE_ROOT}; boot it with -s and run resize_ffs"
    if root is None or root.type != "ffs":
        return f"{FSTAB} has no line for a root of type ffs; add it in the image"
    if root.has("log"):
        return (
            f"rc.d/resize_root passes over a root that is mounted with log; take that option out of {FSTAB} in the "
            "image, or boot it with -s and run resize_ffs"
        )
    if not root.device.startswith("/dev/") and root.device[:4] not in guest.read_text(_RESIZE_ROOT):
        return (
            f"its {_RESIZE_ROOT} does not know what {shown(root.device)} is, as {FSTAB} calls the root; write "
            "/dev/... there in the image, or boot it with -s and run resize_ffs"
        )
    guest.make_directory(_NETBSD_CONF.rpartition("/")[0])
    guest.write_text(
        _NETBSD_CONF,
        "# Written by snf-image for the first boot, which removes it.\n"
        'resize_root=YES\nresize_root_postcmd="/sbin/reboot -n"\n',
    )
    first_boot.add(guest, Step("growth", (f"rm -f {_NETBSD_CONF}",), Moment.LAST))
    return ""


def grow_openbsd(guest: Guest, place: Place) -> str:
    """As grow_freebsd(), for whatever is the last file system. rc.firsttime unmounts it, if nothing is busy there."""
    letter = place.slice.letter if place.slice else ""
    entry = next((entry for entry in fstab.parse(guest.read_text(FSTAB))[0] if _is_on(entry, letter)), None)
    if entry is None or not _PLAIN_DEVICE.fullmatch(entry.device) or not _PLAIN_PATH.fullmatch(entry.mount_point + "/"):
        return f"{FSTAB} does not say where it is mounted; run growfs in the guest"
    grow = f"growfs -y {entry.device} && fsck -fy {entry.device}"
    if entry.mount_point in _ALWAYS_BUSY:
        return (
            f"OpenBSD's growfs takes no mounted file system, and {entry.mount_point} always is; start the guest with "
            f"boot -s and run: {grow} && reboot"
        )
    path = entry.mount_point
    first_boot.add(guest, Step("growth", (f"umount {path} && {{ {grow}; mount {path}; }}",), Moment.LAST))
    return ""


def _is_on(entry: Entry, letter: str) -> bool:
    return bool(letter) and entry.type == "ffs" and entry.device.endswith(letter) and entry.mount_point.startswith("/")


def _has_room(guest: Guest, place: Place) -> bool:
    """Whether the file system leaves a MiB or more of its partition unused."""
    if place.partition is None:
        return False
    ufs = read_ufs(place.device)
    return ufs.size * ufs.fragment + MIB <= place.partition.size * guest.disk.sector_size


TASK: Task[Guest] = Task(
    "FilesystemResizeMounted",
    filesystem_resize_mounted,
    families=BSD,
    cloud_init=CloudInit.OFF,
    resizes=True,
    after=("FixPartitionTable", MOUNT_IMAGE),
    decides="only what lies on the last partition and is smaller",
)
