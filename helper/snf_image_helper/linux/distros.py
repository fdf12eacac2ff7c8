# SPDX-License-Identifier: GPL-2.0-or-later
"""Which Linux distribution the guest is, read as data: os-release(5), else the marker files of older systems."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from snf_image_helper.guest import Guest


class Family(StrEnum):
    """Distributions that keep their host name, network and services in the same places."""

    DEBIAN = "debian"
    REDHAT = "redhat"
    SUSE = "suse"
    ARCH = "arch"
    GENTOO = "gentoo"
    SLACKWARE = "slackware"
    ALPINE = "alpine"
    COREOS = "coreos"
    VOID = "void"
    NIXOS = "nixos"
    CLEAR = "clear"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Distro:
    """`name`, `version` and `variant` are ID, VERSION_ID and VARIANT_ID, `like` are the words of ID_LIKE.

    All is printable ASCII of at most 128 characters, perhaps empty.
    """

    family: Family
    name: str = ""
    version: str = ""
    variant: str = ""
    like: tuple[str, ...] = ()

    @classmethod
    def of(cls, guest: Guest) -> Distro:
        """Ask os-release first, then the marker files. Never fails for want of an answer: that is Family.UNKNOWN."""
        for members in os_releases(guest):
            found = from_os_release(members)
            if found.family is not Family.UNKNOWN:
                return found
        for path, family in _MARKERS:
            if guest.exists(path):
                return from_marker(family, guest.head(path, _MARKER_SIZE) if guest.is_file(path) else b"")
        return cls(Family.UNKNOWN)


def os_releases(guest: Guest) -> Iterator[Mapping[str, str]]:
    """The members of each os-release of the guest, the one that counts first. Raises GuestError."""
    return (parse_os_release(guest.read_text(path)) for path in _OS_RELEASE if guest.is_file(path))


def parse_os_release(text: str) -> Mapping[str, str]:
    """Assignments of os-release(5); quotes and backslashes as the shell sees them, nothing is ever expanded."""
    found: dict[str, str] = {}
    for line in text.split("\n"):
        match = _ASSIGNMENT.fullmatch(line.strip())
        if match:
            found[match[1]] = _printable(_unquote(match[2]))
    return found


def from_os_release(members: Mapping[str, str]) -> Distro:
    """ID decides, then the words of ID_LIKE in their order (nearest relative first)."""
    name, like = members.get("ID", ""), tuple(members.get("ID_LIKE", "").split())
    version, variant = members.get("VERSION_ID", ""), members.get("VARIANT_ID", "")
    for word in (name, *like):
        family = _FAMILIES.get(word.lower()) or (Family.SUSE if word.lower().startswith("opensuse") else None)
        if family:
            return Distro(family, name, version, variant, like)
    return Distro(Family.UNKNOWN, name, version, variant, like)


def from_marker(family: Family, content: bytes) -> Distro:
    """What the begin of a marker file adds to its family: "CentOS release 6.10 (Final)" -> centos, 6.10."""
    text = _printable(content.decode("ascii", "replace"))
    name = next((name for word, name in _VENDORS.items() if text.startswith(word)), str(family))
    version = re.search(r"\d{1,8}(?:\.\d{1,8}){0,3}", text)
    return Distro(family, name, version[0] if version else "")


_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")
_ESCAPED = re.compile(r"\\([\"'$`\\])")
_LONGEST = 128
_MARKER_SIZE = 256  # bytes

_FAMILIES = {
    **dict.fromkeys(("debian", "ubuntu", "devuan", "raspbian", "linuxmint", "kali"), Family.DEBIAN),
    **dict.fromkeys(
        ("rhel", "fedora", "centos", "rocky", "almalinux", "ol", "amzn", "scientific", "openeuler"), Family.REDHAT
    ),
    # RPM packages and systemd, and no relative named.
    **dict.fromkeys(("photon", "azurelinux", "mariner"), Family.REDHAT),
    **dict.fromkeys(("suse", "sles", "sled", "sle-micro", "sl-micro", "suse-microos", "sles_sap"), Family.SUSE),
    **dict.fromkeys(("arch", "archlinux", "manjaro", "endeavouros"), Family.ARCH),
    "gentoo": Family.GENTOO,
    "slackware": Family.SLACKWARE,
    "alpine": Family.ALPINE,
    **dict.fromkeys(("coreos", "flatcar"), Family.COREOS),
    "void": Family.VOID,
    "nixos": Family.NIXOS,
    "clear-linux-os": Family.CLEAR,
}
# How the release files of Red Hat's descendants begin.
_VENDORS = {
    "CentOS": "centos",
    "Red Hat": "rhel",
    "Fedora": "fedora",
    "Scientific": "scientific",
    "Oracle": "ol",
    "Amazon": "amzn",
    "Enterprise Linux": "ol",
}
_MARKERS = (
    ("/etc/coreos", Family.COREOS),
    ("/etc/NIXOS", Family.NIXOS),
    ("/etc/debian_version", Family.DEBIAN),
    # Before redhat-release: Oracle's says that it is Red Hat.
    ("/etc/oracle-release", Family.REDHAT),
    ("/etc/redhat-release", Family.REDHAT),
    ("/etc/system-release", Family.REDHAT),
    ("/etc/slackware-version", Family.SLACKWARE),
    ("/etc/SuSE-release", Family.SUSE),
    ("/etc/gentoo-release", Family.GENTOO),
    ("/etc/arch-release", Family.ARCH),
    ("/etc/alpine-release", Family.ALPINE),
)


def _unquote(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1] if text[0] == "'" else _ESCAPED.sub(r"\1", text[1:-1])
    return text


def _printable(text: str) -> str:
    return "".join(char for char in text if " " <= char <= "~")[:_LONGEST]
