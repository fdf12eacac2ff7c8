# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB before 2, where a guest has its shell: stages beside the menu, and code in the MBR."""

from __future__ import annotations

import re

from snf_image_helper.boot_loaders.starting import Start
from snf_image_helper.chroot import Chroot
from snf_image_helper.guest import Guest
from snf_image_shared.errors import GuestError

_SHELLS = ("/usr/sbin/grub", "/sbin/grub")
_STAGES = (
    *(
        "/usr/lib/grub/x86_64-pc",
        "/usr/lib/grub/i386-pc",
        "/usr/share/grub/x86_64-redhat",
        "/usr/share/grub/i386-redhat",
    ),
    *("/usr/lib/grub", "/lib/grub/i386-pc"),
)
_DIRECTORY = "/boot/grub"
_MENUS = ("/boot/grub/menu.lst", "/boot/grub/grub.conf")
_LARGEST = 1 << 20
_READABLE = {"ext2": "e2fs_stage1_5", "ext3": "e2fs_stage1_5", "ext4": "e2fs_stage1_5", "xfs": "xfs_stage1_5"}
_SAYS_NO = re.compile(r"^[ \t]*Error[ \t]+\d+: (.*)$", re.MULTILINE)
_ROOT = re.compile(r"^([ \t]*(?:#[ \t]*groot=|(?:root|rootnoverify)[ \t]+))\(hd\d+,\d+\)", re.MULTILINE)
_FILE = re.compile(r"^([ \t]*(?:kernel|initrd|splashimage)[ \t=]+)(?:\(hd\d+,\d+\))?(/\S+)", re.MULTILINE)


def is_there(guest: Guest) -> bool:
    """Whether the guest has GRUB before 2."""
    return _shell(guest) is not None and _stages(guest) is not None


def install(guest: Guest, root: Chroot, start: Start) -> None:
    """Raises GuestError, ProcessError."""
    if start.boot.type not in _READABLE:
        raise GuestError(f"GRUB before 2 cannot start from {start.boot.type}; choose FILESYSTEM=ext3")
    source = _stages(guest) or ""
    guest.make_directory(_DIRECTORY)
    for name in ("stage1", "stage2", _READABLE[start.boot.type]):
        if guest.is_file(f"{source}/{name}"):
            guest.write_bytes(f"{_DIRECTORY}/{name}", guest.read_bytes(f"{source}/{name}", limit=_LARGEST))
    number = next(place.number for place in guest.disk.places() if place.device == start.boot.device)
    where = f"(hd0,{number - 1})"
    _fit_menus(guest, start, where)
    script = f"device (hd0) {start.disk}\nroot {where}\nsetup (hd0)\nquit\n"
    # Its shell reads commands from a file as well, and says what went wrong with status 0.
    path = "/run/snf-image.grub"
    guest.write_text(path, script)
    said = root.run(["sh", "-c", f'"$1" --batch --no-floppy --device-map=/dev/null <{path}', "sh", _shell(guest) or ""])
    if failed := _SAYS_NO.search(said.stdout):
        raise GuestError(f"GRUB before 2 cannot be installed: {failed[1][:200]}; FILESYSTEM=ext3 is what it reads best")


def _fit_menus(guest: Guest, start: Start, where: str) -> None:
    found = False
    for path in _MENUS:
        text = guest.read_text(path, missing_ok=True)
        if text is None or guest.is_link(path):
            continue
        found = True
        text = _ROOT.sub(rf"\g<1>{where}", text)
        guest.write_text(path, _FILE.sub(lambda match: match[1] + _inside(guest, start, match[2]), text))
    if not found:
        guest.write_text(_MENUS[0], _menu(start, where))


def _inside(guest: Guest, start: Start, file: str) -> str:
    """Where a file is from the top of the file system that has /boot, if it is there at all."""
    path = file if file.startswith("/boot/") else f"/boot{file}"
    return start.in_boot(path) if guest.is_file(path) else file


def _menu(start: Start, where: str) -> str:
    lines = ["default 0", "timeout 1"]
    for kernel in start.kernels:
        lines += ["", f"title Linux {kernel.version}", f"root {where}"]
        lines += [f"kernel {start.in_boot(kernel.path)} {start.root_argument} ro"]
        lines += [f"initrd {start.in_boot(kernel.initrd)}"] if kernel.initrd else []
    return "\n".join((*lines, ""))


def _shell(guest: Guest) -> str | None:
    return next((path for path in _SHELLS if guest.is_file(path)), None)


def _stages(guest: Guest) -> str | None:
    return next((path for path in _STAGES if guest.is_file(f"{path}/stage1")), None)
