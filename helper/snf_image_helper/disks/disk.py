# SPDX-License-Identifier: GPL-2.0-or-later
"""The instance's disks as the helper VM sees them: found by serial number, never by the order of their names.

The kernel is told the partitions of the table that was read and checked here, so that nobody works on others.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper.disks import disklabel
from snf_image_helper.disks.disklabel import Labelled, Slice
from snf_image_helper.disks.filesystems import probe
from snf_image_helper.disks.partitions import Partition, PartitionTable, TableKind, check, parse_sfdisk
from snf_image_helper.system import WHOLE_DISK, System, UnknownGuestError
from snf_image_shared.errors import GuestError
from snf_image_shared.process import Limits, ProcessError, run

_PATIENCE = 10.0  # seconds until every disk has appeared
_NO_TABLE = "does not contain a recognized partition table"
_SERIAL_LENGTH = 20  # bytes of a serial number that virtio-blk carries

# linux/fs.h and linux/blkpg.h
_BLKGETSIZE64 = 0x80081272
_BLKSSZGET = 0x1268
_BLKPG = 0x1269
_ADD, _DELETE, _RESIZE = 1, 2, 3
_SECTOR = 512  # sysfs counts in these whatever the disk does
_LABEL_SECTORS = (disklabel.LABEL_OFFSET + disklabel.LONGEST) // disklabel.SECTOR
_CONTAINER = 1024  # bytes, if not a sector: the kernel's node of an extended partition, so that nobody writes into it


@dataclass(frozen=True)
class Place:
    """Where something can lie: a partition, or a whole disk, whose number is WHOLE_DISK and `partition` is None.

    A `slice` of a BSD's disklabel has as `partition` nothing but its number and its extent.
    """

    number: int
    device: str
    partition: Partition | None = None
    slice: Slice | None = None

    @property
    def name(self) -> str:
        """What it is called in a message."""
        if self.slice:
            return f"partition {self.number} ({self.slice.letter} of the disklabel)"
        return f"partition {self.number}" if self.partition else "the disk"


class Disk:
    """The disk that carries the image, and the instance's other disks behind it.

    `device` is the first, `devices` are all of them; `sectors` counts sectors of `sector_size` bytes. `system` is what
    was found on the first, once somebody has looked.
    """

    def __init__(self, devices: tuple[str, ...]) -> None:
        self.system: System | None = None
        self.devices = devices
        self.device = devices[0]
        self.sector_size, size = _geometry(self.device)
        self.sectors = size // self.sector_size
        self._table: PartitionTable | None = None
        self._table_read = False
        self._labels: tuple[Labelled, ...] | None = None

    @classmethod
    def open(cls, serials: tuple[str, ...]) -> Disk:
        """Find the disks by their virtio serial numbers, the image's first. Raises GuestError when one is missing."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            found = _serial_numbers()
            missing = [serial for serial in serials if serial[:_SERIAL_LENGTH] not in found]
            if not missing and serials:
                return cls(tuple(found[serial[:_SERIAL_LENGTH]] for serial in serials))
            if time.monotonic() > deadline or not serials:
                raise GuestError(
                    f"the helper VM has no disk with serial number {', '.join(missing) or '(none given)'}; "
                    "see the QEMU command in the log"
                )
            time.sleep(0.05)

    @property
    def table(self) -> PartitionTable | None:
        """The partition table, read once until reload(); None when there is none.

        Raises GuestError for a table of another kind and for one that sfdisk refuses.
        """
        if not self._table_read:
            self._table = _read_table(self.device)
            self._table_read = True
        return self._table

    def require_table(self) -> PartitionTable:
        """The partition table. Raises GuestError, saying what was found instead, or what makes the table impossible."""
        table = self.table
        if table is None:
            found = probe([self.device]).get(self.device)
            what = f"the image is a bare {found.type}" if found and found.type else "nothing was recognised on the disk"
            raise UnknownGuestError(
                f"no partition table; {what}. Publish the image with an msdos or GPT table, "
                "or set the property EXCLUDE_ALL_TASKS=yes to deliver it as it is"
            )
        _refuse_ambiguous(self.device, table, self.sector_size)
        check(table, self.sectors)
        return table

    def places(self) -> tuple[Place, ...]:
        """Where file systems can lie: the partitions but for a container, or the whole disk when it has no table.

        A partition with a disklabel is one, its slices take its place. They are numbered as the kernel does in an msdos
        table, and in a GPT by the same rule, where the kernel sees none: from 5 upward, or from the number after the
        highest of the table. Raises GuestError as require_table() and labels do for what cannot be.
        """
        if self.table is None:
            return (Place(WHOLE_DISK, self.device),)
        table = self.require_table()
        slices = {number: item for found in self.labels for number, item in found.slices.items()}
        labelled = {found.parent.number for found in self.labels}
        found = {
            item.number: Place(item.number, self.node(item.number), item)
            for item in table.partitions
            if not item.is_extended and item.number not in labelled
        }
        found |= {
            number: Place(number, self.node(number), Partition(number, item.start, item.size, ""), item)
            for number, item in slices.items()
        }
        return tuple(found[number] for number in sorted(found))

    @property
    def labels(self) -> tuple[Labelled, ...]:
        """The BSD disklabels in the partitions, read once until reload(). Raises GuestError for one that cannot be."""
        if self._labels is None:
            self._labels = self._read_labels()
        return self._labels

    def partition_device(self, number: int) -> str:
        """The device node of a partition. Raises GuestError when the table has no such partition."""
        if number == WHOLE_DISK and self.table is None:
            return self.device
        if self.require_table().partition(number) is None and self.place(number) is None:
            raise GuestError(f"there is no partition {number} on the image's disk (there are {self.numbers})")
        return self.node(number)

    def place(self, number: int) -> Place | None:
        """The place of that number, if there is one. Raises GuestError as places() does."""
        return next((item for item in self.places() if item.number == number), None)

    @property
    def numbers(self) -> str:
        """The numbers of the places for a message, "1, 2, 5". Raises GuestError as places() does."""
        return ", ".join(str(item.number) for item in self.places()) or "none"

    def node(self, number: int) -> str:
        """What the kernel calls a partition of that number, whether there is one or not."""
        return f"{self.device}p{number}" if self.device[-1].isdigit() else f"{self.device}{number}"

    def reload(self) -> PartitionTable | None:
        """Read the table anew and tell the kernel of every partition that differs from what it knows.

        The answer is None when there is no table. Raises GuestError as require_table() does for one that cannot be.
        """
        self._table_read = False
        self._labels = None
        table = None if self.table is None else self.require_table()
        places = [place.partition for place in self.places() if place.partition]
        containers = [item for item in table.partitions if item.is_extended] if table else []
        partitions = (*containers, *places)
        _tell_kernel(self.device, self.sector_size, partitions)
        for partition in partitions:
            _wait_for(self.node(partition.number))
        return table

    def _read_labels(self) -> tuple[Labelled, ...]:
        table = self.table
        if table is None or self.sector_size != disklabel.SECTOR:
            return ()
        found = []
        number = disklabel.first_number(tuple(item.number for item in table.partitions))
        with Path(self.device).open("rb") as file:
            for parent in table.partitions:
                file.seek(parent.start * self.sector_size + disklabel.LABEL_OFFSET)
                raw = file.read(disklabel.LONGEST) if _may_have_label(table, parent) else b""
                if disklabel.has_label(raw):
                    label = disklabel.parse(raw, parent)
                    disklabel.check(label, parent)
                    slices, number = disklabel.numbered(label, parent, number)
                    found.append(Labelled(parent, label, slices))
        return tuple(found)


