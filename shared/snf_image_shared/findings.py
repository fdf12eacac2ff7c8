# SPDX-License-Identifier: GPL-2.0-or-later
"""What the helper finds in an image that it may only read. Sizes and places are bytes; "" and null are "not found".

All of it is a tenant's word. The host shows it to a person after it has cut and cleaned it, and decides nothing from it
but the exit code. The descriptions are those of the published schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from snf_image_shared import codec

LARGEST = 64 << 10  # bytes of all findings as they are sent
_LONGEST = 200  # characters of one text


def _says(text: str) -> Mapping[str, str]:
    return {"description": text}


@dataclass(frozen=True)
class FoundFileSystem:
    """What lies on a partition, or on a disk without any."""

    type: str = field(
        default="", metadata=_says("As blkid names it: ext4, xfs, swap, crypto_LUKS; empty: nothing known")
    )
    label: str = field(default="", metadata=_says("Its label"))
    uuid: str = field(default="", metadata=_says("Its UUID"))
    size: int | None = field(default=None, metadata=_says("Bytes that it has for files; null: it was not mounted"))
    used: int | None = field(default=None, metadata=_says("Bytes of these that are in use"))
    free: int | None = field(default=None, metadata=_says("Bytes of these that are free"))


@dataclass(frozen=True)
class FoundPartition:
    """One partition."""

    number: int = field(
        metadata=_says("Its number in the table; of one in a BSD's disklabel, as ROOT_PARTITION means it")
    )
    start: int = field(metadata=_says("Where it begins, in bytes"))
    size: int = field(metadata=_says("Its size in bytes"))
    type: str = field(
        metadata=_says("Its type: a GUID of a GPT, the hexadecimal number of an MBR, the kind in a disklabel")
    )
    role: str = field(default="", metadata=_says("What the type means, if it is known"))
    name: str = field(default="", metadata=_says("Its name in a GPT, its letter in a disklabel"))
    uuid: str = field(default="", metadata=_says("Its PARTUUID"))
    attributes: str = field(default="", metadata=_says("Attributes of a GPT, as sfdisk names them"))
    is_bootable: bool = field(default=False, metadata=_says("Whether an MBR calls it active"))
    content: FoundFileSystem = field(default_factory=FoundFileSystem, metadata=_says("What lies on it"))


@dataclass(frozen=True)
class FoundTable:
    """The partition table."""

    kind: str = field(metadata=_says("gpt, or mbr"))
    id: str = field(default="", metadata=_says("The disk's GUID, or the signature of an MBR"))
    partitions: tuple[FoundPartition, ...] = field(default=(), metadata=_says("By their numbers"))


@dataclass(frozen=True)
class FoundVolume:
    """One logical volume of LVM."""

    name: str = field(metadata=_says("GROUP/NAME"))
    layout: str = field(default="", metadata=_says("As lvs names it: linear, striped, thin,sparse, raid,raid1"))
    content: FoundFileSystem = field(
        default_factory=FoundFileSystem, metadata=_says("What lies on it, if it is linear or striped")
    )


@dataclass(frozen=True)
class FoundBoot:
    """How the disk can boot, as far as its bytes tell: nothing was started."""

    bios: bool = field(default=False, metadata=_says("Whether there is boot code in the first sector"))
    boot_code: str = field(default="", metadata=_says("Whose it is: GRUB, SYSLINUX, LILO, Windows; empty: not known"))
    uefi: bool = field(
        default=False, metadata=_says("Whether an EFI system partition has a loader where firmware looks")
    )
    loaders: tuple[str, ...] = field(default=(), metadata=_says("All loaders on the EFI system partitions"))


@dataclass(frozen=True)
class FoundSystem:
    """The operating system on the disk."""

    family: str = field(metadata=_says("As the property OSFAMILY: linux, windows, freebsd"))
    root_partition: int = field(metadata=_says("As the property ROOT_PARTITION; 0: the whole disk"))
    volume: str = field(default="", metadata=_says("GROUP/NAME of its logical volume on that partition; empty: none"))
    name: str = field(default="", metadata=_says("What it calls itself: Debian GNU/Linux 13 (trixie)"))
    distribution: str = field(default="", metadata=_says("ID of its os-release; a BSD's family"))
    release: str = field(default="", metadata=_says("VERSION_ID of its os-release; a BSD's, as uname -r"))
    distribution_family: str = field(default="", metadata=_says("debian, redhat, suse: whose ways it follows"))
    architecture: str = field(default="", metadata=_says("Of its programs, as uname -m: x86_64, aarch64"))
    kernels: tuple[str, ...] = field(default=(), metadata=_says("Releases of the kernels that have modules"))
    init: str = field(default="", metadata=_says("systemd, openrc, sysvinit, busybox, upstart, runit, a BSD's rc"))
    network: str = field(default="", metadata=_says("For which network software ConfigureNetwork would write"))
    network_backend: str = field(default="", metadata=_says("What netplan configures"))
    cloud_init: str = field(default="", metadata=_says("Version of its cloud-init, or 'unknown version'"))
    selinux: str = field(default="", metadata=_says("enforcing, permissive, disabled; empty: it has no SELinux"))
    boot_loader: str = field(default="", metadata=_says("Whose configuration it has: grub, systemd-boot, extlinux"))
    root_device: str = field(default="", metadata=_says("The name of the root in its fstab: UUID=..., /dev/sda1"))
    edition: str = field(default="", metadata=_says("Edition of a Windows: ServerStandard, Professional"))
    setup_state: str = field(
        default="", metadata=_says("What sysprep made of a Windows: IMAGE_STATE_COMPLETE, mini-setup")
    )


class Outcome(StrEnum):
    """What becomes of a task: it runs, does not apply, was turned off, or a program of the image replaces it."""

    RUNS = "runs"
    SKIPPED = "skipped"
    EXCLUDED = "excluded"
    OVERRIDDEN = "overridden"


@dataclass(frozen=True)
class PlannedTask:
    """A task of a deployment."""

    name: str = field(metadata=_says("The task"))
    outcome: Outcome = field(metadata=_says("What becomes of it"))
    reason: str = field(default="", metadata=_says("Why, or what is only decided when it runs"))


@dataclass(frozen=True)
class Plan:
    """What a deployment with the given OS parameters would do."""

    tasks: tuple[PlannedTask, ...] = field(default=(), metadata=_says("In the order in which they run"))
    refusal: str = field(default="", metadata=_says("Why it would fail, as far as that is known now"))


@dataclass(frozen=True)
class Findings:
    """All that was found."""

    size: int = field(metadata=_says("Bytes of the disk"))
    sector_size: int = field(metadata=_says("Bytes of a sector that the table was read with"))
    table: FoundTable | None = field(default=None, metadata=_says("The partition table; null: none was found"))
    content: FoundFileSystem = field(
        default_factory=FoundFileSystem, metadata=_says("What lies on a disk without a partition table")
    )
    boot: FoundBoot = field(default_factory=FoundBoot, metadata=_says("How the disk can boot"))
    system: FoundSystem | None = field(default=None, metadata=_says("The operating system; null: none was found"))
    problems: tuple[str, ...] = field(default=(), metadata=_says("What could not be found, and why"))
    plan: Plan | None = field(default=None, metadata=_says("What a deployment would do; null: nobody asked"))
    volumes: tuple[FoundVolume, ...] = field(default=(), metadata=_says("Logical volumes of LVM"))

    def dump(self) -> bytes:
        """At most LARGEST bytes of ASCII: what is too much is left out from the end, and said."""
        found = self
        while len(text := codec.dump(found)) > LARGEST:
            found = _less(found)
        return text


def shortened(text: str) -> str:
    """A text of the guest's, cut to what a person reads."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _less(found: Findings) -> Findings:
    """The same with half of what there is most of."""
    table = found.table
    if len(found.volumes) > max(len(found.problems), len(table.partitions) if table else 0):
        kept_volumes = found.volumes[: len(found.volumes) // 2]
        count = len(found.volumes)
        said = f"there are {count} logical volumes: those after the first {len(kept_volumes)} are not shown"
        return replace(found, volumes=kept_volumes, problems=(said, *found.problems))
    if table and len(table.partitions) >= len(found.problems):
        kept = table.partitions[: len(table.partitions) // 2]
        said = f"there are {len(table.partitions)} partitions: those after the first {len(kept)} are not shown"
        return replace(found, table=replace(table, partitions=kept), problems=(said, *found.problems))
    return replace(found, problems=found.problems[: len(found.problems) // 2])
