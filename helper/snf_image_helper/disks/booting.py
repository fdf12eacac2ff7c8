# SPDX-License-Identifier: GPL-2.0-or-later
"""How a disk can boot, told from its bytes: boot code in the first sector, loaders on an EFI system partition."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from snf_image_helper.disks.disk import Disk
from snf_image_helper.files.resolution import open_inside
from snf_image_helper.problems import Problems, fact
from snf_image_shared.findings import FoundBoot

ESP = "EFI system"  # what partitions.py calls the role
_CODE = 440  # bytes of the first sector that are code; disk signature and table follow
_SIGNATURE = slice(510, 512)
# What the codes themselves would say on a screen.
_CODES = (
    (b"GRUB", "GRUB"),
    (b"LILO", "LILO"),
    (b"Operating system load error", "SYSLINUX"),
    (b"Error loading operating system", "Windows"),
)
_CORE_AT = slice(0x5C, 0x64)  # GRUB_BOOT_MACHINE_KERNEL_SECTOR: where boot.img finds the rest, in sectors
_SECTOR = 512  # bytes: BIOS knows no other
# UEFI Specification, "Removable Media Boot Behavior".
_REMOVABLE = re.compile(r"EFI/BOOT/BOOT(X64|IA32|AA64|ARM|RISCV64|LOONGARCH64)\.EFI", re.IGNORECASE)
_MOST = 16  # loaders, and entries of a directory that are looked at times four


def boot_of(disk: Disk, loaders: tuple[str, ...], problems: Problems) -> FoundBoot:
    """What the first sector says, and the `loaders` that were found. Raises OSError."""
    with Path(disk.device).open("rb") as file:
        head = file.read(_SECTOR)
        bios = any(head[:_CODE]) and head[_SIGNATURE] == b"\x55\xaa"
        code = next((name for mark, name in _CODES if bios and mark in head[:_CODE]), "")
        if code == "GRUB":
            sector = int.from_bytes(head[_CORE_AT], "little")
            file.seek(min(sector * _SECTOR, disk.sectors * disk.sector_size))
            if not any(file.read(_SECTOR)):
                problems.add(f"GRUB's boot code looks for the rest of GRUB in sector {sector}, where there is nothing")
                bios = False
    return FoundBoot(bios, code, any(_REMOVABLE.fullmatch(path) for path in loaders), loaders)


def loaders_in(directory: str) -> tuple[str, ...]:
    """Paths like EFI/BOOT/BOOTX64.EFI of the EFI system partition that is mounted there. Raises OSError."""
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = [
            f"EFI/{vendor}/{name}"
            for vendor in _names(root, "/EFI")
            for name in _names(root, f"/EFI/{vendor}")
            if name.lower().endswith(".efi")
        ]
    finally:
        os.close(root)
    found.sort(key=lambda path: (not _REMOVABLE.fullmatch(path), path))
    return tuple(map(fact, found[:_MOST]))


def _names(root: int, path: str) -> Iterator[str]:
    """The first names in a directory inside the root; none where there is no such directory."""
    try:
        directory = open_inside(root, path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry, _ in zip(entries, range(4 * _MOST), strict=False)]
    finally:
        os.close(directory)
    yield from sorted(names)
