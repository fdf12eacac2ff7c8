# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB before 2, as in RHEL 6 and on old images for Xen: menu.lst or grub.conf."""

from __future__ import annotations

from snf_image_helper.files.edits import Edits
from snf_image_helper.linux.kernel_arguments import Arguments, changed, changed_value, raw

_MENUS = ("/boot/grub/menu.lst", "/boot/grub/grub.conf")
_KEPT = "# kopt="  # what Debian's update-grub makes the next menu from
_TERMINAL = "terminal --timeout=5 serial console"


def edit(edits: Edits, wanted: Arguments) -> bool:
    """Whether there is a menu with kernels. Raises GuestError."""
    found = False
    for path in _MENUS:
        text = edits.text(path)
        if text is None or edits.guest.is_link(path):  # one of them is a link to the other
            continue
        lines = text.split("\n")
        for number, line in enumerate(lines):
            words = line.split(None, 2)
            if words[:1] == ["kernel"] and len(words) > 1 and not _is_other(words[1]):
                lines[number] = changed(line, 2, wanted, raw)
                found = True
            elif line.startswith(_KEPT):
                lines[number] = _KEPT + changed_value(line.removeprefix(_KEPT), wanted, raw)
        title = next((number for number, line in enumerate(lines) if line.startswith("title")), None)
        if wanted.serial and title is not None and not any(line.startswith("serial ") for line in lines):
            lines[title:title] = (f"serial --unit=0 --speed={wanted.baud}", _TERMINAL)
        edits.put(path, "\n".join(lines))
    return found


def _is_other(path: str) -> bool:
    return "memtest" in path or "/xen" in path
