# SPDX-License-Identifier: GPL-2.0-or-later
"""What a renderer is told about the guest, and what it answers: files to write and files to put out of the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

HEADER = "# Written by snf-image when this instance was deployed.\n"
BACKUP = ".snf-image-bak"


class Renderer(StrEnum):
    """The network software that the helper can write for."""

    NETPLAN = "netplan"
    NETWORKD = "networkd"
    IFUPDOWN = "ifupdown"
    NETWORKMANAGER = "networkmanager"
    IFCFG = "ifcfg"
    WICKED = "wicked"
    NETIFRC = "netifrc"
    ALPINE = "alpine"
    DHCPCD = "dhcpcd"


@dataclass(frozen=True)
class FileContent:
    """The text of a file of root's, and its permission bits."""

    text: str
    mode: int = 0o644


@dataclass(frozen=True)
class Rendered:
    """`files` by path; `retired` maps a file that would compete with them to the name it gets.

    `links` are symbolic links by path, as written. `removed` are links of the image that would start what is no more.
    """

    files: Mapping[str, FileContent]
    retired: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()

    def beside(self, other: Rendered) -> Rendered:
        """What both of them say; they must not speak of the same files."""
        return Rendered(
            {**self.files, **other.files},
            {**self.retired, **other.retired},
            {**self.links, **other.links},
            (*self.removed, *other.removed),
        )


@dataclass(frozen=True)
class Facts:
    """`competing` are the guest's own network files of the chosen kind.

    `matches_mac`: its ifupdown finds cards by MAC address. `systemd`: that is the init. `backend` is netplan's, or what
    stands behind the files. `name` is what cards are called before their number, where they have to be called
    something. `texts` are files of the guest that are changed in place, by path.
    """

    competing: tuple[str, ...] = ()
    matches_mac: bool = True
    systemd: bool = True
    backend: str = "networkd"
    name: str = "eth"
    texts: Mapping[str, str] = field(default_factory=dict)


def suffixed(paths: tuple[str, ...]) -> Mapping[str, str]:
    """New names for files that are only read when their names end as they do now."""
    return {path: path + BACKUP for path in paths}


def hidden(paths: tuple[str, ...]) -> Mapping[str, str]:
    """New names for files whose readers take any name that does not begin with a dot."""
    return {path: f"{path.rpartition('/')[0]}/.{path.rpartition('/')[2]}{BACKUP}" for path in paths}
