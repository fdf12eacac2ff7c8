# SPDX-License-Identifier: GPL-2.0-or-later
"""The initial RAM disks of the guest's kernels, made anew by its own tools where they could not find the new root.

One that was made for other hardware has no driver for a virtual disk, or none for the new root's file system.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from snf_image_helper.boot_loaders.starting import Kernel, Start
from snf_image_helper.chroot import Chroot
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_shared.process import Limits, ProcessError

_DISK_DRIVERS = ("virtio_pci", "virtio_blk")
_OTHER_DRIVERS = ("virtio_scsi", "sd_mod", "ahci")
_SETTINGS_OF_DEBIAN = ("/etc/initramfs-tools/initramfs.conf", "/etc/initramfs-tools/conf.d")
_MODULES_OF_DEBIAN = "/etc/initramfs-tools/modules"
_SETTINGS_OF_DRACUT = "/etc/dracut.conf.d/90-snf-image.conf"
_DRIVERS_OF = {"ext2": ("ext4", "ext2"), "ext3": ("ext4", "ext3")}
_LIMITS = Limits(timeout=1800)  # seconds: compressing, under emulation
_ANY_STATUS = Limits(timeout=60, accept=frozenset(range(256)))
_GENERIC = "--no-hostonly"
_ARGUMENTS_OF_DRACUT = "etc/cmdline.d/"
_MODULES_WORD = re.compile(r"^[ \t]*MODULES=[\"']?(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class _Tool:
    """A distribution's maker of initial RAM disks, and what lists the files of one."""

    makers: tuple[str, ...]
    listers: tuple[str, ...]


_DEBIAN = _Tool(("/usr/sbin/update-initramfs",), ("/usr/bin/lsinitramfs",))
_DRACUT = _Tool(("/usr/bin/dracut", "/usr/sbin/dracut", "/sbin/dracut"), ("/usr/bin/lsinitrd", "/sbin/lsinitrd"))
_ALPINE, _ARCH = "/sbin/mkinitfs", "/usr/bin/mkinitcpio"


def renew(guest: Guest, root: Chroot, start: Start, report: Reporter, *, stale: bool) -> None:
    """Make those that are missing or lack a driver, and with `stale` all. Raises GuestError, ProcessError."""
    for kernel in start.kernels:
        if "rescue" in kernel.version or (_release(guest, kernel) is None and _maker(guest) != _ARCH):
            continue
        reason = (
            "names the swap space of another disk" if stale and kernel.initrd else _fault(guest, root, start, kernel)
        )
        if reason and not _make(guest, root, start, kernel):
            report.warning(
                f"The initial RAM disk of {kernel.path} {reason}, and the guest has nothing to make one with"
            )
        elif reason:
            report.warning(f"The initial RAM disk of {kernel.path} {reason}: made anew")


def _fault(guest: Guest, root: Chroot, start: Start, kernel: Kernel) -> str | None:
    """What is wrong with it, None for nothing that is known."""
    if kernel.initrd is None:
        return "is missing" if _maker(guest) else None
    if _has_all(guest):
        return None
    lister = next((path for path in (*_DEBIAN.listers, *_DRACUT.listers) if guest.is_file(path)), None)
    if lister is None:
        return None
    try:
        listed = root.run([lister, kernel.initrd], limits=_LIMITS).stdout
    except ProcessError:
        return "cannot be read"
    if any(map(_names_other_disks, listed.split("\n"))):
        return "waits for volumes of another disk"
    builtin = guest.read_text(f"/lib/modules/{kernel.version}/modules.builtin", missing_ok=True) or ""
    drivers = [(driver,) for driver in _DISK_DRIVERS] + [_DRIVERS_OF.get(start.root.type, (start.root.type,))]
    lacking = [names[0] for names in drivers if not any(_holds(listed, builtin, name) for name in names)]
    return f"lacks {', '.join(lacking)}" if lacking else None


def _names_other_disks(line: str) -> bool:
    """Whether a line of the list is that of dracut's arguments for the disks of the machine that it was made on."""
    name = line.rpartition(_ARGUMENTS_OF_DRACUT)[2] if _ARGUMENTS_OF_DRACUT in line else ""
    return name.strip().endswith(".conf") and any(word in name for word in ("lvm", "resume", "crypt", "md"))


def _holds(listed: str, builtin: str, driver: str) -> bool:
    pattern = re.compile(rf"/{driver.replace('_', '[_-]')}\.ko")
    return pattern.search(listed) is not None or pattern.search(builtin) is not None


def _has_all(guest: Guest) -> bool:
    """Whether Debian's tools put every driver for disks and file systems into it, as they do unless told otherwise."""
    main, folder = _SETTINGS_OF_DEBIAN
    if not guest.is_file(main) or _maker(guest) != _DEBIAN.makers[0]:
        return False
    files = [main, *(f"{folder}/{name}" for name in guest.list_directory(folder, missing_ok=True)[:64])]
    words = [word for path in files for word in _MODULES_WORD.findall(guest.read_text(path, missing_ok=True) or "")]
    return words[-1:] == ["most"]


def _maker(guest: Guest) -> str | None:
    makers = (*_DEBIAN.makers, *_DRACUT.makers, _ALPINE, _ARCH)
    return next((path for path in makers if guest.is_file(path)), None)


def _release(guest: Guest, kernel: Kernel) -> str | None:
    """The release of a kernel, which is what its modules lie under; Alpine calls its file by the end of that alone."""
    names = guest.list_directory("/lib/modules", missing_ok=True)
    return next(
        (name for name in reversed(names) if name == kernel.version or name.endswith(f"-{kernel.version}")), None
    )


def _make(guest: Guest, root: Chroot, start: Start, kernel: Kernel) -> bool:
    """Whether there was something to make it with. Its settings ask for the drivers, so that later ones have them."""
    maker = _maker(guest)
    drivers = (*_DISK_DRIVERS, *_OTHER_DRIVERS, start.root.type)
    if maker in _DEBIAN.makers:
        text = guest.read_text(_MODULES_OF_DEBIAN, missing_ok=True) or ""
        missing = [driver for driver in drivers if driver not in text.split("\n")]
        if missing:
            guest.append_text(_MODULES_OF_DEBIAN, "".join(f"{driver}\n" for driver in missing))
        flag = "-u" if kernel.initrd else "-c"
        root.run([str(maker), flag, "-k", kernel.version], limits=_LIMITS)
    elif maker in _DRACUT.makers:
        guest.make_directory(_SETTINGS_OF_DRACUT.rpartition("/")[0])
        guest.write_text(_SETTINGS_OF_DRACUT, f'# Written by snf-image.\nadd_drivers+=" {" ".join(drivers)} "\n')
        target = kernel.initrd or f"/boot/initramfs-{kernel.version}.img"
        # That of RHEL 6 knows no such option, makes it for every host, and ends with 1 after its help.
        known = root.run([str(maker), "--help"], limits=_ANY_STATUS).stdout
        generic = [_GENERIC] if _GENERIC in known else []
        root.run([str(maker), "--force", *generic, target, kernel.version], limits=_LIMITS)
    elif maker == _ALPINE:
        target = kernel.initrd or f"/boot/initramfs-{kernel.version}"
        root.run([maker, "-o", target, _release(guest, kernel) or ""], limits=_LIMITS)
    elif maker == _ARCH:
        root.run([maker, "-P"], limits=_LIMITS)
    return maker is not None
