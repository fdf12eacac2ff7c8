# SPDX-License-Identifier: GPL-2.0-or-later
"""The partition table of a disk that the helper divides."""

from __future__ import annotations

from snf_image_helper.disks.disk import Disk
from snf_image_shared.deployment import BootMode, Layout, TableType
from snf_image_shared.layouts import MIB, Planned, Role, partitions
from snf_image_shared.process import run

_MSDOS = {Role.BOOT: "83", Role.ROOT: "83", Role.SWAP: "82", Role.ESP: "ef"}
_GPT = {
    Role.BIOS_BOOT: "21686148-6449-6E6F-744E-656564454649",
    Role.ESP: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    Role.BOOT: "BC13C2FF-59E6-4262-A352-B275FD6F7172",
    Role.SWAP: "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
    Role.ROOT: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
}


def divide(disk: Disk, layout: Layout) -> tuple[Planned, ...]:
    """Write the table, and tell the kernel. Raises GuestError, ProcessError, DiskError if it does not fit."""
    planned = partitions(layout, disk.sectors * disk.sector_size)
    is_gpt = layout.table is TableType.GPT
    types = _GPT if is_gpt else _MSDOS
    active = next(each.role for each in planned if each.role in {Role.BOOT, Role.ROOT})
    lines = [f"label: {'gpt' if is_gpt else 'dos'}", "unit: sectors"]
    per_mib = MIB // disk.sector_size
    for each in planned:
        flag = ", bootable" if each.role is active and not is_gpt and layout.boot_mode is BootMode.BIOS else ""
        place = f"start={each.start * per_mib}, size={each.size * per_mib}"
        lines.append(f"{disk.node(each.number)}: {place}, type={types[each.role]}{flag}")
    command = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe=always", "--wipe-partitions=always"]
    run([*command, disk.device], stdin="\n".join((*lines, "")).encode("ascii"))
    disk.reload()
    return planned
