# SPDX-License-Identifier: GPL-2.0-or-later
"""A small partition with a NoCloud seed at the end of the disk, which cloud-init finds by its label.

Nothing of the guest is mounted or read: it may be encrypted, or of a kind that nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from snf_image_helper.cloud_init_documents import LABEL
from snf_image_helper.disk import Disk
from snf_image_helper.filesystems import mount, probe, unmount
from snf_image_helper.partition_writing import append, move_backup
from snf_image_helper.partitions import MAX_GPT_NUMBER, MIB, Partition, PartitionTable, TableKind
from snf_image_shared.errors import GuestError
from snf_image_shared.process import run

_MOUNTED_AT = "/run/snf-image/seed"
_SMALLEST = 4  # MiB
_DOS_SECTORS = 1 << 32
# "Microsoft basic data" and FAT32 (LBA): libfdisk's types for a file system of this kind.
_TYPES = {TableKind.GPT: "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", TableKind.DOS: "c"}


def put_seed(disk: Disk, documents: Mapping[str, bytes]) -> None:
    """Have these documents in the seed's partition, the one that is there or a new one.

    Raises GuestError when there is no room for one, and for a disk without partition table.
    """
    size = needed(documents)
    partition = _existing(disk)
    if partition is None:
        partition = placed(disk.require_table(), disk.sectors, size)
        move_backup(disk)
        append(disk, partition)
        disk.reload()
    elif partition.size * disk.sector_size < size * MIB:
        raise GuestError(
            f"partition {partition.number} ({LABEL}) is too small for the seed of cloud-init, which needs {size} MiB; "
            "remove it from the image"
        )
    device = disk.partition_device(partition.number)
    if not _holds(device, documents):
        run(["mkfs.vfat", "-n", LABEL, device])
        with _mounted(device) as place:
            for name, content in documents.items():
                (place / name).write_bytes(content)


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
            f"CLOUD_INIT_SEED=partition needs {mib + 1} MiB behind the last partition and there are "
            f"{max(0, total - 1 - occupied) // unit} MiB; give the instance a larger disk"
        )
    taken = {item.number for item in table.partitions}
    numbers = range(1, (MAX_GPT_NUMBER if table.kind is TableKind.GPT else 4) + 1)
    number = next((number for number in numbers if number not in taken), None)
    if number is None:
        raise GuestError("CLOUD_INIT_SEED=partition: the partition table has no free entry for the seed's partition")
    return Partition(number, start, end + 1 - start, _TYPES[table.kind])


def _existing(disk: Disk) -> Partition | None:
    partitions = [item for item in disk.require_table().partitions if not item.is_extended]
    found = probe([disk.partition_device(item.number) for item in partitions])
    for item in partitions:
        system = found[disk.partition_device(item.number)]
        if system.type == "vfat" and system.label.lower() == LABEL:
            return item
    return None


def _holds(device: str, documents: Mapping[str, bytes]) -> bool:
    """Whether there is a seed of just these documents. What else it may be is of any size, and is not read."""
    if probe([device])[device].type != "vfat":
        return False
    with _mounted(device) as place:
        sizes = {entry.name: entry.stat().st_size for entry in place.iterdir() if entry.is_file()}
        if sizes != {name: len(content) for name, content in documents.items()}:
            return False
        return all((place / name).read_bytes() == content for name, content in documents.items())


@contextmanager
def _mounted(device: str) -> Iterator[Path]:
    place = Path(_MOUNTED_AT)
    place.mkdir(parents=True, exist_ok=True)
    mount(device, _MOUNTED_AT, "vfat")
    try:
        yield place
    finally:
        unmount(_MOUNTED_AT)
