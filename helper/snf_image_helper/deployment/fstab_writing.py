# SPDX-License-Identifier: GPL-2.0-or-later
"""The fstab of a new disk: lines for what was made on it, and of the image's own those that still mean something.

Pure. Lines for disks that this instance does not have would keep the guest from booting; they become comments.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from snf_image_helper import fstab
from snf_image_helper.fstab import Entry

_HEADER = "# From snf-image; the image's own lines stand behind these."
_GONE = "# Not on this instance's disk: "
_BROKEN = "# Cannot be read: "
_ON_A_DISK = re.compile(r"\"?(UUID|LABEL|PARTUUID|PARTLABEL|ID)=|/dev/", re.IGNORECASE)
_SWAP = "swap"
# What an archive of another disk has lines for, and this one has its own, or none.
_REPLACED = frozenset({(), ("boot",), ("boot", "efi"), ("efi",)})


@dataclass(frozen=True)
class Line:
    """One line; `check` are its last two numbers."""

    device: str
    place: str
    type: str
    options: str = "defaults"
    check: str = "0 0"

    def __str__(self) -> str:
        return f"{self.device} {self.place} {self.type} {self.options} {self.check}"


def fstab_of(lines: tuple[Line, ...], old: str, has_file: Callable[[str], bool]) -> tuple[str, tuple[str, ...]]:
    """The new text, from the image's own, and the places in it that are mounted no more.

    `has_file` tells whether a path of the guest is a file. Raises GuestError for a text that no honest image has.
    """
    fstab.parse(old)  # refuses what is too long
    own = frozenset(line.place for line in lines)
    kept, gone = [], []
    for text in old.rstrip("\n").split("\n") if old.strip() else ():
        entries, _ = fstab.parse(text)
        if not entries:
            is_comment = not text.strip() or text.lstrip(" \t").startswith("#")
            kept += [text] if is_comment else [f"{_BROKEN}{text}"]
        elif not _is_replaced(entries[0], own):
            is_gone = _is_gone(entries[0], has_file)
            kept.append(f"{_GONE}{text}" if is_gone else text)
            gone += [entries[0].mount_point] if is_gone else []
    rest = [text for text in kept if text != _HEADER]
    return "\n".join((_HEADER, *map(str, lines), *rest, "")), tuple(gone)


def _is_replaced(entry: Entry, own: frozenset[str]) -> bool:
    """Whether a new line stands for it, or it tells of a part of the former disk that has no successor here."""
    is_on_a_disk = _ON_A_DISK.match(entry.device) is not None
    if entry.type == _SWAP:
        return is_on_a_disk
    place = f"/{'/'.join(entry.place)}"
    return place in own or (is_on_a_disk and entry.place in _REPLACED)


def _is_gone(entry: Entry, has_file: Callable[[str], bool]) -> bool:
    if entry.has("nofail") or entry.has("noauto"):
        return False  # holds up no boot
    if entry.type == _SWAP:
        return not has_file(entry.device)
    return entry.type == "zfs" or _ON_A_DISK.match(entry.device) is not None
