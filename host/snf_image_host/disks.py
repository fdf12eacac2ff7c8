# SPDX-License-Identifier: GPL-2.0-or-later
"""The disks as Ganeti names them: those of the instance, and the one that export and import move."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from snf_image_host.os_interface import check_api_version
from snf_image_shared.errors import RequestError

MAX_DISKS = 24  # PCI slots of the helper VM; Ganeti itself stops at 16


class InstanceDisk(BaseModel):
    """One disk as Ganeti names it. `path` is a block device or a file."""

    model_config = ConfigDict(frozen=True)

    path: Path
    access: Literal["rw", "ro"] = "rw"


@dataclass(frozen=True)
class Transfer:
    """One disk to export or import. `size_fd` is where Ganeti wants to be told the size, or None."""

    device: Path
    size_fd: int | None

    @classmethod
    def from_environment(cls, env: Mapping[str, str], verb: Literal["EXPORT", "IMPORT"]) -> Transfer:
        """EXPORT_DEVICE can be a snapshot of what DISK_<n>_PATH names, so only it counts. Raises RequestError."""
        check_api_version(env)
        device, size_fd = env.get(f"{verb}_DEVICE", ""), env.get("EXP_SIZE_FD", "")
        if not device.startswith("/"):
            raise RequestError(f"{verb}_DEVICE: {device[:80]!r} is no path; userspace-only disks cannot be moved yet")
        if size_fd and not (size_fd.isascii() and size_fd.isdigit() and len(size_fd) < 8):
            raise RequestError(f"EXP_SIZE_FD: {size_fd[:20]!r} is no file descriptor; Ganeti sets it")
        return cls(Path(device), int(size_fd) if size_fd else None)


def disks_from_environment(env: Mapping[str, str]) -> tuple[InstanceDisk, ...]:
    """All disks in Ganeti's order. Raises RequestError naming the variable."""
    text = env.get("DISK_COUNT", "")
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_DISKS:
        raise RequestError(
            f"DISK_COUNT: {text[:20]!r} is not a number from 1 to {MAX_DISKS}; add a disk to the instance"
        )
    disks = []
    for index in range(int(text)):
        path, uri = env.get(f"DISK_{index}_PATH", ""), env.get(f"DISK_{index}_URI", "")
        if not path.startswith("/"):
            found = f"only a URI ({uri.split(':', 1)[0]}:...)" if uri else "nothing"
            raise RequestError(
                f"DISK_{index}_PATH: {found} instead of a path; userspace-only disks are not part of this version"
            )
        access = env.get(f"DISK_{index}_ACCESS") or "rw"
        if access not in {"rw", "ro"}:
            raise RequestError(f"DISK_{index}_ACCESS: {access[:20]!r} is neither rw nor ro; Ganeti sets it")
        disks.append(InstanceDisk.model_validate({"path": path, "access": access}))
    if disks[0].access != "rw":
        raise RequestError("DISK_0_ACCESS: the first disk is read-only; attach it read-write")
    return tuple(disks)
