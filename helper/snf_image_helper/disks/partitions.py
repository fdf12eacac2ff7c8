# SPDX-License-Identifier: GPL-2.0-or-later
"""The arithmetic of partition tables: what a table says, whether it can be true, and how it fills a larger disk.

Pure: nothing here reads or writes a disk. Numbers are sectors of the table's own sector size unless a name says MiB.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise

from snf_image_helper.system import UnknownGuestError
from snf_image_shared.errors import GuestError

MIB = 1 << 20
MAX_GPT_NUMBER = 128
# libfdisk stops reading an msdos chain here, and would drop the rest when it writes.
MAX_DOS_NUMBER = 60
_DOS_SECTORS = 1 << 32
_DOS_EXTENDED = frozenset({"5", "f", "85"})
_DOS_SWAP = "82"
_GPT_SWAP = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
_GPT_FIRST = 3  # protective MBR, header, at least one sector of entries

# Windows has the volumes in a database behind the last partition, where the disk of the image ended.
DYNAMIC = "Windows dynamic disk"
# Partitions that firmware, boot loader or another system expects as they are. Types: libfdisk, systemd
# "Discoverable Partitions Specification", Microsoft "PARTITION_INFORMATION_GPT".
_FIXED = {
    "82": "swap",
    "ef": "EFI system",
    "27": "Windows recovery",
    "12": "recovery",
    "de": "recovery",
    "41": "PReP boot",
    "ee": "GPT protective",
    "42": DYNAMIC,
    _GPT_SWAP: "swap",
    "C12A7328-F81F-11D2-BA4B-00A0C93EC93B": "EFI system",
    "BC13C2FF-59E6-4262-A352-B275FD6F7172": "extended boot loader",
    "21686148-6449-6E6F-744E-656564454649": "BIOS boot",
    "9E1A2D38-C612-4316-AA26-8B49521E5A8B": "PReP boot",
    "E3C9E316-0B5C-4DB8-817D-F92DF00215AE": "Microsoft reserved",
    "DE94BBA4-06D1-4D40-A16A-BFD50179D6AC": "Windows recovery",
    "83BD6B9D-7F41-11DC-BE0B-001560B84F0F": "FreeBSD boot",
    "516E7CB5-6ECF-11D6-8FF8-00022D09712B": "FreeBSD swap",
    "49F48D32-B10E-11DC-B99B-0019D1879648": "NetBSD swap",
}


class TableKind(StrEnum):
    """The two kinds of table that are customised, as sfdisk names them."""

    DOS = "dos"
    GPT = "gpt"


@dataclass(frozen=True)
class Partition:
    """`type` is hex in lower case without leading zero, or a GUID in upper case; `uuid` is the PARTUUID or ""."""

    number: int
    start: int
    size: int
    type: str
    uuid: str = ""
    name: str = ""
    attributes: str = ""
    bootable: bool = False

    @property
    def end(self) -> int:
        """The last sector."""
        return self.start + self.size - 1

    @property
    def is_extended(self) -> bool:
        """It is the container of the logical partitions of an msdos table."""
        return self.type in _DOS_EXTENDED

    @property
    def fixed_role(self) -> str | None:
        """What it is for when it must never be grown, or None when it holds somebody's data."""
        return _FIXED.get(self.type)


@dataclass(frozen=True)
class PartitionTable:
    """Partitions in the order of their numbers. `identity` is the disk's GUID or signature."""

    kind: TableKind
    sector_size: int
    partitions: tuple[Partition, ...] = ()
    identity: str = field(default="", compare=False)

    def partition(self, number: int) -> Partition | None:
        """The partition of that number, if there is one."""
        return next((item for item in self.partitions if item.number == number), None)

    def is_logical(self, partition: Partition) -> bool:
        """It lies in the extended partition."""
        return self.kind is TableKind.DOS and partition.number > 4

    @property
    def extended(self) -> Partition | None:
        """The container of the logical partitions."""
        return next((item for item in self.partitions if item.is_extended), None)

    @property
    def numbers(self) -> str:
        """The numbers for a message, "1, 2, 5"."""
        return ", ".join(str(item.number) for item in self.partitions) or "none"


