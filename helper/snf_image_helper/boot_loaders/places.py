# SPDX-License-Identifier: GPL-2.0-or-later
"""Where boot loaders keep their things."""

from __future__ import annotations

from snf_image_helper.guest import Guest

# Where an EFI system partition is mounted: Debian and Red Hat, the Boot Loader Specification, Arch.
ESPS = ("/boot/efi", "/efi", "/boot")
_MOST_VENDORS = 32


def vendor_directories(guest: Guest) -> tuple[str, ...]:
    """Directories such as /boot/efi/EFI/debian."""
    return tuple(
        f"{esp}/EFI/{name}"
        for esp in ESPS
        for name in guest.list_directory(f"{esp}/EFI", missing_ok=True)[:_MOST_VENDORS]
        if guest.is_dir(f"{esp}/EFI/{name}")
    )
