# SPDX-License-Identifier: GPL-2.0-or-later
"""Layout and size of a disk -> its partitions. Pure, so that the host can refuse what does not fit before it writes.

Everything begins and ends at whole MiB, and all sizes are MiB. The numbers are those of instance-image 0.7.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from snf_image_shared.deployment import BootMode, Layout, TableType
from snf_image_shared.errors import DiskError

MIB = 1 << 20
ESP_SIZE = 128  # MiB
BIOS_BOOT_SIZE = 1  # MiB
SMALLEST_ROOT = 64  # MiB


class Role(StrEnum):
    """What a partition is for."""

    BIOS_BOOT = "bios-boot"
    ESP = "esp"
    BOOT = "boot"
    SWAP = "swap"
    ROOT = "root"


@dataclass(frozen=True)
class Planned:
    """A partition to be made; `start` and `size` in MiB."""

    number: int
    role: Role
    start: int
    size: int


def partitions(layout: Layout, size: int) -> tuple[Planned, ...]:
    """The partitions of a disk of `size` bytes, by number. Raises DiskError when they do not fit."""
    # The first numbers are those of instance-image; what GPT and UEFI need on top stands behind the root.
    wanted = [(Role.BOOT, layout.boot), (Role.SWAP, layout.swap)]
    ahead = [(role, mib) for role, mib in wanted if mib]
    gpt = layout.table is TableType.GPT
    extra = [(Role.BIOS_BOOT, BIOS_BOOT_SIZE)] if gpt and layout.boot_mode is BootMode.BIOS else []
    extra += [(Role.ESP, ESP_SIZE)] if layout.boot_mode is BootMode.UEFI else []
    end = size // MIB - (1 if gpt else 0)
    taken = 1 + sum(mib for _, mib in (*ahead, *extra))
    root = end - taken
    if root < SMALLEST_ROOT:
        parts = ", ".join(f"{role} {mib}" for role, mib in (*ahead, *extra)) or "nothing else"
        raise DiskError(
            f"the disk has {size // MIB} MiB, which leaves {max(root, 0)} for the root beside {parts} (MiB): "
            "give a larger disk, or a smaller SWAP_SIZE or BOOT_SIZE"
        )
    numbers = {
        role: number for number, role in enumerate((*(role for role, _ in (*ahead, (Role.ROOT, 0), *extra)),), 1)
    }
    found, at = [], 1
    for role, mib in (*extra, *ahead, (Role.ROOT, root)):
        found.append(Planned(numbers[role], role, at, mib))
        at += mib
    return tuple(sorted(found, key=lambda each: each.number))
