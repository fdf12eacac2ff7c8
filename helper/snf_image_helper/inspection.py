# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of an inspection: what is on the disk, and what a deployment of it would do. Nothing is written.

Table, detection, mounts, network and plan are those of a deployment, so this cannot say what that would not do. What
cannot be found is a problem in the report, never the end of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from snf_image_helper import description
from snf_image_helper.bsd import description as bsd_description
from snf_image_helper.cloud_init import seed_orders
from snf_image_helper.detection import find, looked_at
from snf_image_helper.disks import lvm
from snf_image_helper.disks.booting import ESP, boot_of, loaders_in
from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import MOUNTABLE, FileSystem, probe
from snf_image_helper.disks.ntfs import NTFS
from snf_image_helper.disks.partition_types import role_of
from snf_image_helper.disks.partitions import Partition, PartitionTable, TableKind
from snf_image_helper.guest import Guest
from snf_image_helper.mounting import mounted
from snf_image_helper.planning import (
    EVERYTHING_EXCLUDED,
    UnknownGuest,
    delivery,
    nothing_planned,
    preview,
    seed_planned,
    unknown_guest,
)
from snf_image_helper.problems import Problems, fact
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import WHOLE_DISK, OsFamily, System, UnknownGuestError
from snf_image_helper.task import BSD, MOUNTED_EXCLUDED, WINDOWS
from snf_image_helper.windows import description as windows_description
from snf_image_shared.errors import GuestError, SnfImageError
from snf_image_shared.findings import (
    Findings,
    FoundBoot,
    FoundFileSystem,
    FoundPartition,
    FoundSystem,
    FoundTable,
    FoundVolume,
    Plan,
)
from snf_image_shared.job import Job

_DESCRIBED = (
    {OsFamily.LINUX: description.described}
    | dict.fromkeys(BSD, bsd_description.described)
    | dict.fromkeys(WINDOWS, windows_description.described)
)
_KINDS = {TableKind.DOS: "mbr", TableKind.GPT: "gpt"}
# Besides the root, where a part of the system may lie that is looked at.
_MOUNT_POINTS = frozenset({"/boot", "/boot/efi", "/efi", "/etc", "/usr", "/var", "/var/lib"})


def inspect(job: Job, report: Reporter) -> None:
    """Report the findings. Raises GuestError when the helper VM has no disk at all."""
    report.findings(inspect_disk(Disk.open(job.disks[:1]), job).dump())


def inspect_disk(disk: Disk, job: Job) -> Findings:
    """All that can be found on a disk that may be anything."""
    problems = Problems()
    table, boot = None, FoundBoot()
    on: Mapping[int, FoundFileSystem] = {}
    with problems.noted():
        table = disk.table
    loaders: list[str] = []
    volumes: tuple[FoundVolume, ...] = ()
    with problems.noted():
        disk.reload()
        on = _contents(disk, loaders, problems)
    with problems.noted():
        volumes = _volumes(disk)
    with problems.noted():
        boot = boot_of(disk, tuple(loaders), problems)
    system, plan = _system(disk, job, problems)
    found_table = _found_table(table, on) if table else None
    slices: tuple[FoundPartition, ...] = ()
    with problems.noted():
        slices = _found_slices(disk, on)
    return Findings(
        size=disk.sectors * disk.sector_size,
        sector_size=disk.sector_size,
        table=replace(found_table, partitions=(*found_table.partitions, *slices)) if found_table else None,
        content=on.get(WHOLE_DISK, FoundFileSystem()),
        volumes=volumes,
        boot=boot,
        system=system,
        problems=problems.texts,
        plan=plan,
    )


def _contents(disk: Disk, loaders: list[str], problems: Problems) -> Mapping[int, FoundFileSystem]:
    """What lies on each partition, or on the whole disk; `loaders` gets those of the EFI system partitions."""
    places = disk.places()
    seen = probe([place.device for place in places])
    found = {}
    for place in places:
        system = seen[place.device]
        found[place.number] = FoundFileSystem(system.type, fact(system.label), fact(system.uuid))
        if system.type in MOUNTABLE | {NTFS}:
            with problems.noted():
                found[place.number] = _measured(system, found[place.number], place.partition, loaders)
    return found


