# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading the guest's fstab (man 5 fstab) as a stranger wrote it: pure, tolerant, and with a limit."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace

from snf_image_shared.errors import GuestError

MAX_MOUNTS = 64
FSTAB = "/etc/fstab"
_LARGEST = 1 << 18  # characters: every line costs memory, and the helper has little
_MIN_FIELDS = 3  # device, mount point, type; the rest has defaults
_MAX_PROBLEMS = 10

# What needs no word to the operator: it has nothing to do with the disk.
_VIRTUAL = frozenset(
    {"swap", "proc", "sysfs", "tmpfs", "ramfs", "devpts", "devtmpfs", "cgroup", "cgroup2", "efivarfs", "securityfs"}
    | {"debugfs", "tracefs", "bpf", "hugetlbfs", "mqueue", "configfs", "fusectl", "binfmt_misc", "ignore"}
    | {"procfs", "linprocfs", "linsysfs", "fdescfs", "fdesc", "devfs", "kernfs", "ptyfs", "mfs"}
)
# What may be on the image's disk. "auto" stands for whatever blkid finds.
_LOCAL = frozenset({"auto", "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "vfat", "msdos"})
_AUTOMOUNT = "x-systemd.automount"  # systemd.mount(5); often beside noauto
_REMOVABLE = re.compile(r"/dev/(fd\d|floppy|cdrom|dvd|sr\d|scd\d)")


@dataclass(frozen=True)
class Entry:
    """One line, its octal escapes undone. `mount_point` is "none" or a guest path."""

    device: str
    mount_point: str
    type: str
    options: tuple[str, ...] = ()

    def has(self, option: str) -> bool:
        """Whether this word is among the options."""
        return option in self.options

    def value(self, option: str) -> str | None:
        """The value of the last `option=value`, as mount(8) would take it."""
        found = [word.partition("=")[2] for word in self.options if word.startswith(f"{option}=")]
        return found[-1] if found else None

    @property
    def place(self) -> tuple[str, ...]:
        """The components of the mount point, for sorting and comparing; () is the root."""
        return tuple(part for part in posixpath.normpath(self.mount_point).split("/") if part)


def parse(text: str) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Entries in order, and a warning for each of the first few lines that make no sense.

    Raises GuestError for a text that is far longer than any honest one.
    """
    if len(text) > _LARGEST:
        raise GuestError(f"/etc/fstab is longer than {_LARGEST >> 10} KiB; shorten it in the image")
    entries, problems = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip(" \t\r")
        if not stripped or stripped.startswith("#"):
            continue
        fields = [_unescaped(field) for field in re.split(r"[ \t]+", stripped)]
        if len(fields) < _MIN_FIELDS or "\0" in stripped:
            problems.append(f"/etc/fstab line {number} is broken and skipped")
            continue
        device, mount_point, kind = fields[:3]
        options = tuple(word for word in fields[3].split(",") if word) if len(fields) > 3 else ()
        entries.append(Entry(device, mount_point, kind, options))
    if len(problems) > _MAX_PROBLEMS:
        problems[_MAX_PROBLEMS:] = [f"/etc/fstab has {len(problems) - _MAX_PROBLEMS} more broken lines"]
    return tuple(entries), tuple(problems)


def root_entry(entries: tuple[Entry, ...]) -> Entry | None:
    """The line of the root file system."""
    return next((entry for entry in entries if entry.mount_point.startswith("/") and not entry.place), None)


def local_mounts(
    entries: tuple[Entry, ...], local: frozenset[str] = _LOCAL
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """What is to be mounted besides the root, parents before children, and warnings about what is not.

    `local` are the types that may lie on the image's disk. Raises GuestError for more than MAX_MOUNTS.
    """
    wanted: dict[tuple[str, ...], Entry] = {}
    warnings = []
    for entry in entries:
        if entry.type in _VIRTUAL or _waits(entry) or entry.mount_point in {"none", "swap", "/"}:
            continue
        reason = _why_not(entry, local)
        if reason is None and entry.place in wanted:
            reason = "another line has the same mount point"
        if reason is None and entry.place:
            # What systemd mounts on access holds up no boot when it fails.
            wanted[entry.place] = replace(entry, options=(*entry.options, "nofail")) if entry.has(_AUTOMOUNT) else entry
        elif reason is not None:
            warnings.append(f"{FSTAB}: {printable(entry.mount_point)} is not mounted: {reason}")
    if len(wanted) > MAX_MOUNTS:
        raise GuestError(f"/etc/fstab asks for {len(wanted)} mounts, more than {MAX_MOUNTS}; shorten it in the image")
    if len(warnings) > _MAX_PROBLEMS:
        warnings[_MAX_PROBLEMS:] = [f"/etc/fstab has {len(warnings) - _MAX_PROBLEMS} more lines that are not mounted"]
    return tuple(wanted[place] for place in sorted(wanted)), tuple(warnings)


def printable(text: str) -> str:
    """The guest's text, fit for a message."""
    return "".join(char if char.isprintable() else "?" for char in text)[:80]


def _waits(entry: Entry) -> bool:
    """Whether it stays unmounted until somebody says so; what is mounted on access hides what lies below."""
    return entry.has("noauto") and not entry.has(_AUTOMOUNT)


def _why_not(entry: Entry, local: frozenset[str]) -> str | None:
    if not entry.mount_point.startswith("/"):
        return "its mount point does not begin with /"
    if entry.has("bind") or entry.has("rbind"):
        return "bind mounts are left to the guest"
    if entry.type not in local:
        return f"file systems of type {printable(entry.type)} are left to the guest"
    if _REMOVABLE.match(entry.device):
        return f"{printable(entry.device)} is removable"
    return None


def _unescaped(field: str) -> str:
    r"""Undo \040 and its like, byte by byte: several of them may make one UTF-8 character."""
    if "\\" not in field:
        return field
    raw = field.encode("utf-8", "surrogateescape")
    # A masked value: \777 is three digits and no byte.
    raw = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8) & 0xFF]), raw)
    return raw.decode("utf-8", "surrogateescape")
