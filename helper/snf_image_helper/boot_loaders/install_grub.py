# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB 2, installed by the guest's own programs under the names of Debian and of Red Hat and SUSE."""

from __future__ import annotations

from snf_image_helper.boot_loaders.places import vendor_directories
from snf_image_helper.boot_loaders.starting import Start
from snf_image_helper.chroot import Chroot
from snf_image_helper.files.edits import Edits
from snf_image_helper.guest import Guest
from snf_image_shared.deployment import BootMode
from snf_image_shared.errors import GuestError
from snf_image_shared.process import Limits

_PROGRAMS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_PLATFORMS = ("/usr/lib/grub", "/usr/lib/grub2", "/usr/share/grub2", "/usr/share/grub")
_SETTINGS, _TEMPLATE = "/etc/default/grub", "/usr/share/grub/default/grub"
_BIOS, _UEFI = "i386-pc", "x86_64-efi"
_QUIET = {"GRUB_DISABLE_OS_PROBER": "true"}
_LIMITS = Limits(timeout=900)
_EXTRA = "force-extra-removable"  # Debian's: the vendor's place and the one that firmware finds without variables
_DEBCONF = "/usr/bin/debconf-set-selections"
_PREBUILT = "grubx64.efi"


def has_bios(guest: Guest) -> bool:
    """Whether the guest has GRUB 2 for a BIOS."""
    return _program(guest, "install") is not None and _has_platform(guest, _BIOS)


def has_uefi(guest: Guest) -> bool:
    """Whether the guest has GRUB 2 for UEFI, to be put together or as its vendor has signed it."""
    return _program(guest, "mkconfig") is not None and (_can_build(guest) or bool(_prebuilt(guest)))


def prepare_settings(edits: Edits) -> None:
    """Give a GRUB without settings those that its package brings, as the package does. Raises GuestError."""
    if edits.text(_SETTINGS) is None:
        template = edits.text(_TEMPLATE)
        if template is not None:
            edits.put(_SETTINGS, template)


def install_bios(guest: Guest, root: Chroot, start: Start) -> None:
    """Into the MBR and what lies behind it, or the BIOS boot partition. Raises GuestError, ProcessError."""
    program = _needed(guest, "install")
    # That of GRUB 1.99 (Debian 7) is of one platform, and refuses to be told.
    platform = [f"--target={_BIOS}"] if "--target" in root.run([program, "--help"]).stdout else []
    root.run([program, *platform, start.disk], env=_QUIET, limits=_LIMITS)
    _make_menu(guest, root, start)


def install_uefi(guest: Guest, root: Chroot, start: Start) -> None:
    """Into the EFI system partition, without variables of the firmware. Raises GuestError, ProcessError."""
    vendors = _prebuilt(guest)
    if _can_build(guest) and not (vendors and _boot_directory(guest) == "/boot/grub2"):
        program = _needed(guest, "install")
        extra = f"--{_EXTRA}" if _EXTRA in root.run([program, "--help"]).stdout else "--removable"
        place = f"--efi-directory={start.esp}"
        # A removable loader beside the guest's own shim would be another version than the modules in /boot.
        root.run([program, f"--target={_UEFI}", place, "--no-nvram", extra], env=_QUIET, limits=_LIMITS)
        _remember_removable(guest, root, extra)
    else:
        _point_to_boot(guest, start, vendors)
    _make_menu(guest, root, start)


def _remember_removable(guest: Guest, root: Chroot, extra: str) -> None:
    """Tell Debian's packages that their next version has to go to both places."""
    if (
        extra.endswith(_EXTRA)
        and guest.is_file(_DEBCONF)
        and guest.exists("/var/lib/dpkg/info/grub-efi-amd64.postinst")
    ):
        path = "/run/snf-image.selections"
        guest.write_text(path, "grub-efi-amd64 grub2/force_efi_extra_removable boolean true\n")
        root.run([_DEBCONF, path])


