# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams laid out as instance-image 0.7.3 exports: its dumps, and its tar around them, made by the same programs."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from block_devices import loop_device

RULES = ("/etc/udev/rules.d/70-persistent-net.rules", "/etc/udev/rules.d/z25_persistent-net.rules")
RANDOM = bytes(range(256)) * 4096
CAPABILITY = "cap_net_raw=ep"
_GUEST = {
    "/etc/os-release": "ID=debian\n",
    "/etc/debian_version": "12.0\n",
    "/etc/hostname": "web1\n",
    "/etc/fstab": "UUID=00000000-1111-2222-3333-444444444444 / ext3 defaults 0 1\nnas:/x /x nfs noauto 0 0\n",
    "/bin/ping": "a program\n",
    **dict.fromkeys(RULES, 'KERNEL=="eth*", NAME="eth7"\n'),
}


def root_tree(place: Path) -> None:
    """What is on the root file system: a capability, a hole, two names of one file, owners that nobody knows."""
    for path, text in _GUEST.items():
        target = place / path.strip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    (place / "boot").mkdir(exist_ok=True)
    (place / "blob").write_bytes(RANDOM)
    (place / "other-name").hardlink_to(place / "blob")
    with (place / "hole").open("wb") as file:
        file.truncate(64 << 20)
    (place / "link").symlink_to("/etc/hostname")
    subprocess.run(["chown", "4711:4712", place / "blob"], check=True)
    subprocess.run(["setcap", CAPABILITY, place / "bin/ping"], check=True)


def boot_tree(place: Path) -> None:
    """What is on the file system at /boot."""
    (place / "vmlinuz-6.1").write_bytes(RANDOM)
    (place / "config-6.1").write_text("CONFIG_VIRTIO=y\n")


def file_system(path: Path, make: Sequence[str], mib: int, fill: object) -> Path:
    """A file with a file system that `fill` has filled."""
    with path.open("wb") as file:
        file.truncate(mib << 20)
    subprocess.run([*make, str(path)], check=True, stdout=subprocess.DEVNULL)
    place = path.with_suffix(".mounted")
    place.mkdir()
    with loop_device(path) as device:
        subprocess.run(["mount", str(device), str(place)], check=True)
        try:
            fill(place)  # type: ignore[operator]
        finally:
            subprocess.run(["umount", str(place)], check=True)
    place.rmdir()
    return path


def old_export(directory: Path, *, boot_first: bool = True, has_boot: bool = True) -> Path:
    """The stream of a guest with or without /boot, in either order of the two dumps."""
    staging = directory / "staging"
    staging.mkdir()
    ext3 = ["mkfs.ext3", "-F", "-q"]
    systems = {"root.dump": file_system(directory / "root-fs", [*ext3, "-L", "/"], 96, root_tree)}
    if has_boot:
        systems["boot.dump"] = file_system(directory / "boot-fs", [*ext3, "-L", "/boot"], 32, boot_tree)
    for name, path in systems.items():
        with loop_device(path, "--read-only") as device, (staging / name).open("wb") as out:
            dump = ["dump", "-0", "-q", "-z9", "-f", "-", str(device)]
            subprocess.run(dump, check=True, stdout=out, stderr=subprocess.DEVNULL)
    members = sorted(systems, reverse=not boot_first)
    stream = directory / "stream"
    subprocess.run(
        ["tar", "--no-recursion", "-C", staging, "-cf", stream, ".", *(f"./{name}" for name in members)], check=True
    )
    return stream