def _volumes(disk: Disk) -> tuple[FoundVolume, ...]:
    """The logical volumes; those that need more than device-mapper's simplest are named and not looked into."""
    systems = probe([place.device for place in disk.places()])
    members = [device for device, system in systems.items() if system.type == lvm.MEMBER]
    if not members:
        return ()
    groups = lvm.groups_on(members)
    with lvm.active(groups, read_only=True) as usable:
        on = probe([volume.device for volume in usable])
    return tuple(
        FoundVolume(
            volume.full_name, fact(volume.layout), FoundFileSystem(seen.type, fact(seen.label), fact(seen.uuid))
        )
        for group in groups
        for volume in group.volumes
        for seen in (on.get(volume.device, FileSystem(volume.device)),)
    )


def _measured(
    system: FileSystem, found: FoundFileSystem, partition: Partition | None, loaders: list[str]
) -> FoundFileSystem:
    with looked_at(system.device, system.type) as directory:
        room = os.statvfs(directory)
        if partition and partition.fixed_role == ESP:
            loaders += loaders_in(directory)
    unit = room.f_frsize
    used = max(0, room.f_blocks - room.f_bfree)
    return replace(found, size=room.f_blocks * unit, used=used * unit, free=room.f_bfree * unit)


def _found_table(table: PartitionTable, on: Mapping[int, FoundFileSystem]) -> FoundTable:
    unit = table.sector_size
    partitions = (
        FoundPartition(
            number=item.number,
            start=item.start * unit,
            size=item.size * unit,
            type=item.type,
            role=role_of(item),
            name=fact(item.name),
            uuid=item.uuid,
            attributes=fact(item.attributes),
            is_bootable=item.bootable,
            content=on.get(item.number, FoundFileSystem()),
        )
        for item in table.partitions
    )
    return FoundTable(_KINDS[table.kind], table.identity, tuple(partitions))


def _found_slices(disk: Disk, on: Mapping[int, FoundFileSystem]) -> tuple[FoundPartition, ...]:
    """The partitions in the disklabels of BSDs; they come after those of the table, in which their numbers go on."""
    return tuple(
        FoundPartition(
            number=number,
            start=item.start * disk.sector_size,
            size=item.size * disk.sector_size,
            type=item.kind_name,
            role=f"{found.label.family} {item.letter}: {item.kind_name}",
            name=item.letter,
            content=on.get(number, FoundFileSystem()),
        )
        for found in disk.labels
        for number, item in found.slices.items()
    )


def _system(disk: Disk, job: Job, problems: Problems) -> tuple[FoundSystem | None, Plan]:
    """The system on the disk and what a deployment does with it; both end where nothing more is known."""
    try:
        system = find(disk, job, problems.report)
    except SnfImageError as error:
        problems.add(str(error))
        return None, _planned(job, None, None, error)
    found = FoundSystem(str(system.family), system.root_partition, system.volume)
    if system.ignition:
        return replace(found, name=str(system.ignition.guest)), _planned(job, system, None)
    described = _DESCRIBED[system.family]
    failure = None
    for only in (None, _MOUNT_POINTS):
        try:
            with mounted(disk, system, problems.report, only=only, read_only=True) as guest:
                plan = _planned(job, system, guest, failure)
                return described(found, guest, job, problems), plan
        except GuestError as error:
            problems.add(str(error))
            failure = failure or error
    return found, _planned(job, system, None, failure)


def _planned(job: Job, system: System | None, guest: Guest | None, failure: SnfImageError | None = None) -> Plan:
    """What a deployment does; `failure` is where it would end."""
    try:
        policy = unknown_guest(job)
        if job.wishes.flag(EVERYTHING_EXCLUDED):
            return nothing_planned()
        if seed_orders.is_asked_for(job):
            told = job.wishes.text("OSFAMILY") is not None
            is_windows = system is not None and system.family in WINDOWS and not told
            return Plan(refusal=seed_orders.FOR_WINDOWS) if is_windows else seed_planned()
        if system is None and failure:
            raise failure
        plan = preview(job, system, guest) if system else Plan()
    except UnknownGuestError as error:
        return nothing_planned(delivery(error)) if policy is UnknownGuest.DELIVER else Plan(refusal=str(error))
    except SnfImageError as error:
        return Plan(refusal=str(error))
    return plan if job.wishes.flag(MOUNTED_EXCLUDED) or not failure else replace(plan, refusal=str(failure))
