# SPDX-License-Identifier: GPL-2.0-or-later
"""The fstab of a new disk: lines for what was made on it, and of the image's own those that still mean something.

Pure. Lines for disks that this instance does not have would keep the guest from booting: they become comments, or are
told to hold up no boot.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from snf_image_helper import fstab
from snf_image_helper.fstab import Entry

_HEADER = "# From snf-image; the image's own lines stand behind these."
_GONE = "# Not on this instance's disk: "
_BROKEN = "# Cannot be read: "
_ON_A_DISK = re.compile(r"\"?(UUID|LABEL|PARTUUID|PARTLABEL|ID)=|/dev/", re.IGNORECASE)
_OPTIONS = re.compile(r"^(\s*\S+\s+\S+\s+\S+)(\s+\S+)?")
_SWAP = "swap"
# What an archive of another disk has lines for, and this one has its own, or none.
_REPLACED = frozenset({(), ("boot",), ("boot", "efi"), ("efi",)})


class _Fate(Enum):
    """What becomes of a line of the image's: as it is, a comment, or one that holds up no boot."""

    STAYS = auto()
    GOES = auto()
    MAY_FAIL = auto()


@dataclass(frozen=True)
class Surroundings:
    """What a line of the image's may rely on: whether a path of the guest is a file, a device on another disk of this
    instance. `brings_disks`: those are still to be filled, and will have what the lines tell of.
    """

    has_file: Callable[[str], bool]
    has_device: Callable[[str], bool]
    brings_disks: bool = False


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


def fstab_of(lines: tuple[Line, ...], old: str, around: Surroundings) -> tuple[str, tuple[str, ...]]:
    """The new text, from the image's own, and the places in it that are mounted no more.

    Raises GuestError for a text that no honest image has.
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
            fate = _fate(entries[0], around)
            kept.append({_Fate.STAYS: text, _Fate.GOES: f"{_GONE}{text}", _Fate.MAY_FAIL: _with_nofail(text)}[fate])
            gone += [entries[0].mount_point] if fate is _Fate.GOES else []
    rest = [text for text in kept if text != _HEADER]
    return "\n".join((_HEADER, *map(str, lines), *rest, "")), tuple(gone)


def _is_replaced(entry: Entry, own: frozenset[str]) -> bool:
    """Whether a new line stands for it, or it tells of a part of the former disk that has no successor here."""
    is_on_a_disk = _ON_A_DISK.match(entry.device) is not None
    if entry.type == _SWAP:
        return is_on_a_disk
    place = f"/{'/'.join(entry.place)}"
    return place in own or (is_on_a_disk and entry.place in _REPLACED)


def _fate(entry: Entry, around: Surroundings) -> _Fate:
    if entry.has("nofail") or entry.has("noauto"):
        return _Fate.STAYS  # holds up no boot
    is_on_a_disk = _ON_A_DISK.match(entry.device) is not None
    if entry.type == _SWAP:
        return _Fate.STAYS if around.has_file(entry.device) else _Fate.GOES
    if entry.type != "zfs" and (not is_on_a_disk or around.has_device(entry.device.replace('"', ""))):
        return _Fate.STAYS
    return _Fate.MAY_FAIL if around.brings_disks else _Fate.GOES


def _with_nofail(text: str) -> str:
    return _OPTIONS.sub(lambda found: f"{found[1]}{found[2] or ' defaults'},nofail", text, count=1)
