# SPDX-License-Identifier: GPL-2.0-or-later
"""What the helper makes of an empty disk when the image is no disk: a table, file systems, and the tree of an archive.

Source of the layouts: instance-image 0.7.3, whose numbers rename, export and old settings rely on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class TableType(StrEnum):
    """The values of PARTITION_TABLE."""

    MSDOS = "msdos"
    GPT = "gpt"


class BootMode(StrEnum):
    """The values of BOOT_MODE: which firmware starts the instance."""

    BIOS = "bios"
    UEFI = "uefi"


class Form(StrEnum):
    """What an image is that is no disk: a tar archive of the root, or a dump(8) of each file system."""

    TARBALL = "tarball"
    DUMP = "dump"


FILE_SYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs")


@dataclass(frozen=True)
class Input:
    """A file that the helper VM has as a read-only disk with this serial number; the first `length` bytes are it.

    `name` is for messages.
    """

    name: str
    serial: str
    length: int


@dataclass(frozen=True)
class Layout:
    """What the disk is divided into: the root takes what `boot` and `swap` (MiB, 0 for none) leave.

    `has_loader` is whether the guest starts itself; where the hypervisor brings the kernel nothing is installed.
    `conservative` makes file systems that the kernels and boot loaders of old guests read.
    """

    table: TableType = TableType.MSDOS
    boot_mode: BootMode = BootMode.BIOS
    filesystem: str = "ext4"
    boot: int = 0
    swap: int = 0
    has_loader: bool = True
    conservative: bool = True


@dataclass(frozen=True)
class Deployment:
    """How a disk is filled by the helper: divided and unpacked onto. `boot` is the dump of /boot, if there is one.

    Without a `root` it is filled from the stream.
    """

    form: Form
    layout: Layout
    root: Input | None = None
    boot: Input | None = None


@dataclass(frozen=True)
class Hooks:
    """The administrator's hooks: a tar archive of their directory, the names of those that run, in order.

    `settings` are what hooks find after sourcing common.sh; `environment` is Ganeti's.
    """

    archive: Input
    names: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
