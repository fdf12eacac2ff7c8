# SPDX-License-Identifier: GPL-2.0-or-later
"""How a guest is going to start: firmware, disk, file systems, kernels: what the installers of boot loaders ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from snf_image_helper import fstab
from snf_image_helper.boot_loaders.places import ESPS
from snf_image_helper.disks.filesystems import FileSystem, probe
from snf_image_helper.guest import Guest
from snf_image_shared.deployment import BootMode
from snf_image_shared.errors import GuestError

_KERNELS = ("vmlinuz", "vmlinux", "kernel", "bzImage", "Image")
_INITRDS = (
    *("initrd.img-{}", "initramfs-{}.img", "initrd-{}", "initrd-{}.img", "initramfs-{}", "initrd.img.{}"),
    *("initramfs-genkernel-x86_64-{}", "initrd.img.gz-{}"),
)
_LAST = ("rescue", ".old", ".bak")
_MOST = 32
_MOST_NAME = 200  # characters
_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Kernel:
    """A kernel in /boot: guest paths, and the rest of its name, which is its version in most distributions."""

    path: str
    version: str
    initrd: str | None


@dataclass(frozen=True)
class Start:
    """`boot` is the file system on which /boot is, the root's own unless it is `separate`; `esp` a mount point.

    `partition` is the identity of the root's partition, "" where the root is on none.
    """

    firmware: BootMode
    disk: str
    root: FileSystem
    boot: FileSystem
    swap: str | None
    esp: str | None
    kernels: tuple[Kernel, ...]
    partition: str = ""

    @property
    def separate(self) -> bool:
        """Whether /boot is a file system of its own."""
        return self.root.device != self.boot.device

    def in_boot(self, path: str) -> str:
        """A guest path below /boot as a loader calls it that begins at the top of that file system."""
        return path.removeprefix("/boot") if self.separate else path

    @property
    def root_argument(self) -> str:
        """For the kernel's command line. Only an initial RAM disk can look into file systems for their identity."""
        if self.partition and not any(kernel.initrd for kernel in self.kernels):
            return f"root=PARTUUID={self.partition}"
        return f"root=UUID={self.root.uuid}"


def start_of(guest: Guest, firmware: BootMode) -> Start:
    """What is mounted, looked at. Raises GuestError, ProcessError."""
    root_device = guest.mounts["/"]
    boot_device = guest.mounts.get("/boot", root_device)
    found = probe(list(dict.fromkeys((root_device, boot_device))))
    esp = next((place for place in ESPS if place in guest.mounts and _is_fat(guest.mounts[place])), None)
    if firmware is BootMode.UEFI and esp is None:
        raise GuestError("no EFI system partition is mounted at /boot/efi, /efi or /boot; name it in fstab")
    kernels = kernels_in(guest)
    if not kernels:
        raise GuestError(
            "the guest has no kernel in /boot, so no boot loader can start it; install one in the image "
            "(linux-image-amd64, kernel), or let the hypervisor bring it (kernel_path)"
        )
    root, boot = found[root_device], found[boot_device]
    return Start(firmware, guest.disk.device, root, boot, _swap(guest), esp, kernels, _partition(guest, root_device))


def kernels_in(guest: Guest) -> tuple[Kernel, ...]:
    """The kernels in /boot, the newest first, rescue systems last."""
    names = guest.list_directory("/boot", missing_ok=True)
    there = frozenset(names)
    found = []
    for name in names:
        stem, _, version = name.partition("-")
        if stem in _KERNELS and _is_usable(name) and guest.is_file(f"/boot/{name}"):
            patterns = (pattern.format(version) for pattern in _INITRDS) if version else ("initrd.img", "initrd")
            initrd = next((candidate for candidate in patterns if candidate in there), None)
            found.append(Kernel(f"/boot/{name}", version, initrd and f"/boot/{initrd}"))
    found.sort(key=lambda kernel: _age(kernel.version), reverse=True)
    return tuple(sorted(found, key=lambda kernel: any(word in kernel.version for word in _LAST)))[:_MOST]


def _is_usable(name: str) -> bool:
    """A name that can stand in every loader's configuration."""
    return len(name) <= _MOST_NAME and re.fullmatch(r"[A-Za-z0-9._+~:-]+", name) is not None


def _age(version: str) -> tuple[tuple[int, str], ...]:
    """A key by which 6.10 comes after 6.9."""
    return tuple((int(part) if part.isdecimal() else -1, part) for part in _NUMBERS.split(version[:_MOST_NAME]))


def _partition(guest: Guest, device: str) -> str:
    places = guest.disk.places()
    return next((place.partition.uuid for place in places if place.device == device and place.partition), "")


def _is_fat(device: str) -> bool:
    return probe([device])[device].type == "vfat"


def _swap(guest: Guest) -> str | None:
    """The UUID of the swap space that fstab names."""
    entries, _ = fstab.parse(guest.read_text(fstab.FSTAB, missing_ok=True) or "")
    uuids = (
        entry.device.removeprefix("UUID=") for entry in entries if entry.type == "swap" and "UUID=" in entry.device
    )
    return next((uuid for uuid in uuids if re.fullmatch(r"[A-Fa-f0-9-]{8,64}", uuid)), None)
