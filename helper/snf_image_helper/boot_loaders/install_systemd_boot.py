# SPDX-License-Identifier: GPL-2.0-or-later
"""systemd-boot: its program and the kernels on the EFI system partition, by the guest's bootctl and kernel-install."""

from __future__ import annotations

import re

from snf_image_helper.boot_loaders.starting import Start
from snf_image_helper.chroot import Chroot
from snf_image_helper.files.edits import assigned
from snf_image_helper.guest import Guest
from snf_image_shared.errors import GuestError
from snf_image_shared.process import Limits

_PROGRAM = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
_ENDINGS = ("", ".signed")  # Debian 13 has the signed one alone
_BOOTCTL, _KERNEL_INSTALL = "/usr/bin/bootctl", "/usr/bin/kernel-install"
_TOKEN = "/etc/kernel/entry-token"  # noqa: S105 - the name of the entries, which is no secret
_COMMAND_LINE = "/etc/kernel/cmdline"
_LIMITS = Limits(timeout=900)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def is_there(guest: Guest) -> bool:
    """Whether the guest has systemd-boot."""
    has_program = any(guest.is_file(f"{_PROGRAM}{ending}") for ending in _ENDINGS)
    return has_program and all(guest.is_file(path) for path in (_BOOTCTL, _KERNEL_INSTALL))


def install(guest: Guest, root: Chroot, start: Start) -> None:
    """Raises GuestError, ProcessError."""
    esp = start.esp or ""
    # The machine's id will be another at the first boot: entries are named for the distribution instead, then and now.
    token = _token(guest)
    guest.make_directory("/etc/kernel")
    guest.write_text(_TOKEN, f"{token}\n")
    guest.make_directory(f"{esp}/loader/entries")
    guest.make_directory(f"{esp}/{token}")
    if not guest.is_file(_COMMAND_LINE):
        guest.write_text(_COMMAND_LINE, f"{start.root_argument} rw\n")
    environment = {"SYSTEMD_RELAX_ESP_CHECKS": "1", "BOOT_ROOT": esp}
    root.run([_BOOTCTL, f"--esp-path={esp}", "--no-variables", "install"], env=environment, limits=_LIMITS)
    for kernel in start.kernels:
        if not guest.is_dir(f"/lib/modules/{kernel.version}"):
            continue
        initrd = [kernel.initrd] if kernel.initrd else []
        root.run([_KERNEL_INSTALL, "add", kernel.version, kernel.path, *initrd], env=environment, limits=_LIMITS)
    if not any(name.endswith(".conf") for name in guest.list_directory(f"{esp}/loader/entries")):
        raise GuestError("kernel-install has made no entry for systemd-boot; see to its plugins in the image")


def _token(guest: Guest) -> str:
    known = (guest.read_text(_TOKEN, missing_ok=True) or "").strip()
    name = assigned(guest.read_text("/etc/os-release", missing_ok=True) or "", "ID") or ""
    return next((word for word in (known, name) if _NAME.fullmatch(word)), "linux")
