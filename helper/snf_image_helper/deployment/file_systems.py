# SPDX-License-Identifier: GPL-2.0-or-later
"""The file systems of a disk that the helper has divided."""

from __future__ import annotations

import os
from dataclasses import dataclass

from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import make_swap, probe
from snf_image_shared.deployment import Layout
from snf_image_shared.errors import GuestError
from snf_image_shared.layouts import Planned, Role, file_system_of
from snf_image_shared.process import Limits, run

_PATIENCE = Limits(timeout=24 * 3600)  # inode tables of a large ext3; the host's deadline is the one that counts
_LABELS = {Role.ROOT: "/", Role.BOOT: "/boot"}
_MOST_OF_32_BITS = 16 << 20  # MiB in 2**32 blocks of 4 KiB

# What mkfs turns on by itself, and kernels, loaders and fsck of guests do not know that have been published for ten
# years: RHEL 6 and 7, Debian 8; GRUB 2.02, extlinux 6. They write each other's file systems otherwise.
_OLD_EXT4 = "^metadata_csum,^metadata_csum_seed,^orphan_file,uninit_bg"
_OLD_XFS = ("-m", "bigtime=0,inobtcount=0,reflink=0,rmapbt=0", "-i", "sparse=0,nrext64=0")
_OLD_BTRFS = ("-O", "^no-holes", "-R", "^free-space-tree")


@dataclass(frozen=True)
class Made:
    """A file system, or swap space; `uuid` as fstab writes it."""

    role: Role
    device: str
    type: str
    uuid: str


def make_file_systems(disk: Disk, layout: Layout, planned: tuple[Planned, ...]) -> tuple[Made, ...]:
    """Make one on each partition but BIOS boot, with identities of its own. Raises ProcessError, GuestError."""
    wanted = {disk.node(each.number): each for each in planned if file_system_of(each.role, layout)}
    for device, each in wanted.items():
        if each.role is Role.SWAP:
            make_swap(device)
        else:
            run([*_command(each, layout), device], limits=_PATIENCE)
    found = probe(list(wanted))
    for device, each in wanted.items():
        if found[device].type != file_system_of(each.role, layout) or not found[device].uuid:
            raise GuestError(f"{device} holds {found[device].type or 'nothing known'} after its mkfs; report this")
    return tuple(Made(each.role, device, found[device].type, found[device].uuid) for device, each in wanted.items())


def _command(planned: Planned, layout: Layout) -> list[str]:
    kind = file_system_of(planned.role, layout)
    label = ["-L", _LABELS.get(planned.role, "")]
    match kind:
        case "vfat":
            # By itself it takes the time of day for an identity.
            return ["mkfs.vfat", "-F", "32", "-n", "ESP", "-i", os.urandom(4).hex()]
        case "xfs":
            return ["mkfs.xfs", "-f", "-q", *label, *(_OLD_XFS if layout.conservative else ())]
        case "btrfs":
            return ["mkfs.btrfs", "-f", "-q", *label, *(_OLD_BTRFS if layout.conservative else ())]
        case "ext4" if layout.conservative:
            # Without 64bit extlinux and old e2fsprogs can do more with it, and it ends where 32 bits do.
            wide = "" if planned.size >= _MOST_OF_32_BITS else ",^64bit"
            return ["mkfs.ext4", "-F", "-q", *label, "-O", f"{_OLD_EXT4}{wide}"]
        case _:
            return [f"mkfs.{kind}", "-F", "-q", *label]
