# SPDX-License-Identifier: GPL-2.0-or-later
"""LVM on a piece of a disk, made and read by its own programs without the kernel's device-mapper."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from snf_image_shared.process import run

_CONFIGURATION = (
    'devices { use_devicesfile=0 obtain_device_list_from_udev=0 external_device_info_source="none" hints="none" } '
    "global { activation=0 use_lvmpolld=0 event_activation=0 } backup { backup=0 archive=0 }"
)


@dataclass(frozen=True)
class Extent:
    """Bytes from the start of what holds it."""

    offset: int
    length: int


def create_group(disk: Path, place: Extent, name: str, volumes: Mapping[str, int]) -> None:
    """Make a physical volume there and the group on it, with these volumes one after the other; sizes in MiB."""
    with _attached(disk, place) as device:
        lvm(device, "pvcreate", "--dataalignment", "1m", device)
        lvm(device, "vgcreate", name, device)
        for volume, mib in volumes.items():
            lvm(device, "lvcreate", "-an", "-Zn", "-Wn", "-n", volume, "-L", f"{mib}m", name)


def volume_extent(disk: Path, place: Extent, volume: str) -> Extent:
    """Where "group/name" lies in the physical volume at `place`, as LVM says that checks its metadata first.

    Raises ValueError when it is not one piece.
    """
    group, name = volume.split("/")
    with _attached(disk, place) as device:
        lvm(device, "vgck", group)
        fields = "pe_start,vg_extent_size,pvseg_start,pvseg_size,lv_name"
        said = lvm(device, "pvs", "--segments", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", fields)
    rows = [row for row in json.loads(said)["report"][0]["pvseg"] if row["lv_name"] == name]
    pieces = [(int(row["pvseg_start"]), int(row["pvseg_size"])) for row in rows]
    start, length = pieces[0][0], sum(size for _, size in pieces)
    if any(at != start + sum(size for _, size in pieces[:index]) for index, (at, _) in enumerate(pieces)):
        raise ValueError(f"{volume} lies in pieces: {pieces}")
    extent = int(rows[0]["vg_extent_size"])
    return Extent(int(rows[0]["pe_start"]) + start * extent, length * extent)


def lvm(device: str, command: str, *words: str) -> str:
    """What a program of LVM says that sees this device alone. Raises ProcessError."""
    options = ("--quiet", "--config", _CONFIGURATION, "--devices", device)
    return run(["lvm", command, *options, *words], env={"LVM_SUPPRESS_FD_WARNINGS": "1", "LVM_SYSTEM_DIR": ""}).stdout


@contextmanager
def _attached(disk: Path, place: Extent) -> Iterator[str]:
    options = [f"--offset={place.offset}", f"--sizelimit={place.length}"]
    device = run(["losetup", "--find", "--show", *options, str(disk)]).stdout.strip()
    try:
        yield device
    finally:
        run(["losetup", "--detach", device])
