# SPDX-License-Identifier: GPL-2.0-or-later
"""An unpacked tree becomes the system of this disk: mount points, what belongs on the ESP, and fstab."""

from __future__ import annotations

from snf_image_helper import fstab
from snf_image_helper.deployment.esp import fill_esp, place_of_esp
from snf_image_helper.deployment.file_systems import Made
from snf_image_helper.deployment.fstab_writing import Line, Surroundings, fstab_of
from snf_image_helper.deployment.other_disks import OtherDisks
from snf_image_helper.deployment.tree import Tree
from snf_image_helper.disks.disk import Disk
from snf_image_helper.fstab import FSTAB
from snf_image_helper.guest import Guest
from snf_image_helper.linux.distros import Distro, Family
from snf_image_helper.linux.services import has_systemd
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import WHOLE_DISK, OsFamily, System
from snf_image_shared.layouts import Role

# What an archive may leave out and no guest starts without; their modes.
_DIRECTORIES = {"/dev": 0o755, "/proc": 0o555, "/run": 0o755, "/sys": 0o555, "/tmp": 0o1777}  # noqa: S108
_PROC = Line("proc", "/proc", "proc")
_SHM = "/dev/shm"  # noqa: S108
# What the start scripts of guests without systemd mount by fstab, as instance-image gave it to them.
_OLD = {
    Family.REDHAT: (
        Line("tmpfs", _SHM, "tmpfs"),
        Line("devpts", "/dev/pts", "devpts", "gid=5,mode=620"),
        Line("sysfs", "/sys", "sysfs"),
    ),
    Family.GENTOO: (Line("shm", _SHM, "tmpfs", "nodev,nosuid,noexec"),),
}
_SHOWN = 3


def furnish(disk: Disk, tree: Tree, made: tuple[Made, ...], report: Reporter, *, brings_disks: bool = False) -> None:
    """Every path is resolved inside the tree, whatever links it has. Raises GuestError.

    `brings_disks`: what fstab tells of the former instance's other disks is true of this one's, once they are filled.
    """
    system = System(OsFamily.LINUX, WHOLE_DISK)
    with Guest(tree.root, disk, system) as guest:
        for path, mode in _DIRECTORIES.items():
            if not guest.is_link(path):
                guest.make_directory(path, mode)
        guest.make_directory("/etc")
        old = guest.read_text(FSTAB, missing_ok=True) or ""
        places = {Role.ROOT: "/", Role.BOOT: "/boot", Role.SWAP: "swap"}
        if tree.boot:
            guest.make_directory("/boot")
        if tree.esp:
            place = place_of_esp(guest, fstab.parse(old)[0], separate_boot=tree.boot is not None)
            places[Role.ESP] = place
            if tree.boot and place.startswith("/boot/"):
                with Guest(tree.boot, disk, system) as boot:
                    _give(boot, place.removeprefix("/boot"), tree.esp, report)
            else:
                _give(guest, place, tree.esp, report)
        around = Surroundings(guest.is_file, OtherDisks(disk).has, brings_disks)
        text, gone = fstab_of(_lines(guest, made, places), old, around)
        guest.write_text(FSTAB, text)
        if gone:
            names = ", ".join(fstab.printable(place) for place in gone[:_SHOWN])
            more = f" and {len(gone) - _SHOWN} more" if len(gone) > _SHOWN else ""
            report.warning(f"{FSTAB}: the image's disk for {names}{more} is not here; the lines are comments now")


def _give(guest: Guest, place: str, esp: str, report: Reporter) -> None:
    guest.make_directory(place)
    fill_esp(guest, place, esp, report)


def _lines(guest: Guest, made: tuple[Made, ...], places: dict[Role, str]) -> tuple[Line, ...]:
    """Those of 0.7.3: the root first, then what is mounted below it, swap last."""
    device = {each.role: each for each in made}
    found = [_line(device[Role.ROOT], places, "defaults", "0 1"), _PROC]
    if Role.BOOT in device:
        found.append(_line(device[Role.BOOT], places, "defaults", "1 2"))
    if Role.ESP in device:
        found.append(_line(device[Role.ESP], places, "umask=0077", "0 2"))
    if Role.SWAP in device:
        found.append(_line(device[Role.SWAP], places, "defaults", "0 0"))
    return (*found, *(() if has_systemd(guest) else _OLD.get(Distro.of(guest).family, ())))


def _line(made: Made, places: dict[Role, str], options: str, check: str) -> Line:
    return Line(f"UUID={made.uuid}", places[made.role], made.type, options, check)
