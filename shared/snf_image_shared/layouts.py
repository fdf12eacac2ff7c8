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
BIOS_BOOT_SIZE = 1  # MiB
SMALLEST_BOOT = 16  # MiB
MSDOS_REACH = 2 << 20  # MiB that 32-bit numbers of sectors of 512 bytes can tell of
# MiB below which mkfs refuses: xfsprogs since 5.19, btrfs-progs with two copies of metadata. Of ext our own least.
_SMALLEST_ROOT = {"xfs": 300, "btrfs": 128}
_SMALLEST = 64
_LARGEST_ROOT = dict.fromkeys(("ext2", "ext3"), (16 << 20) - 1)  # MiB: 32-bit numbers of blocks of 4 KiB


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
    """The partitions of a disk of `size` bytes, by number. Raises DiskError when they do not fit.

    The root is the last one on the disk, so that it can grow with it. What GPT and UEFI need on top of instance-image's
    layouts stands before all others, and is numbered behind the root.
    """
    mib = size // MIB
    _check_reach(layout, mib)
    wanted = [(Role.BOOT, layout.boot), (Role.SWAP, layout.swap)]
    ahead = [(role, length) for role, length in wanted if length]
    extra = _extra(layout)
    end = mib - (1 if layout.table is TableType.GPT else 0)  # a GPT has its backup there
    root = end - 1 - sum(length for _, length in (*ahead, *extra))
    _check_room(layout, mib, root, (*ahead, *extra))
    in_order = (*(role for role, _ in ahead), Role.ROOT, *(role for role, _ in extra))
    numbers = {role: number for number, role in enumerate(in_order, start=1)}
    found, at = [], 1
    for role, length in (*extra, *ahead, (Role.ROOT, root)):
        found.append(Planned(numbers[role], role, at, length))
        at += length
    return tuple(sorted(found, key=lambda each: each.number))


def file_system_of(role: Role, layout: Layout) -> str:
    """The type of the file system there, as blkid names it; "" where there is none.

    Every loader reads ext4, and not every one xfs or btrfs: a separate /boot is never one of the latter.
    """
    match role:
        case Role.BIOS_BOOT:
            return ""
        case Role.ESP:
            return "vfat"
        case Role.SWAP:
            return "swap"
        case Role.BOOT if layout.filesystem in {"xfs", "btrfs"}:
            return "ext4"
        case _:
            return layout.filesystem


def _extra(layout: Layout) -> list[tuple[Role, int]]:
    if layout.boot_mode is BootMode.UEFI:
        return [(Role.ESP, layout.esp)]
    return [(Role.BIOS_BOOT, BIOS_BOOT_SIZE)] if layout.table is TableType.GPT else []


def _check_reach(layout: Layout, mib: int) -> None:
    if layout.table is TableType.MSDOS and mib > MSDOS_REACH:
        raise DiskError(
            f"the disk has {mib} MiB and PARTITION_TABLE=msdos reaches {MSDOS_REACH}: give gpt, or leave it out"
        )


def _check_room(layout: Layout, mib: int, root: int, beside: tuple[tuple[Role, int], ...]) -> None:
    if layout.swap > mib:
        # An orchestrator may look for these words of instance-image.
        raise DiskError(f"SWAP_SIZE larger than system disk size: {layout.swap} MiB of swap, {mib} MiB of disk")
    if 0 < layout.boot < SMALLEST_BOOT:
        raise DiskError(f"BOOT_SIZE is {layout.boot} MiB and {SMALLEST_BOOT} are the least; give more, or 0 for none")
    least = _SMALLEST_ROOT.get(layout.filesystem, _SMALLEST)
    if root < least:
        parts = ", ".join(f"{role} {length}" for role, length in beside) or "nothing else"
        raise DiskError(
            f"the disk has {mib} MiB, which leaves {max(root, 0)} for the root beside {parts} (MiB), and "
            f"{layout.filesystem} needs {least}: give a larger disk, or a smaller SWAP_SIZE or BOOT_SIZE"
        )
    most = _LARGEST_ROOT.get(layout.filesystem, root)
    if root > most:
        raise DiskError(
            f"the root would have {root} MiB and {layout.filesystem} takes {most}: FILESYSTEM=ext4 has room"
        )
