# SPDX-License-Identifier: GPL-2.0-or-later
"""The Boot Loader Specification: an entry a kernel, read by systemd-boot and by the GRUB of the Red Hat family."""

from __future__ import annotations

from snf_image_helper.boot_loaders import grub
from snf_image_helper.boot_loaders.places import ESPS
from snf_image_helper.files.edits import Edits
from snf_image_helper.linux.kernel_arguments import Arguments, Quote, changed, changed_value, for_grub_entry, raw

_DIRECTORIES = tuple(f"{place}/loader/entries" for place in ESPS)
_NEXT_KERNELS = "/etc/kernel/cmdline"  # kernel-install(8)
_MOST = 64
_REFERENCE = "$kernelopts"


def edit(edits: Edits, wanted: Arguments) -> bool:
    """Whether there are entries of kernels. Raises GuestError."""
    guest = edits.guest
    read_by_grub = any(guest.exists(f"{directory}/grub.cfg") for directory in grub.directories(guest))
    quote = for_grub_entry if read_by_grub else raw
    found = False
    for directory in _DIRECTORIES:
        names = [name for name in guest.list_directory(directory, missing_ok=True) if name.endswith(".conf")]
        for name in names[:_MOST]:
            found |= _edit_entry(edits, f"{directory}/{name}", wanted, quote)
    text = edits.text(_NEXT_KERNELS)
    if text is not None:
        lines = text.split("\n")
        lines[0] = changed_value(lines[0], wanted, quote)
        edits.put(_NEXT_KERNELS, "\n".join(lines))
    return found


def _edit_entry(edits: Edits, path: str, wanted: Arguments, quote: Quote) -> bool:
    text = edits.text(path) or ""
    lines = text.split("\n")
    keys = [line.split(None, 1)[0] if line.strip() else "" for line in lines]
    if "linux" not in keys:
        return False
    numbers = [number for number, key in enumerate(keys) if key == "options"]
    if not numbers:
        numbers = [keys.index("linux") + 1]
        lines.insert(numbers[0], "options")
    options = " ".join(lines[number] for number in numbers)
    if not (_REFERENCE in options and grub.has_options(edits)):
        # Several such lines are one: the last word is in the last line.
        lines[numbers[-1]] = changed(lines[numbers[-1]], 1, wanted, quote)
        edits.put(path, "\n".join(lines))
    return True
