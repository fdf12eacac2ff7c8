# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of boot loaders that can be installed: the first that the guest has for its firmware is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from snf_image_helper.boot_loaders import install_extlinux, install_grub, install_grub_legacy, install_systemd_boot
from snf_image_helper.boot_loaders.starting import Start
from snf_image_helper.chroot import Chroot
from snf_image_helper.guest import Guest
from snf_image_shared.deployment import BootMode
from snf_image_shared.errors import GuestError


@dataclass(frozen=True)
class Installer:
    """`is_there` looks at the guest for its programs and files; `packages` are what a message tells to install."""

    name: str
    firmware: BootMode
    is_there: Callable[[Guest], bool]
    install: Callable[[Guest, Chroot, Start], None]
    packages: str


INSTALLERS = (
    Installer("GRUB", BootMode.BIOS, install_grub.has_bios, install_grub.install_bios, "grub-pc, grub2-pc"),
    Installer("EXTLINUX", BootMode.BIOS, install_extlinux.is_there, install_extlinux.install, "extlinux, syslinux"),
    Installer("GRUB before 2", BootMode.BIOS, install_grub_legacy.is_there, install_grub_legacy.install, "grub-legacy"),
    Installer("GRUB", BootMode.UEFI, install_grub.has_uefi, install_grub.install_uefi, "grub-efi-amd64, grub2-efi-x64"),
    Installer(
        "systemd-boot", BootMode.UEFI, install_systemd_boot.is_there, install_systemd_boot.install, "systemd-boot"
    ),
)


def installer_for(guest: Guest, firmware: BootMode) -> Installer:
    """Raises GuestError when the guest has none."""
    fitting = [installer for installer in INSTALLERS if installer.firmware is firmware]
    for installer in fitting:
        if installer.is_there(guest):
            return installer
    packages = "; ".join(f"{installer.name} ({installer.packages})" for installer in fitting)
    raise GuestError(
        f"the guest has no boot loader for {firmware.upper()} to install; put one into the image: {packages}"
    )
