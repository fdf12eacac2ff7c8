# SPDX-License-Identifier: GPL-2.0-or-later
"""UEFI without variables: a new instance knows no boot entries, so only EFI/BOOT/BOOT<ARCH>.EFI is ever started.

Source: UEFI Specification, "Removable Media Boot Behavior". Where an image has only its vendor's loader, as after an
installation, that is copied, as `grub-install --force-extra-removable` does it. What is there already stays.
"""

from __future__ import annotations

from dataclasses import dataclass

from snf_image_helper.boot_loaders.places import ESPS
from snf_image_helper.guest import Guest
from snf_image_helper.linux.distros import Distro
from snf_image_helper.reporter import Reporter
from snf_image_shared.errors import GuestError

_LARGEST = 16 << 20  # bytes
_MOST = 64
_ARCHITECTURES = ("x64", "aa64")
_MAGIC = b"MZ"


@dataclass(frozen=True)
class Copies:
    """What is to be copied to EFI/BOOT of the partition at `esp`: names there -> paths of the guest."""

    esp: str
    files: dict[str, str]


def ensure_removable_loader(guest: Guest, report: Reporter) -> None:
    """Copy loaders where an EFI system partition has none that is found without variables. Raises GuestError."""
    for esp in ESPS:
        copies = missing_loaders(guest, esp)
        if copies is None:
            continue
        directory = f"{esp}/{_entry(guest, esp, 'EFI')}"
        target = f"{directory}/{_entry(guest, directory, 'BOOT') or 'BOOT'}"
        contents = {name: guest.read_bytes(path, limit=_LARGEST) for name, path in copies.files.items()}
        guest.make_directory(target)
        # The one that firmware looks for comes last: without it the others do no harm.
        for name, content in sorted(contents.items(), key=lambda item: item[0].startswith("BOOT")):
            guest.write_bytes(f"{target}/{name}", content)
        report.warning(
            f"{esp} had no loader that a new instance's firmware finds: {', '.join(sorted(copies.files.values()))} "
            f"copied to {target}"
        )


def missing_loaders(guest: Guest, esp: str) -> Copies | None:
    """What to copy at this mount point; None where there is nothing to do, or nothing that could be copied."""
    efi = _entry(guest, esp, "EFI")
    if efi is None:
        return None
    directory = f"{esp}/{efi}"
    vendors = [name for name in guest.list_directory(directory, missing_ok=True)[:_MOST] if name.upper() != "BOOT"]
    distro = Distro.of(guest)
    vendors.sort(key=lambda name: (name.lower() not in {distro.name, str(distro.family)}, name))
    there = _entry(guest, directory, "BOOT")
    for architecture in _ARCHITECTURES:
        boot = f"BOOT{architecture.upper()}.EFI"
        if there is not None and _entry(guest, f"{directory}/{there}", boot) is not None:
            return None
        for vendor in vendors:
            files = _chain(guest, f"{directory}/{vendor}", architecture, boot)
            if files:
                return Copies(esp, files)
    return None


def _chain(guest: Guest, directory: str, architecture: str, boot: str) -> dict[str, str]:
    """The loaders of one vendor, the first one under the name that firmware knows.

    shim starts what is called grub<arch>.efi beside it; fallback is left out, as it would only make variables.
    """
    shim, grub, mok = (_entry(guest, directory, f"{name}{architecture}.efi") for name in ("shim", "grub", "mm"))
    if shim and grub:
        found = {boot: shim, f"grub{architecture}.efi": grub} | ({f"mm{architecture}.efi": mok} if mok else {})
    elif single := grub or _entry(guest, directory, f"systemd-boot{architecture}.efi"):
        found = {boot: single}
    else:
        return {}
    paths = {name: f"{directory}/{entry}" for name, entry in found.items()}
    return paths if all(guest.is_file(path) and guest.head(path, 2) == _MAGIC for path in paths.values()) else {}


def _entry(guest: Guest, directory: str, name: str) -> str | None:
    """The name as it is written there: FAT does not care for case."""
    try:
        names = guest.list_directory(directory, missing_ok=True)
    except GuestError:
        return None  # a directory that is too full for any loader
    return next((found for found in names if found.lower() == name.lower()), None)