@dataclass(frozen=True)
class SwapPartition:
    """SWAP=<number>:<size>: a new partition at the end of the first disk."""

    number: int
    mib: int


@dataclass(frozen=True)
class SwapDisk:
    """SWAP=<letter>: the whole disk of that place in Ganeti's order; 1 is the second disk, letter b."""

    index: int


@dataclass(frozen=True)
class SwapFile:
    """SWAP=file:<size>: a file on the root file system."""

    mib: int


@dataclass(frozen=True)
class Change:
    """`resized` and `created` are in the order in which they must be written: a container before what lies in it."""

    resized: tuple[Partition, ...]
    created: tuple[Partition, ...]
    table: PartitionTable
    warnings: tuple[str, ...] = ()


def parse_sfdisk(text: str) -> PartitionTable:
    """Read what `sfdisk --json` prints. Raises GuestError for anything but an msdos or GPT table."""
    try:
        found = json.loads(text)["partitiontable"]
        label = str(found["label"])
        if label not in {"dos", "gpt"}:
            raise UnknownGuestError(f"the partition table is of kind {label}; only msdos and gpt can be customised")
        partitions = tuple(_partition(found, item) for item in found.get("partitions", ()))
        sector_size = int(found.get("sectorsize", 512))
        table = PartitionTable(TableKind(label), sector_size, partitions, str(found.get("id", "")))
    except (ValueError, KeyError, TypeError) as error:
        raise GuestError(f"the partition table cannot be understood ({error!r}); repair it with sfdisk") from error
    return replace(table, partitions=tuple(sorted(table.partitions, key=lambda item: item.number)))


def parse_swap(text: str) -> SwapPartition | SwapDisk | SwapFile:
    """Read the property SWAP: "2:512" (partition, MiB), "file:512" or a disk's letter. Raises GuestError."""
    if found := re.fullmatch(r"file:([1-9][0-9]{0,8})", text):
        return SwapFile(int(found[1]))
    found = re.fullmatch(r"([1-9][0-9]{0,2}):([1-9][0-9]{0,8})", text)
    if found:
        return SwapPartition(int(found[1]), int(found[2]))
    if re.fullmatch(r"[b-z]", text):
        return SwapDisk(ord(text) - ord("a"))
    if text == "a":
        raise GuestError("property SWAP: 'a' is the disk of the image itself; write b, c, … or <partition>:<MiB>")
    raise GuestError(
        f"property SWAP: {text[:40]!r} is neither <partition>:<MiB> (as in 2:512) nor file:<MiB> nor the letter of a "
        "disk (as in b)"
    )


def check(table: PartitionTable, total: int) -> None:
    """Refuse a table that cannot be true on a disk of `total` sectors. Raises GuestError."""
    numbers = [item.number for item in table.partitions]
    highest = max(numbers, default=0)
    if len(set(numbers)) != len(numbers) or (table.kind is TableKind.DOS and highest >= MAX_DOS_NUMBER):
        raise GuestError(f"the partition table has a looping or too long chain ({len(numbers)} partitions); repair it")
    first = _GPT_FIRST if table.kind is TableKind.GPT else 1
    for item in table.partitions:
        if item.start < first or item.size < 1 or item.end >= total:
            raise GuestError(
                f"partition {item.number} (sectors {item.start} to {item.end}) does not lie on the disk "
                f"(sectors {first} to {total - 1}); repair the image's partition table"
            )
    _check_overlaps(item for item in table.partitions if not table.is_logical(item))
    _check_logicals(table)


def growing(table: PartitionTable, swap: SwapPartition | None = None) -> Partition | None:
    """The partition that fills the disk: the physically last one, unless its type says that it must stay as it is.

    `swap` is the partition asked for by SWAP, which may already stand behind it.
    """
    last = _last(table, swap)
    if last is None or last.fixed_role or _container_behind(table, last, swap):
        return None
    return last


