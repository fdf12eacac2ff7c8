# SPDX-License-Identifier: GPL-2.0-or-later
"""What a phony guest is made of: entries, each group of them with the source that says that the image has it so.

Programs are nothing but an ELF header and units hold no more than what enabling them needs: nobody runs them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

# The header of an x86-64 program (elf(5)): what tells a guest's architecture.
PROGRAM = b"\x7fELF\x02\x01\x01" + bytes(9) + (2).to_bytes(2, "little") + (62).to_bytes(2, "little") + bytes(44)
_UNITS = "/usr/lib/systemd/system"


# config/cloud.cfg.tmpl of github.com/canonical/cloud-init, for a distribution and its user.
CLOUD_CFG = """users:
  - default

disable_root: true
preserve_hostname: false

cloud_init_modules:
  - seed_random
  - bootcmd
  - write_files
  - growpart
  - resizefs
  - disk_setup
  - mounts
  - set_hostname
  - update_hostname
  - update_etc_hosts
  - users_groups
  - ssh
  - set_passwords

cloud_config_modules:
  - ssh_import_id
  - locale
  - ntp
  - timezone
  - runcmd

cloud_final_modules:
  - package_update_upgrade_install
  - write_files_deferred
  - scripts_vendor
  - scripts_per_once
  - scripts_per_boot
  - scripts_per_instance
  - scripts_user
  - ssh_authkey_fingerprints
  - keys_to_console
  - install_hotplug
  - phone_home
  - final_message
  - power_state_change

system_info:
  distro: {0}
  default_user:
    name: {0}
    lock_passwd: true
"""


class Kind(StrEnum):
    FILE = "file"
    LINK = "link"
    DIRECTORY = "directory"


@dataclass(frozen=True)
class Entry:
    """`content` is the text of a file or the target of a link."""

    kind: Kind
    path: str
    content: bytes = b""
    mode: int = 0o644
    owner: int = 0
    group: int = 0


@dataclass(frozen=True)
class Sourced:
    """Entries, and where it is written that the published image has them."""

    source: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Phony:
    """A guest that looks like the published image of a distribution; later entries take the place of earlier ones."""

    name: str
    parts: tuple[Sourced, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, each path once."""
        return tuple({entry.path: entry for part in self.parts for entry in part.entries}.values())

    def make(self, root: Path) -> Path:
        """Lay the tree out in `root`, which is made; as root the owners are right as well."""
        root.mkdir(parents=True, exist_ok=True)
        for entry in sorted(self.entries, key=lambda entry: (entry.kind is not Kind.LINK, entry.path)):
            _put(root, entry)
        for path in (root, *root.rglob("*")):
            if not path.is_symlink():
                os.utime(path, (1_700_000_000, 1_700_000_000))
        return root


def phony(name: str, *parts: Sourced | Phony) -> Phony:
    """A guest of these parts; another phony among them is the one that it is derived from."""
    flat = (part for item in parts for part in (item.parts if isinstance(item, Phony) else (item,)))
    return Phony(name, tuple(flat))


def of(source: str, *entries: Entry | tuple[Entry, ...]) -> Sourced:
    """Entries with their source; a tuple of entries stands for each of them."""
    flat = tuple(entry for item in entries for entry in (item if isinstance(item, tuple) else (item,)))
    return Sourced(source, flat)


def file(path: str, text: str = "", mode: int = 0o644, *, owner: int = 0, group: int = 0) -> Entry:
    return Entry(Kind.FILE, path, text.encode(), mode, owner, group)


def link(path: str, target: str) -> Entry:
    return Entry(Kind.LINK, path, target.encode())


def directory(path: str, mode: int = 0o755, *, owner: int = 0, group: int = 0) -> Entry:
    return Entry(Kind.DIRECTORY, path, b"", mode, owner, group)


def programs(*paths: str) -> tuple[Entry, ...]:
    """Executables."""
    return tuple(Entry(Kind.FILE, path, PROGRAM, 0o755) for path in paths)


def unit(name: str, *install: str, at: str = _UNITS) -> Entry:
    """A unit as its package ships it, with the lines of its [Install] section."""
    section = "".join(f"{line}\n" for line in ("[Install]", *install)) if install else ""
    return file(f"{at}/{name}", f"[Unit]\nDescription={name}\n\n{section}")


def enabled(*names: str, wanted_by: str = "multi-user.target", at: str = _UNITS) -> tuple[Entry, ...]:
    """Units, and what `systemctl enable` makes of WantedBy=."""
    return tuple(
        entry
        for name in names
        for entry in (
            unit(name, f"WantedBy={wanted_by}", at=at),
            link(f"/etc/systemd/system/{wanted_by}.wants/{name}", f"{at}/{name}"),
        )
    )


def alias(name: str, target: str, at: str = _UNITS) -> Entry:
    """What `systemctl enable` makes of Alias=."""
    return link(f"/etc/systemd/system/{name}", f"{at}/{target}")


def accounts(*users: str, shadow: str, shadow_mode: int = 0o640, shadow_group: int = 42) -> tuple[Entry, ...]:
    """passwd, group and shadow; `users` are passwd lines, of which every name gets a group, `shadow` the whole file."""
    passwd = "".join(f"{line}\n" for line in users)
    groups = "".join(f"{line.split(':')[0]}:x:{line.split(':')[3]}:\n" for line in users)
    more = f"shadow:x:{shadow_group}:\n" if shadow_group else ""
    return (
        file("/etc/passwd", passwd),
        file("/etc/group", groups + more),
        file("/etc/shadow", shadow, shadow_mode, group=shadow_group),
        directory("/root", 0o700),
    )


def _put(root: Path, entry: Entry) -> None:
    place = root / entry.path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    match entry.kind:
        case Kind.LINK:
            place.symlink_to(entry.content.decode())
            return
        case Kind.FILE:
            place.write_bytes(entry.content)
        case Kind.DIRECTORY:
            place.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        os.chown(place, entry.owner, entry.group)
    place.chmod(entry.mode)


def named(guests: Iterable[Phony]) -> dict[str, Phony]:
    """The guests by name. Raises ValueError for one name twice."""
    found: dict[str, Phony] = {}
    for guest in guests:
        if guest.name in found:
            raise ValueError(f"{guest.name} is there twice")
        found[guest.name] = guest
    return found