def _serial_numbers() -> dict[str, str]:
    found = {}
    for entry in Path("/sys/block").iterdir():
        # The serial number of virtio-blk stands beside the queue, that of SCSI and NVMe would stand below device/.
        for place in (entry / "serial", entry / "device" / "serial"):
            if place.exists():
                found[place.read_text(encoding="ascii", errors="replace").strip()] = f"/dev/{entry.name}"
                break
    return found


def _geometry(device: str) -> tuple[int, int]:
    """Sector size and size, both in bytes."""
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not stat.S_ISBLK(os.fstat(descriptor).st_mode):
                raise GuestError(f"{device} is not a block device")
            sector_size = struct.unpack("i", fcntl.ioctl(descriptor, _BLKSSZGET, bytes(4)))[0]
            return sector_size, struct.unpack("Q", fcntl.ioctl(descriptor, _BLKGETSIZE64, bytes(8)))[0]
        finally:
            os.close(descriptor)
    except OSError as error:
        raise GuestError(f"{device}: {error.strerror}; the instance's disk cannot be read") from error


def _read_table(device: str) -> PartitionTable | None:
    if _starts_with_code(device) and probe([device])[device].type:
        return None
    done = run(["sfdisk", "--json", device], limits=Limits(accept=frozenset({0, 1})))
    if done.status == 0:
        table = parse_sfdisk(done.stdout)
        # A file system with boot code in its first sector has the signature of an MBR there, and no partition.
        bare = table.kind is TableKind.DOS and not table.partitions and probe([device])[device].type
        return None if bare else table
    if _NO_TABLE in done.stderr:
        return None
    raise ProcessError("sfdisk", f"failed with status {done.status}", done.stderr)


