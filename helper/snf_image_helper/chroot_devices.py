# SPDX-License-Identifier: GPL-2.0-or-later
"""The /dev of the guest's programs: what every system has, and the instance's own disks.

The job, hooks, overlays and archives are disks of the helper VM as well, and its ports lead to the node: they are not
there, and where it is read-only nobody makes them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from snf_image_helper.guest import Guest
from snf_image_shared.process import run

# linux/Documentation/admin-guide/devices.txt
_CHARACTERS = {
    **{"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)},
    "console": (5, 1),
}
_LINKS = {
    **{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"},
    "ptmx": "pts/ptmx",
}
_MOUNTS = (
    ("pts", ["-t", "devpts", "-o", "newinstance,nosuid,noexec,gid=5,mode=620,ptmxmode=666", "devpts"]),
    ("shm", ["-t", "tmpfs", "-o", "nosuid,nodev,mode=1777", "shm"]),
)
_DEV, _BLOCK = Path("/dev"), Path("/sys/class/block")
_MAPPER = Path("/dev/mapper")
_CONTROL = "control"


def furnish(place: str, guest: Guest) -> None:
    """Fill the empty file system at `place`, a path of the helper, which can only be read then. Raises ProcessError."""
    dev = Path(place)
    for name, (major, minor) in _CHARACTERS.items():
        _node(dev / name, stat.S_IFCHR | (0o600 if name == "console" else 0o666), os.makedev(major, minor))
    for name, target in _LINKS.items():
        (dev / name).symlink_to(target)
    for number in _disks(guest):
        _block(dev / number.parent.name, number)
    _volumes(dev, guest)
    for name, options in _MOUNTS:
        (dev / name).mkdir()
        run(["mount", *options, str(dev / name)])
    run(["mount", "-o", "remount,bind,ro,nosuid,noexec", place])


def _disks(guest: Guest) -> tuple[Path, ...]:
    """The files with the numbers of the instance's disks and of their partitions."""
    disks = [_BLOCK / Path(device).name for device in guest.disk.devices]
    return tuple(number for disk in disks for number in (*disk.glob("dev"), *disk.glob(f"{disk.name}*/dev")))


def _volumes(dev: Path, guest: Guest) -> None:
    """The logical volumes that lie on these alone."""
    below = {number.parent.name for number in _disks(guest)}
    (dev / _MAPPER.name).mkdir()
    for number in _BLOCK.glob("dm-*/dev"):
        volume = number.parent
        if {each.name for each in (volume / "slaves").iterdir()} <= below:
            _block(dev / volume.name, number)
            _block(dev / _MAPPER.name / (volume / "dm/name").read_text().strip(), number)
    for link in _DEV.glob("*/*"):
        if link.is_symlink() and link.resolve().parent == _MAPPER and (dev / link.resolve().relative_to(_DEV)).exists():
            place = dev / link.relative_to(_DEV)
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(link.readlink())
    if needs_mapper(guest) and (_MAPPER / _CONTROL).exists():
        _node(dev / _MAPPER.name / _CONTROL, stat.S_IFCHR | 0o600, (_MAPPER / _CONTROL).stat().st_rdev)


def needs_mapper(guest: Guest) -> bool:
    """Whether GRUB has to ask device-mapper what its root lies on."""
    return bool(guest.system.volume)


def _block(node: Path, number: Path) -> None:
    major, minor = number.read_text().split(":")
    _node(node, stat.S_IFBLK | 0o600, os.makedev(int(major), int(minor)))


def _node(node: Path, mode: int, device: int) -> None:
    os.mknod(node, mode, device)
    node.chmod(stat.S_IMODE(mode))
