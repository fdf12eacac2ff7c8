# SPDX-License-Identifier: GPL-2.0-or-later
"""EXTLINUX, of the package extlinux (Debian) or syslinux (Alpine): for a BIOS, from ext2, ext3, ext4 or btrfs."""

from __future__ import annotations

import os

from snf_image_helper.boot_loaders.starting import Start
from snf_image_helper.chroot import Chroot
from snf_image_helper.disks.partitions import TableKind
from snf_image_helper.guest import Guest
from snf_image_shared.errors import GuestError
from snf_image_shared.process import run

_PROGRAMS = ("/usr/bin/extlinux", "/sbin/extlinux", "/usr/sbin/extlinux")
_UPDATER = ("/sbin/update-extlinux", "/usr/sbin/update-extlinux")  # Alpine's
_SECTORS = (
    *("/usr/lib/EXTLINUX", "/usr/lib/syslinux/mbr", "/usr/lib/syslinux", "/usr/share/syslinux"),
    *("/usr/lib/syslinux/bios", "/usr/lib/extlinux"),
)
_DIRECTORY = "/boot/extlinux"
_MENUS = ("/boot/extlinux/extlinux.conf", "/boot/extlinux.conf")
_CODE = 440  # bytes of an MBR that are code
_READABLE = ("ext2", "ext3", "ext4", "btrfs")


def is_there(guest: Guest) -> bool:
    """Whether the guest has EXTLINUX."""
    return _first(guest, _PROGRAMS) is not None and _sector(guest, "mbr.bin") is not None


def install(guest: Guest, root: Chroot, start: Start) -> None:
    """Into the boot file system, its menu beside it, and the MBR's code. Raises GuestError, ProcessError."""
    if start.boot.type not in _READABLE:
        raise GuestError(
            f"EXTLINUX cannot start from {start.boot.type}; choose FILESYSTEM=ext4, or put GRUB into the image"
        )
    updater = _first(guest, _UPDATER)
    if updater:
        root.run([updater])
    else:
        guest.make_directory(_DIRECTORY)
        if not any(guest.is_file(path) for path in _MENUS):
            guest.write_text(_MENUS[0], _menu(start))
        root.run([_first(guest, _PROGRAMS) or "", "--install", _DIRECTORY])
    _write_code(guest, start)


def _menu(start: Start) -> str:
    lines = ["DEFAULT linux", "PROMPT 0", "TIMEOUT 10"]
    for number, kernel in enumerate(start.kernels):
        lines += ["", f"LABEL linux{number or ''}", f"  LINUX {start.in_boot(kernel.path)}"]
        lines += [f"  INITRD {start.in_boot(kernel.initrd)}"] if kernel.initrd else []
        lines += [f"  APPEND {start.root_argument} ro"]
    return "\n".join((*lines, ""))


def _write_code(guest: Guest, start: Start) -> None:
    """The MBR's code, and for a GPT the mark by which it knows the partition."""
    is_gpt = guest.disk.require_table().kind is TableKind.GPT
    code = guest.read_bytes(_sector(guest, "gptmbr.bin" if is_gpt else "mbr.bin") or "")
    if len(code) > _CODE:
        raise GuestError("EXTLINUX's code for the MBR is too long; reinstall its package in the image")
    if is_gpt:
        number = next(place.number for place in guest.disk.places() if place.device == start.boot.device)
        run(
            [
                "sfdisk",
                "--quiet",
                "--no-reread",
                "--no-tell-kernel",
                "--part-attrs",
                start.disk,
                str(number),
                "LegacyBIOSBootable",
            ]
        )
    disk = os.open(start.disk, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(disk, code, 0)
        os.fsync(disk)
    finally:
        os.close(disk)


def _sector(guest: Guest, name: str) -> str | None:
    return _first(guest, tuple(f"{place}/{name}" for place in _SECTORS))


def _first(guest: Guest, paths: tuple[str, ...]) -> str | None:
    return next((path for path in paths if guest.is_file(path)), None)