def grown(table: PartitionTable, total: int, swap: SwapPartition | None = None, stays: str = "") -> Change:
    """How `table` fills a disk of `total` sectors, with a swap partition at its end if one is asked for.

    `stays` says what the last partition holds when that forbids growing it, though its type would not. The last MiB
    of the disk stays free. Nothing ever shrinks or moves; a swap partition that a run before has made is left alone.
    Raises GuestError for a table that check() refuses and for a swap partition that has no room or no number.
    """
    check(table, total)
    warnings = []
    usable = total
    if table.kind is TableKind.DOS and total > _DOS_SECTORS:
        usable = _DOS_SECTORS
        limit = _DOS_SECTORS * table.sector_size >> 40
        warnings.append(f"an msdos partition table ends at {limit} TiB: the rest of the disk stays unused")
    mib = MIB // table.sector_size
    end = usable - mib - 1
    if swap and _is_made(table, swap):
        return Change((), (), table, (*warnings, *_why_not(table, end, stays)))
    created = _swap_partitions(table, swap, end) if swap else ()
    if created:
        end = created[-1].start - 1 - (mib if table.is_logical(created[-1]) else 0)
    last = None if stays else growing(table)
    if last is None:
        warnings += _why_not(table, end, stays)
    resized = _resized(table, last, end, created)
    intended = {item.number: item for item in (*table.partitions, *resized, *created)}
    change = Change(
        resized,
        created,
        replace(table, partitions=tuple(intended[number] for number in sorted(intended))),
        tuple(warnings),
    )
    check(change.table, total)
    return change


def differences(intended: PartitionTable, found: PartitionTable) -> tuple[str, ...]:
    """What a re-read table lacks; the PARTUUID of a partition just created is not compared. Empty when all is well."""
    problems = []
    for wanted in intended.partitions:
        there = found.partition(wanted.number)
        if there is None:
            problems.append(f"partition {wanted.number} is missing")
        elif (wanted if wanted.uuid else replace(wanted, uuid=there.uuid)) != there:
            problems.append(
                f"partition {wanted.number} is at sectors {there.start} to {there.end}, type {there.type}, "
                f"and should be at {wanted.start} to {wanted.end}, type {wanted.type}"
            )
    if len(found.partitions) > len(intended.partitions):
        problems.append("a partition appeared that nobody asked for")
    return tuple(problems)


def _partition(found: dict[str, object], item: dict[str, object]) -> Partition:
    device, node = str(found["device"]), str(item["node"])
    number = int(node.removeprefix(device).lstrip("p"))
    kind = str(item["type"])
    if found["label"] == "gpt":
        kind, uuid = kind.upper(), str(item.get("uuid", "")).lower()
    else:
        # The kernel's PARTUUID of an msdos partition: block/partitions/msdos.c.
        kind, uuid = f"{int(kind, 16):x}", f"{int(str(found.get('id', '0')), 16):08x}-{number:02x}"
    return Partition(
        number=number,
        start=int(str(item["start"])),
        size=int(str(item["size"])),
        type=kind,
        uuid=uuid,
        name=str(item.get("name", "")),
        attributes=str(item.get("attrs", "")),
        bootable=item.get("bootable") is True,
    )


def _check_overlaps(partitions: Iterable[Partition]) -> None:
    ordered = sorted(partitions, key=lambda item: item.start)
    for one, other in pairwise(ordered):
        if other.start <= one.end:
            raise GuestError(f"partitions {one.number} and {other.number} overlap; repair the image's partition table")


def _check_logicals(table: PartitionTable) -> None:
    containers = [item for item in table.partitions if item.is_extended]
    logicals = [item for item in table.partitions if table.is_logical(item)]
    if len(containers) > 1 or (logicals and not containers):
        raise GuestError(f"the table has {len(containers)} extended partitions; repair the image's partition table")
    for item in logicals:
        if item.start <= containers[0].start or item.end > containers[0].end:
            raise GuestError(
                f"logical partition {item.number} does not lie in extended partition {containers[0].number}; "
                "repair the image's partition table"
            )
    _check_overlaps(logicals)


def _last(table: PartitionTable, swap: SwapPartition | None) -> Partition | None:
    candidates = [item for item in table.partitions if not item.is_extended]
    if swap is not None:
        candidates = [item for item in candidates if item.number != swap.number]
    return max(candidates, key=lambda item: item.start, default=None)


