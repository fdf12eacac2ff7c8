# SPDX-License-Identifier: GPL-2.0-or-later
"""A mounted BSD in a few words, read as data out of its files. Nothing of it is executed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from snf_image_helper import fstab
from snf_image_helper.description import architecture
from snf_image_helper.guest import Guest
from snf_image_helper.problems import Problems, fact
from snf_image_shared.findings import FoundSystem
from snf_image_shared.job import Job

_LONGEST = 4096  # bytes of a file, of which the begin alone tells the release


@dataclass(frozen=True)
class _Release:
    """Where a system says what it is: `pattern` finds the release, as its own uname -r gives it."""

    name: str
    path: str
    pattern: str


# libexec/rc/rc.d/os-release of FreeBSD asks freebsd-version(1), for which os-release waits until the first boot;
# etc/Makefile of NetBSD writes /etc/release; etc/rc of OpenBSD writes the first line of /etc/motd.
_RELEASES = {
    "freebsd": _Release("FreeBSD", "/bin/freebsd-version", r'^USERLAND_VERSION="([\w.+-]{1,40})"'),
    "netbsd": _Release("NetBSD", "/etc/release", r"^NetBSD ([\w.+-]{1,40})"),
    "openbsd": _Release("OpenBSD", "/etc/motd", r"^OpenBSD (\d[\w.+-]{0,40})"),
}


def described(found: FoundSystem, guest: Guest, job: Job, problems: Problems) -> FoundSystem:
    """`found` with all that the guest's files tell; what cannot be read becomes a problem."""

    def told(look: Callable[[], str]) -> str:
        with problems.noted():
            return fact(look())
        return ""

    release = _RELEASES[found.family]
    version = told(lambda: _version(guest, release))
    return replace(
        found,
        name=f"{release.name} {version}".rstrip(),
        distribution=found.family,
        release=version,
        architecture=told(lambda: architecture(guest)),
        init=told(lambda: "rc" if guest.is_file("/etc/rc") else ""),
        network=told(lambda: _network(guest, found.family)),
        root_device=told(lambda: _root_device(guest)),
    )


def _version(guest: Guest, release: _Release) -> str:
    if not guest.is_file(release.path):
        return ""
    text = guest.head(release.path, _LONGEST).decode("ascii", "replace")
    match = re.search(release.pattern, text, re.MULTILINE)
    return match[1] if match else ""


def _network(guest: Guest, family: str) -> str:
    """What is configured: rc.conf, or the files of netstart(8) that are named for their interfaces."""
    return "hostname.if" if family == "openbsd" else "rc.conf" if guest.is_file("/etc/rc.conf") else ""


def _root_device(guest: Guest) -> str:
    root = fstab.root_entry(fstab.parse(guest.read_text(fstab.FSTAB, missing_ok=True) or "")[0])
    return root.device if root else ""
