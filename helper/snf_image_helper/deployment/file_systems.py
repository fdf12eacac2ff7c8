# SPDX-License-Identifier: GPL-2.0-or-later
"""The file systems of a disk that the helper has divided."""

from __future__ import annotations

from dataclasses import dataclass

from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import probe
from snf_image_shared.deployment import Layout
from snf_image_shared.layouts import Planned, Role
from snf_image_shared.process import Limits, run

_PATIENCE = Limits(timeout=600)


@dataclass(frozen=True)
class Made:
    """A file system, or swap space; `uuid` as fstab writes it."""

    role: Role
    device: str
    type: str
    uuid: str


def make_file_systems(disk: Disk, layout: Layout, planned: tuple[Planned, ...]) -> tuple[Made, ...]:
    """Make one on each partition but BIOS boot. Raises ProcessError."""
    devices = {each.role: disk.node(each.number) for each in planned if each.role is not Role.BIOS_BOOT}
    for role, device in devices.items():
        run(_command(role, device, layout), limits=_PATIENCE)
    found = probe(list(devices.values()))
    return tuple(Made(role, device, found[device].type, found[device].uuid) for role, device in devices.items())


def _command(role: Role, device: str, layout: Layout) -> list[str]:
    label = "/boot" if role is Role.BOOT else "/"
    match role, layout.filesystem:
        case Role.SWAP, _:
            return ["mkswap", "-f", device]
        case Role.ESP, _:
            return ["mkfs.vfat", "-F", "32", "-n", "ESP", device]
        case _, "xfs":
            return ["mkfs.xfs", "-f", "-q", "-L", label, device]
        case _, "btrfs":
            return ["mkfs.btrfs", "-f", "-q", "-L", label, device]
        case _, name:
            features = ["-O", "^metadata_csum_seed,^orphan_file"] if name == "ext4" and layout.conservative else []
            return [f"mkfs.{name}", "-F", "-q", "-L", label, *features, device]