def _starts_with_code(device: str) -> bool:
    """Whether the first sector is a boot sector of a file system, as extlinux writes them for Alpine's images.

    Its code goes on where an MBR has its table, and sfdisk takes it for one; the kernel looks at the four flags before
    (block/partitions/msdos.c).
    """
    with Path(device).open("rb") as file:
        head = file.read(_SECTOR)
    flags = head[446:510:16]
    return head[510:] == b"\x55\xaa" and any(flag & 0x7F for flag in flags)


def _refuse_ambiguous(device: str, table: PartitionTable, sector_size: int) -> None:
    """Refuse a disk on which firmware, kernel and tools may each see another table. Raises GuestError."""
    with Path(device).open("rb") as file:
        head = file.read(2 * sector_size)
    kinds = [head[446 + 16 * number + 4] for number in range(4)]
    protective, others = 0xEE in kinds, any(kind not in {0, 0xEE} for kind in kinds)
    old_gpt = table.kind is TableKind.DOS and head[sector_size : sector_size + 8] == b"EFI PART"
    if others and (protective or old_gpt):
        raise GuestError(
            f"the image has both an msdos and a GPT partition table (sfdisk reads the {table.kind} one); "
            "remove one of them: sgdisk --zap leaves the msdos one, a new protective MBR (gdisk, x, n) the GPT"
        )
    if protective and table.kind is TableKind.DOS:
        raise GuestError(
            f"the disk has a protective MBR and no valid GPT for its sectors of {sector_size} bytes; "
            "the image was made for another sector size, or its GPT is damaged (sgdisk --verify)"
        )


def _may_have_label(table: PartitionTable, partition: Partition) -> bool:
    """As block/partitions/msdos.c, whose second pass goes over the primary partitions alone."""
    return partition.type in disklabel.PARENTS and not table.is_logical(partition) and partition.size > _LABEL_SECTORS


@dataclass(frozen=True)
class _Extent:
    """Where a partition lies, in bytes."""

    start: int
    length: int


def _tell_kernel(device: str, sector_size: int, partitions: tuple[Partition, ...]) -> None:
    """Make the kernel's partitions those of the table, with slices in place of the partition that they lie in.

    Not BLKRRPART: it fails as soon as one partition is in use, and lets the kernel's own parsers find nested tables,
    that overlap with the partition around them, which BLKPG does not allow.
    """
    wanted = {
        item.number: _Extent(
            item.start * sector_size,
            max(_CONTAINER, sector_size) if item.is_extended else item.size * sector_size,
        )
        for item in partitions
    }
    known = _known_partitions(device)
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for number, extent in known.items():
            if number not in wanted or wanted[number].start != extent.start:
                _block_partition(descriptor, _DELETE, number, extent)
                known = {other: there for other, there in known.items() if other != number}
        for number, extent in wanted.items():
            if number not in known:
                _block_partition(descriptor, _ADD, number, extent)
            elif known[number] != extent:
                _block_partition(descriptor, _RESIZE, number, extent)
    except OSError as error:
        raise GuestError(f"{device}: the kernel refuses the new partitions ({error.strerror})") from error
    finally:
        os.close(descriptor)


def _known_partitions(device: str) -> dict[int, _Extent]:
    known = {}
    for entry in Path("/sys/block", Path(device).resolve().name).glob("*/partition"):
        start, length = (int((entry.parent / name).read_text()) * _SECTOR for name in ("start", "size"))
        known[int(entry.read_text())] = _Extent(start, length)
    return known


def _block_partition(descriptor: int, operation: int, number: int, extent: _Extent) -> None:
    partition = ctypes.create_string_buffer(struct.pack("qqi64s64s", extent.start, extent.length, number, b"", b""))
    address = ctypes.addressof(partition)
    fcntl.ioctl(descriptor, _BLKPG, struct.pack("iiiP", operation, 0, len(partition), address))


def _wait_for(node: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not Path(node).is_block_device():
        if time.monotonic() > deadline:
            raise GuestError(f"{node} did not appear within {_PATIENCE:g} seconds")
        time.sleep(0.02)