def _container_behind(table: PartitionTable, last: Partition, swap: SwapPartition | None) -> bool:
    """An extended partition without logical ones stands between the last partition and the free space.

    One that holds the swap asked for was put there with it, or was in the way when the table grew.
    """
    made = table.partition(swap.number) if swap else None
    holds_swap = made is not None and table.is_logical(made)
    return table.extended is not None and table.extended.start > last.start and not holds_swap


def _why_not(table: PartitionTable, end: int, stays: str) -> tuple[str, ...]:
    last = _last(table, None)
    if last is None or last.end >= end:
        return ()
    if last.fixed_role:
        what = f"partition {last.number} ({last.fixed_role}) is the last one on the disk and is never grown"
    elif stays and not _container_behind(table, last, None):
        what = f"partition {last.number} is the last one on the disk, is not the root's, and holds {stays}"
    else:
        what = f"the empty extended partition behind partition {last.number} is in the way"
    return (f"{what}: the new space stays unused",)


def _resized(
    table: PartitionTable, last: Partition | None, end: int, created: tuple[Partition, ...]
) -> tuple[Partition, ...]:
    resized = []
    container = table.extended
    container_end = container.end if container else 0
    if created and table.is_logical(created[-1]):
        container_end = max(container_end, created[-1].end)
    if last is not None and end > last.end:
        resized.append(replace(last, size=end - last.start + 1))
        if table.is_logical(last):
            container_end = max(container_end, end)
    if container and container_end > container.end:
        resized.insert(0, replace(container, size=container_end - container.start + 1))
    return tuple(resized)


def _is_made(table: PartitionTable, swap: SwapPartition) -> bool:
    """Whether the last partition is the one that `swap` asks for: a run before has made it."""
    last = _last(table, None)
    size = swap.mib * (MIB // table.sector_size)
    return last is not None and (last.number, last.size, last.fixed_role) == (swap.number, size, "swap")


def _swap_partitions(table: PartitionTable, swap: SwapPartition, end: int) -> tuple[Partition, ...]:
    """The partitions to create so that `swap` ends at `end`: itself, after its container if there is none yet."""
    mib = MIB // table.sector_size
    size = swap.mib * mib
    new = Partition(swap.number, end - size + 1, size, _GPT_SWAP if table.kind is TableKind.GPT else _DOS_SWAP)
    logical = table.is_logical(new)
    gap = mib if logical else 0
    if table.partition(swap.number):
        raise GuestError(f"property SWAP: partition {swap.number} exists already; choose a free number")
    occupied = max((item.end for item in table.partitions if not (logical and item.is_extended)), default=mib)
    if new.start - gap <= occupied:
        free = max(0, end - gap - occupied) // mib
        raise GuestError(
            f"property SWAP: {swap.mib} MiB are asked for and {free} MiB are free behind the last partition; "
            "ask for less or give the instance a larger disk"
        )
    if logical:
        return (*_container_for(table, new, gap), new)
    if table.kind is TableKind.GPT and swap.number > MAX_GPT_NUMBER:
        raise GuestError(f"property SWAP: {swap.number} is beyond the {MAX_GPT_NUMBER} partitions of a GPT")
    return (new,)


def _container_for(table: PartitionTable, new: Partition, gap: int) -> tuple[Partition, ...]:
    expected = max((item.number for item in table.partitions if table.is_logical(item)), default=4) + 1
    if new.number != expected:
        raise GuestError(f"property SWAP: the next logical partition is number {expected}, not {new.number}")
    primaries = [item for item in table.partitions if not table.is_logical(item)]
    container = table.extended
    if container is None:
        free = sorted({1, 2, 3, 4} - {item.number for item in primaries})
        if not free:
            raise GuestError("property SWAP: no primary number is free for the extended partition; swap needs a disk")
        return (Partition(free[0], new.start - gap, new.size + gap, "5"),)
    if any(item.start > container.start for item in primaries):
        raise GuestError(
            f"property SWAP: a primary partition stands behind extended partition {container.number}, so a logical one "
            "has no room at the end; ask for a primary number (1 to 4)"
        )
    return ()