def _point_to_boot(guest: Guest, start: Start, vendors: tuple[str, ...]) -> None:
    """A signed GRUB reads the grub.cfg beside it: it says where the real one is, as Fedora's does since 34."""
    prefix = start.in_boot(_boot_directory(guest))
    lines = (
        f"search --no-floppy --fs-uuid --set=dev {start.boot.uuid}",
        f"set prefix=($dev){prefix}",
        "export $prefix",
    )
    for vendor in vendors:
        if start.boot.uuid in (guest.read_text(f"{vendor}/grub.cfg", missing_ok=True) or ""):
            continue
        guest.write_text(f"{vendor}/grub.cfg", "\n".join((*lines, "configfile $prefix/grub.cfg", "")))


def _make_menu(guest: Guest, root: Chroot, start: Start) -> None:
    directory = _boot_directory(guest)
    path = f"{directory}/grub.cfg"
    if guest.is_link(path):  # to the EFI system partition in some releases of Red Hat, where the pointer is now
        guest.remove(path)
    guest.make_directory(directory)
    root.run([_needed(guest, "mkconfig"), "-o", path], env=_QUIET, limits=_LIMITS)
    menu = guest.read_text(path)
    if start.firmware is BootMode.UEFI and "linux16 " in menu:  # RHEL 7 asks the machine it runs on
        guest.write_text(path, menu.replace("linux16 ", "linuxefi ").replace("initrd16 ", "initrdefi "))
    has_entries = any(name.endswith(".conf") for name in guest.list_directory("/boot/loader/entries", missing_ok=True))
    if "blscfg" in menu and not has_entries and "menuentry" not in _before_firmware(menu):
        _make_entries(guest, root, start)


def _before_firmware(menu: str) -> str:
    """The menu without the entry that every RHEL has for UEFI's own settings."""
    return menu.partition("### BEGIN /etc/grub.d/30_uefi-firmware")[0]


def _make_entries(guest: Guest, root: Chroot, start: Start) -> None:
    """Entries of the Boot Loader Specification for an image without any, as its own tool would name them."""
    name = "snf-image"
    for kernel in start.kernels:
        if kernel.initrd is None:
            continue
        lines = (
            f"title Linux {kernel.version}",
            f"version {kernel.version}",
            f"linux {start.in_boot(kernel.path)}",
            f"initrd {start.in_boot(kernel.initrd)}",
            f"options {start.root_argument} ro",
        )
        guest.make_directory("/boot/loader/entries")
        guest.write_text(f"/boot/loader/entries/{name}-{kernel.version}.conf", "\n".join((*lines, "")))


def _boot_directory(guest: Guest) -> str:
    return "/boot/grub2" if _program(guest, "mkconfig", ("grub2",)) else "/boot/grub"


def _can_build(guest: Guest) -> bool:
    return _program(guest, "install") is not None and _has_platform(guest, _UEFI)


def _has_platform(guest: Guest, platform: str) -> bool:
    return any(guest.is_file(f"{place}/{platform}/normal.mod") for place in _PLATFORMS)


def _prebuilt(guest: Guest) -> tuple[str, ...]:
    """Vendors' directories with a GRUB that was put together, and perhaps signed, by them."""
    found = vendor_directories(guest)
    return tuple(
        path
        for path in found
        if not path.upper().endswith("/BOOT") and any(name.lower() == _PREBUILT for name in guest.list_directory(path))
    )


def _program(guest: Guest, what: str, prefixes: tuple[str, ...] = ("grub2", "grub")) -> str | None:
    candidates = (f"{place}/{prefix}-{what}" for prefix in prefixes for place in _PROGRAMS)
    return next((path for path in candidates if guest.is_file(path)), None)


def _needed(guest: Guest, what: str) -> str:
    found = _program(guest, what)
    if found is None:
        raise GuestError(f"the guest has no grub-{what}; put GRUB's package into the image")
    return found
