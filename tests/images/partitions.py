# SPDX-License-Identifier: GPL-2.0-or-later
"""Partition tables as a test wants them: numbers, sectors and types said outright, nothing left to a tool's taste."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from snf_image_shared.process import run

SECTOR = 512
MIB = 1024 * 1024
SECTORS_PER_MIB = MIB // SECTOR
# The backup header of a GPT and its 128 entries take the last 33 sectors.
GPT_TAIL = 33


class TableType(StrEnum):
    """Partition table types by sfdisk's names; NONE is a disk without one."""

    GPT = "gpt"
    MBR = "dos"
    NONE = ""


class Type(StrEnum):
    """Partition types as sfdisk(8) takes them: a GUID for GPT, a hexadecimal byte for MBR."""

    BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
    ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
    LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
    LINUX_ROOT = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
    LINUX_LVM = "E6D6D379-F507-44C2-A23C-238F2A3DF928"
    MBR_LINUX = "83"
    MBR_LVM = "8e"
    MBR_EXTENDED = "5"


@dataclass(frozen=True)
class Partition:
    """`start` and `size` in sectors of 512 bytes; `uuid` and `name` only exist on GPT."""

    number: int
    start: int
    size: int
    type: Type
    uuid: str = ""
    name: str = ""
    bootable: bool = False

    @property
    def offset(self) -> int:
        """Bytes from the start of the disk."""
        return self.start * SECTOR

    @property
    def length(self) -> int:
        """Bytes."""
        return self.size * SECTOR


@dataclass(frozen=True)
class Table:
    """`identity` is the disk GUID, or the 32-bit signature of an MBR as `0x…`; `mib` is the size of the disk."""

    type: TableType
    identity: str
    mib: int
    partitions: tuple[Partition, ...]

    def partition(self, number: int) -> Partition:
        """Raises StopIteration when there is none of that number."""
        return next(partition for partition in self.partitions if partition.number == number)

    def script(self) -> str:
        """Give the input of sfdisk(8) that makes this table."""
        lines = [f"label: {self.type}", f"label-id: {self.identity}", "unit: sectors", ""]
        lines += [_line(partition) for partition in self.partitions]
        return "\n".join(lines) + "\n"


def create_disk(disk: Path, table: Table) -> None:
    """Make `disk` a new sparse file with this table on it."""
    with disk.open("xb") as file:
        file.truncate(table.mib * MIB)
    if table.type is not TableType.NONE:
        run(["sfdisk", "--quiet", str(disk)], stdin=table.script().encode())


def last_size(table_type: TableType, mib: int, start: int) -> int:
    """Give the sectors from `start` to the last whole MiB of a disk of `mib` MiB that a partition may use."""
    sectors = mib * SECTORS_PER_MIB
    usable = sectors - GPT_TAIL if table_type is TableType.GPT else sectors
    return usable // SECTORS_PER_MIB * SECTORS_PER_MIB - start


def _line(partition: Partition) -> str:
    fields = [f"start={partition.start}", f"size={partition.size}", f"type={partition.type}"]
    if partition.uuid:
        fields.append(f"uuid={partition.uuid}")
    if partition.name:
        fields.append(f'name="{partition.name}"')
    if partition.bootable:
        fields.append("bootable")
    return f"{partition.number} : {', '.join(fields)}"
