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
ESP_SIZE = 260  # MiB: FAT32 has 65525 clusters at least, of 4096 bytes each where sectors are so large


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

    `esp` (MiB) is the size of the EFI system partition, which only UEFI has. `has_loader` is whether the guest starts
    itself; where the hypervisor brings the kernel nothing is installed. `conservative` makes file systems that the
    kernels and boot loaders of old guests read.
    """

    table: TableType = TableType.MSDOS
    boot_mode: BootMode = BootMode.BIOS
    filesystem: str = "ext4"
    boot: int = 0
    swap: int = 0
    esp: int = ESP_SIZE
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
    """The administrator's programs that change the guest: `names` of those that run, in order, each in `directory`.

    The archive is a tar of files of the node under the names they have there: that directory, and what else hooks look
    for. `settings` are what they find after sourcing common.sh, `environment` is Ganeti's, `timeout` is in seconds and
    for each. `overlay` is where on the node the job's overlay lies, "" for nowhere.
    """

    archive: Input
    directory: str
    names: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 600.0
    overlay: str = ""


@dataclass(frozen=True)
class CloudConfig:
    """What instance-image's hook cloud-init told the guest's cloud-init: its user and name servers."""

    user: str = ""
    ssh_key: str = ""
    disable_root: bool = False
    ssh_pwauth: bool = False
    manage_resolv_conf: bool = False
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
