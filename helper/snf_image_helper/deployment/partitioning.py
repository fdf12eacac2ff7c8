# SPDX-License-Identifier: GPL-2.0-or-later
"""The partition table of a disk that the helper divides, and nothing of whoever had the disk before at its edges."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator

from snf_image_helper.disks.disk import Disk
from snf_image_shared.deployment import BootMode, Layout, TableType
from snf_image_shared.layouts import MIB, Planned, Role, partitions
from snf_image_shared.process import run

_MSDOS = {Role.BOOT: "83", Role.ROOT: "83", Role.SWAP: "82", Role.ESP: "ef"}
# Discoverable Partitions Specification, and GRUB's own.
_GPT = {
    Role.BIOS_BOOT: "21686148-6449-6E6F-744E-656564454649",
    Role.ESP: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    Role.BOOT: "BC13C2FF-59E6-4262-A352-B275FD6F7172",
    Role.SWAP: "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
    Role.ROOT: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
}
_NAMES = {Role.BIOS_BOOT: "BIOS boot", Role.ESP: "EFI system", Role.BOOT: "boot", Role.SWAP: "swap", Role.ROOT: "root"}

_BLKZEROOUT = 0x127F  # linux/fs.h
# Where things that a system activates by itself have their marks: at the begin (LUKS2 has its second header within
# 4 MiB), at the end (GPT, md, ZFS, DDF), and where btrfs keeps copies of its superblock.
_HEAD, _TAIL = 8 * MIB, MIB
_BTRFS_COPIES = (64 * MIB, 256 << 30)
_BTRFS_COPY = 64 << 10


def divide(disk: Disk, layout: Layout) -> tuple[Planned, ...]:
    """Write the table, and tell the kernel. Raises GuestError, ProcessError, OSError, DiskError if it does not fit."""
    planned = partitions(layout, disk.sectors * disk.sector_size)
    _forget(disk, planned)
    command = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe=always", "--wipe-partitions=always"]
    run([*command, disk.device], stdin="\n".join((*_script(disk, layout, planned), "")).encode("ascii"))
    disk.reload()
    return planned


def _script(disk: Disk, layout: Layout, planned: tuple[Planned, ...]) -> Iterator[str]:
    """sfdisk's, without identities: those are to be new each time."""
    is_gpt = layout.table is TableType.GPT
    yield f"label: {'gpt' if is_gpt else 'dos'}"
    yield "unit: sectors"
    active = next(each.role for each in planned if each.role in {Role.BOOT, Role.ROOT})
    flag = ', attrs="LegacyBIOSBootable"' if is_gpt else ", bootable"
    per_mib = MIB // disk.sector_size
    for each in planned:
        kind = f'type={_GPT[each.role]}, name="{_NAMES[each.role]}"' if is_gpt else f"type={_MSDOS[each.role]}"
        is_started = each.role is active and layout.boot_mode is BootMode.BIOS
        place = f"start={each.start * per_mib}, size={each.size * per_mib}"
        yield f"{disk.node(each.number)}: {place}, {kind}{flag if is_started else ''}"


def _forget(disk: Disk, planned: tuple[Planned, ...]) -> None:
    """Zero the edges of the disk and of what its partitions will be."""
    size = disk.sectors * disk.sector_size
    descriptor = os.open(disk.device, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for start, end in ((0, min(MIB, size)), (max(0, size - _TAIL), size), *_edges(planned)):
            fcntl.ioctl(descriptor, _BLKZEROOUT, struct.pack("QQ", start, end - start))
    finally:
        os.close(descriptor)


def _edges(planned: tuple[Planned, ...]) -> Iterator[tuple[int, int]]:
    """First bytes, and the first ones behind."""
    for each in planned:
        start, end = each.start * MIB, (each.start + each.size) * MIB
        yield start, min(start + _HEAD, end)
        yield max(start, end - _TAIL), end
        yield from ((start + at, start + at + _BTRFS_COPY) for at in _BTRFS_COPIES if start + at + _BTRFS_COPY <= end)
