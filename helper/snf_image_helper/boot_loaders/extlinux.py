# SPDX-License-Identifier: GPL-2.0-or-later
"""SYSLINUX and EXTLINUX: Alpine's boot loader, and that of small systems; u-boot reads the same files."""

from __future__ import annotations

from itertools import pairwise

from snf_image_helper.files.edits import Edits, assign, assigned
from snf_image_helper.linux.kernel_arguments import Arguments, changed, changed_value, raw

_MENUS = (
    *("/boot/extlinux.conf", "/boot/extlinux/extlinux.conf", "/boot/extlinux/linux.cfg", "/extlinux.conf"),
    *("/boot/syslinux/syslinux.cfg", "/boot/syslinux/extlinux.conf", "/boot/efi/EFI/syslinux/syslinux.cfg"),
)
_ALPINE = "/etc/update-extlinux.conf"  # what update-extlinux(1) makes the menu from
_DEBIAN = "/etc/default/extlinux"
_MODULES = (".c32", ".0", ".bin", ".bs", ".bss")


def edit(edits: Edits, wanted: Arguments) -> bool:
    """Whether there is a menu with kernels. Raises GuestError."""
    found = False
    for path in _MENUS:
        text = edits.text(path)
        if text is not None:
            lines, has_kernels = _edited(text.split("\n"), wanted)
            if has_kernels and wanted.serial and not any(line.upper().startswith("SERIAL ") for line in lines):
                lines.insert(0, f"SERIAL 0 {wanted.baud}")  # where it must stand: before everything else
            edits.put(path, "\n".join(lines))
            found |= has_kernels
    for path, name in ((_ALPINE, "default_kernel_opts"), (_DEBIAN, "EXTLINUX_PARAMETERS")):
        text = edits.text(path)
        value = assigned(text or "", name)
        if text is not None and value is not None and not set(value) & set("$`\\"):
            text = assign(text, name, _for_shell(changed_value(value, wanted, raw)))
            if wanted.serial and path == _ALPINE:
                text = assign(assign(text, "serial_port", "0"), "serial_baud", str(wanted.baud))
            edits.put(path, text)
    return found


def _for_shell(text: str) -> str:
    """Text inside double quotes of a shell, which reads these settings."""
    return "".join(f"\\{char}" if char in '"$`' else char for char in text)


def _edited(lines: list[str], wanted: Arguments) -> tuple[list[str], bool]:
    """The lines, and whether there are kernels. A label without an APPEND has the one before all labels, if any."""
    starts = [number for number, line in enumerate(lines) if _key(line) == "LABEL"]
    bounds = [0, *starts, len(lines)]
    parts = [lines[first:last] for first, last in pairwise(bounds)]
    common, *labels = parts
    has_common = _append(common, wanted)
    found = any(_kernel(part) is not None for part in parts)
    for label in labels:
        kernel = _kernel(label)
        if kernel is not None and not _append(label, wanted) and not has_common:
            label.insert(kernel + 1, changed("  APPEND", 1, wanted, raw))
    return [line for part in (common, *labels) for line in part], found


def _append(lines: list[str], wanted: Arguments) -> bool:
    """Change the last APPEND, which counts; whether there is one."""
    last = max((number for number, line in enumerate(lines) if _key(line) == "APPEND"), default=None)
    if last is None:
        return False
    if lines[last].split()[1:] == ["-"]:  # "nothing", not even what is common to all
        lines[last] = lines[last].rstrip().removesuffix("-")
    lines[last] = changed(lines[last], 1, wanted, raw)
    return True


def _kernel(lines: list[str]) -> int | None:
    """Where a Linux is named, which none of SYSLINUX's own programs is."""
    for number, line in enumerate(lines):
        if _key(line) in {"LINUX", "KERNEL"}:
            path = line.split(None, 2)[1:2]
            if path and "memtest" not in path[0] and not path[0].lower().endswith(_MODULES):
                return number
    return None


def _key(line: str) -> str:
    words = line.split(None, 1)
    return words[0].upper() if words else ""
