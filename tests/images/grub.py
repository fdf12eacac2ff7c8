# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB on an image file without a block device: grub-install wants one, two patched block addresses do not.

The offsets are those of GRUB's `include/grub/i386/pc/boot.h` and of the block list at the end of `diskboot.img`;
they have been the same since GRUB 2.00.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from images.partitions import SECTOR
from snf_image_shared.process import run

_PLATFORM = Path("/usr/lib/grub/i386-pc")
_BIOS_MODULES = ("biosdisk",)
_UEFI_MODULES = ("efi_gop", "fat")
_MODULES = ("part_gpt", "part_msdos", "search", "search_fs_uuid", "linux", "normal", "configfile", "serial")
# In boot.img: where the partition table and its signature begin, which the disk keeps.
_TABLE = 0x1B8
_KERNEL_SECTOR = 0x5C
# In diskboot.img, the first sector of core.img: address of the second sector, count, load segment.
_BLOCK_LIST = SECTOR - 12
_SEGMENT = 0x820


@dataclass(frozen=True)
class Gap:
    """Where core.img may lie: `sectors` sectors from `start`, in a BIOS boot partition or behind the MBR."""

    start: int
    sectors: int


@dataclass(frozen=True)
class Home:
    """Where grub.cfg lies: the file system's UUID, GRUB's module that reads it, and the directory from its top."""

    uuid: str
    module: str = "ext2"
    directory: str = "/boot/grub"


def install_bios(disk: Path, gap: Gap, home: Home, scratch: Path) -> None:
    """Make `disk` start through GRUB's BIOS loader what the grub.cfg in `home` says."""
    core = _image("i386-pc", _BIOS_MODULES, home, scratch)
    if -(-len(core) // SECTOR) > gap.sectors:
        raise ValueError(f"core.img has {len(core)} bytes, the gap {gap.sectors} sectors")
    with disk.open("r+b") as file:
        table = file.read(SECTOR)[_TABLE:]
        file.seek(0)
        file.write(boot_sector((_PLATFORM / "boot.img").read_bytes(), table, gap.start))
        file.seek(gap.start * SECTOR)
        file.write(placed_core(core, gap.start))


def uefi_loader(home: Home, scratch: Path) -> bytes:
    """Give a program for UEFI, of whatever name, that starts what the grub.cfg in `home` says."""
    return _image("x86_64-efi", _UEFI_MODULES, home, scratch)


def boot_sector(boot_img: bytes, table: bytes, core_sector: int) -> bytes:
    """Give the first sector of a disk: GRUB's code, pointed at `core_sector`, and the disk's own `table`."""
    return boot_img[:_KERNEL_SECTOR] + struct.pack("<Q", core_sector) + boot_img[_KERNEL_SECTOR + 8 : _TABLE] + table


def placed_core(core: bytes, sector: int) -> bytes:
    """Give core.img as it must lie from `sector` on: its first sector names where the others are."""
    others = -(-len(core) // SECTOR) - 1
    return core[:_BLOCK_LIST] + struct.pack("<QHH", sector + 1, others, _SEGMENT) + core[SECTOR:]


def _image(platform: str, modules: tuple[str, ...], home: Home, scratch: Path) -> bytes:
    early, image = scratch / "early.cfg", scratch / "core.img"
    early.write_text(f"search.fs_uuid {home.uuid} root\nset prefix=($root){home.directory}\n")
    argv = ["grub-mkimage", "-O", platform, "-c", str(early), "-p", home.directory, "-o", str(image)]
    run([*argv, *modules, *_MODULES, home.module])
    return image.read_bytes()
