# SPDX-License-Identifier: GPL-2.0-or-later
"""The disks as Ganeti names them: those of the instance, and the one that export and import move."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from snf_image_host.disks.userspace import parse_uri
from snf_image_host.os_interface import check_api_version
from snf_image_shared.errors import RequestError

MAX_DISKS = 24  # PCI slots of the helper VM; Ganeti itself stops at 16
_MIB = 1 << 20


@dataclass(frozen=True)
class InstanceDisk:
    """One disk as Ganeti names it: a path, or a URI, or both; which of them is usable is seen when it is opened.

    `variable` is where the URI comes from. The URI may carry credentials, so it is in no message.
    """

    path: Path | None
    access: Literal["rw", "ro"] = "rw"
    uri: str = field(default="", repr=False)
    variable: str = "DISK_0_URI"


@dataclass(frozen=True)
class Transfer:
    """One disk to export or import.

    `size_fd` is where Ganeti wants to be told the size, or None. `declared` is the disk's size in bytes as Ganeti has
    it, which the storage may have rounded up, or None. `index` is which of the instance's disks it is.
    """

    disk: InstanceDisk
    size_fd: int | None
    declared: int | None = None
    index: int = 0

    @classmethod
    def from_environment(cls, env: Mapping[str, str], verb: Literal["EXPORT", "IMPORT"]) -> Transfer:
        """EXPORT_DEVICE can be a snapshot of what DISK_<n>_PATH names, so only it counts. Raises RequestError."""
        check_api_version(env)
        disk = _disk(f"{verb}_DEVICE", env.get(f"{verb}_DEVICE", ""), f"{verb}_DISK_URI", env)
        size_fd = env.get("EXP_SIZE_FD", "")
        if size_fd and not _is_number(size_fd, 7):
            raise RequestError(f"EXP_SIZE_FD: {size_fd[:20]!r} is no file descriptor; Ganeti sets it")
        index = env.get(f"{verb}_INDEX", "")
        size = env.get(f"DISK_{index}_SIZE", "") if _is_number(index, 4) else ""
        declared = int(size) * _MIB if _is_number(size, 12) else None
        return cls(disk, int(size_fd) if size_fd else None, declared, int(index) if _is_number(index, 4) else 0)


def disks_from_environment(env: Mapping[str, str]) -> tuple[InstanceDisk, ...]:
    """All disks that hold the instance's data, in Ganeti's order. Raises RequestError naming the variable.

    A disk of another role, such as the firmware's (ganeti doc/design-uefi-boot.rst), is none of them. Ganeti 4.0 does
    not tell the role to OS scripts yet, so storage.data_disks() looks once more.
    """
    text = env.get("DISK_COUNT", "")
    if not _is_number(text, 4) or not int(text):
        raise _no_number(text)
    indices = [index for index in range(int(text)) if env.get(f"DISK_{index}_ROLE", "data") in {"", "data"}]
    if not 1 <= len(indices) <= MAX_DISKS:
        raise _no_number(text)
    disks = tuple(_instance_disk(index, env) for index in indices)
    if disks[0].access != "rw":
        raise RequestError(f"DISK_{indices[0]}_ACCESS: the first disk is read-only; attach it read-write")
    return disks


def _instance_disk(index: int, env: Mapping[str, str]) -> InstanceDisk:
    access = env.get(f"DISK_{index}_ACCESS") or "rw"
    if access not in {"rw", "ro"}:
        raise RequestError(f"DISK_{index}_ACCESS: {access[:20]!r} is neither rw nor ro; Ganeti sets it")
    name = f"DISK_{index}_PATH"
    disk = _disk(name, env.get(name, ""), f"DISK_{index}_URI", env)
    return InstanceDisk(disk.path, "rw" if access == "rw" else "ro", disk.uri, disk.variable)


def _disk(name: str, path: str, variable: str, env: Mapping[str, str]) -> InstanceDisk:
    """Raises RequestError unless there is a path or, checked at once, a URI in its place."""
    uri = env.get(variable, "")
    if path.startswith("/") and "\0" not in path:
        return InstanceDisk(Path(path), uri=uri, variable=variable)
    if not uri:
        found = repr(path[:80]) if path else "nothing"
        raise RequestError(f"{name}: {found} is no path, and {variable} is not set; activate the instance's disks")
    parse_uri(uri, variable)
    return InstanceDisk(None, uri=uri, variable=variable)


def _is_number(text: str, digits: int) -> bool:
    return bool(re.fullmatch(f"[0-9]{{1,{digits}}}", text))


def _no_number(text: str) -> RequestError:
    return RequestError(
        f"DISK_COUNT: {text[:20]!r} is not a number from 1 to {MAX_DISKS} of disks with data; "
        "add a disk to the instance, or deploy it with fewer"
    )
