# SPDX-License-Identifier: GPL-2.0-or-later
"""A small partition with a NoCloud seed at the end of the disk, which cloud-init finds by its label.

Nothing of the guest is mounted or read: it may be encrypted, or of a kind that nobody knows. The seed's file system is
made in memory and written as a whole.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path

from snf_image_helper.cloud_init.documents import LABEL
from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import probe
from snf_image_helper.disks.partition_writing import append
from snf_image_helper.disks.partitions import MAX_GPT_NUMBER, MIB, Partition, PartitionTable, TableKind
from snf_image_helper.files.scratch import scratch_directory
from snf_image_shared.errors import GuestError
from snf_image_shared.process import run

_DATE = "946684800"  # of the files: FAT has no 1970
_SMALLEST = 4  # MiB
_DOS_SECTORS = 1 << 32
# "Microsoft basic data" and FAT32 (LBA): libfdisk's types for a file system of this kind.
_TYPES = {TableKind.GPT: "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", TableKind.DOS: "c"}


def put_seed(disk: Disk, documents: Mapping[str, bytes]) -> None:
    """Have these documents in the seed's partition, the one that is there or a new one.

    Raises GuestError when there is no room for one, and for a disk without partition table.
    """
    size = needed(documents)
    disk.require_table()
    disk.reload()
    partition = _existing(disk)
    if partition is None:
        partition = placed(disk.require_table(), disk.sectors, size)
        append(disk, partition)
        disk.reload()
    elif partition.size * disk.sector_size < size * MIB:
        raise GuestError(
            f"partition {partition.number} ({LABEL}) is too small for the seed of cloud-init, which needs {size} MiB; "
            "remove it from the image"
        )
    new = file_system(documents, size, disk.sector_size)
    with Path(disk.partition_device(partition.number)).open("r+b") as device:
        device.write(new)
        os.fsync(device.fileno())


def file_system(documents: Mapping[str, bytes], mib: int, sector_size: int) -> bytes:
    """A FAT file system with these files, the same whenever it is made. Raises ProcessError."""
    with scratch_directory() as directory:
        image = directory / "image"
        serial = f"{zlib.crc32(b''.join(documents.values())):08x}"
        label = ("--invariant", "-i", serial, "-n", LABEL)
        run(["mkfs.vfat", *label, "-S", str(sector_size), "-C", str(image), str(mib << 10)])
        for name, content in documents.items():
            (directory / name).write_bytes(content)
        files = [str(directory / name) for name in documents]
        run(["mcopy", "-i", str(image), *files, "::/"], env={"SOURCE_DATE_EPOCH": _DATE})
        return image.read_bytes()


def needed(documents: Mapping[str, bytes]) -> int:
    """MiB of a partition with room for these documents, and for the file system's own."""
    total = sum(map(len, documents.values()))
    return max(_SMALLEST, 2 + (total + total // 16) // MIB + 1)


def placed(table: PartitionTable, total: int, mib: int) -> Partition:
    """A partition of `mib` MiB at the end of a disk of `total` sectors; the last MiB of the disk stays free.

    Raises GuestError when no number is free, or no room behind the last partition.
    """
    unit = MIB // table.sector_size
    usable = min(total, _DOS_SECTORS) if table.kind is TableKind.DOS else total
    end = (usable // unit - 1) * unit - 1
    start = end + 1 - mib * unit
    occupied = max((item.end for item in table.partitions), default=unit - 1)
    if start <= occupied:
        raise GuestError(
            f"the seed's partition needs {mib + 1} MiB behind the last partition and there are "
            f"{max(0, total - 1 - occupied) // unit} MiB; give the instance a larger disk"
        )
    taken = {item.number for item in table.partitions}
    numbers = range(1, (MAX_GPT_NUMBER if table.kind is TableKind.GPT else 4) + 1)
    number = next((number for number in numbers if number not in taken), None)
    if number is None:
        raise GuestError("the partition table has no free entry for the seed's partition")
    return Partition(number, start, end + 1 - start, _TYPES[table.kind])


def _existing(disk: Disk) -> Partition | None:
    partitions = [item for item in disk.require_table().partitions if not item.is_extended]
    found = probe([disk.partition_device(item.number) for item in partitions])
    for item in partitions:
        system = found[disk.partition_device(item.number)]
        if system.type == "vfat" and system.label.lower() == LABEL:
            return item
    return None
