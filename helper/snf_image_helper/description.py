# SPDX-License-Identifier: GPL-2.0-or-later
"""A mounted Linux guest in a few words, read as data out of its files. Nothing of it is executed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from snf_image_helper import fstab
from snf_image_helper.cloud_init import version as cloud_init_version
from snf_image_helper.guest import Guest
from snf_image_helper.linux.distros import Distro, Family, os_releases
from snf_image_helper.network import Renderer, decide, facts_for
from snf_image_helper.problems import Problems, fact
from snf_image_shared.findings import FoundSystem
from snf_image_shared.job import Job

# Programs of which every system has one; the first that is there tells the architecture.
_PROGRAMS = ("/usr/lib/systemd/systemd", "/sbin/init", "/bin/sh", "/usr/bin/sh", "/usr/bin/env", "/bin/busybox")
# e_machine of elf(5), and whether the file is of 64 bits and little-endian -> what uname -m says.
_MACHINES = {
    (3, False, True): "i686",
    (20, False, False): "ppc",
    (21, True, False): "ppc64",
    (21, True, True): "ppc64le",
    (22, True, False): "s390x",
    (40, False, True): "armv7l",
    (62, True, True): "x86_64",
    (183, True, True): "aarch64",
    (243, True, True): "riscv64",
    (258, True, True): "loongarch64",
}
_INITS = (
    ("/sbin/openrc", "openrc"),
    ("/sbin/runit-init", "runit"),
    ("/sbin/initctl", "upstart"),
    ("/usr/lib/systemd/systemd", "systemd"),
    ("/lib/systemd/systemd", "systemd"),
    ("/etc/inittab", "sysvinit"),
)
_BOOT_LOADERS = (
    ("/boot/grub/grub.cfg", "grub"),
    ("/boot/grub2/grub.cfg", "grub"),
    ("/boot/loader/loader.conf", "systemd-boot"),
    ("/boot/efi/loader/loader.conf", "systemd-boot"),
    ("/efi/loader/loader.conf", "systemd-boot"),
    ("/boot/extlinux/extlinux.conf", "extlinux"),
    ("/boot/extlinux.conf", "extlinux"),
    ("/boot/syslinux/syslinux.cfg", "syslinux"),
    ("/boot/grub/menu.lst", "grub-legacy"),
    ("/etc/lilo.conf", "lilo"),
)
_MODULES = ("/usr/lib/modules", "/lib/modules")
_MOST_KERNELS = 16


def described(found: FoundSystem, guest: Guest, job: Job, problems: Problems) -> FoundSystem:
    """`found` with all that the guest's files tell; what cannot be read becomes a problem."""

    def told(look: Callable[[Guest], str]) -> str:
        with problems.noted():
            return fact(look(guest))
        return ""

    distro, kernels = Distro(Family.UNKNOWN), tuple[str, ...]()
    with problems.noted():
        distro = Distro.of(guest)
    with problems.noted():
        kernels = _kernels(guest)
    return replace(
        found,
        name=told(partial(_member, name="PRETTY_NAME")),
        # Also of a distribution whose ways nobody knows.
        distribution=distro.name or told(partial(_member, name="ID")),
        release=distro.version or told(partial(_member, name="VERSION_ID")),
        distribution_family=str(distro.family),
        architecture=told(architecture),
        kernels=kernels,
        init=told(_init),
        network=told(lambda guest: str(decide(guest, job.wishes).owner or "")),
        network_backend=told(lambda guest: _netplan_backend(guest, job)),
        cloud_init=told(cloud_init_version.installed),
        selinux=told(_selinux),
        boot_loader=told(lambda guest: _first(guest, _BOOT_LOADERS)),
        root_device=told(_root_device),
    )


def _member(guest: Guest, name: str) -> str:
    return next((value for members in os_releases(guest) if (value := members.get(name, ""))), "")


def architecture(guest: Guest) -> str:
    """Of its programs, as uname -m calls it; "" for none that is known. Raises GuestError."""
    path = next((path for path in _PROGRAMS if guest.is_file(path)), None)
    head = guest.head(path, 20) if path else b""
    if len(head) < 20 or not head.startswith(b"\x7fELF"):
        return ""
    little = head[5] == 1
    return _MACHINES.get((int.from_bytes(head[18:20], "little" if little else "big"), head[4] == 2, little), "")


def _kernels(guest: Guest) -> tuple[str, ...]:
    directory = next((path for path in _MODULES if guest.is_dir(path)), None)
    names = guest.list_directory(directory) if directory else ()
    return tuple(fact(name) for name in names if re.match(r"\d+\.\d+", name))[:_MOST_KERNELS]


def _init(guest: Guest) -> str:
    """What /sbin/init leads to, else what is installed."""
    target = guest.link_target("/sbin/init") or ""
    if target.endswith("/systemd"):
        return "systemd"
    return _first(guest, _INITS) or ("busybox" if target.endswith("/busybox") else "")


def _netplan_backend(guest: Guest, job: Job) -> str:
    return facts_for(Renderer.NETPLAN, guest, ()).backend if decide(guest, job.wishes).owner is Renderer.NETPLAN else ""


def _selinux(guest: Guest) -> str:
    text = guest.read_text("/etc/selinux/config", missing_ok=True) or ""
    found = re.search(r"^[ \t]*SELINUX=(\w+)", text, re.MULTILINE)
    return found[1].lower() if found else ""


def _root_device(guest: Guest) -> str:
    root = fstab.root_entry(fstab.parse(guest.read_text(fstab.FSTAB, missing_ok=True) or "")[0])
    return root.device if root else ""


def _first(guest: Guest, places: tuple[tuple[str, str], ...]) -> str:
    """The name that goes with the first path that exists."""
    return next((name for path, name in places if guest.exists(path)), "")
