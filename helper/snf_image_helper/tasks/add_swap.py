# SPDX-License-Identifier: GPL-2.0-or-later
"""AddSwap: make a swap area where the property SWAP says, and let the guest use it."""

from __future__ import annotations

from snf_image_helper import fstab
from snf_image_helper.cloud_init import files as cloud_init_files
from snf_image_helper.disks.filesystems import SWAP, make_swap, probe
from snf_image_helper.disks.partitions import MIB, SwapDisk, SwapFile, SwapPartition, parse_swap
from snf_image_helper.fstab import FSTAB
from snf_image_helper.guest import Guest
from snf_image_helper.linux.swap_file import make_swap_file
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Requires, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job


def add_swap(guest: Guest, job: Job, report: Reporter) -> None:
    """Make the swap area and its fstab line; both are left alone where they exist already.

    Raises GuestError when the guest has no fstab or, with CLOUD_INIT, no cloud-init.
    """
    swap = asked_swap(job)
    if not isinstance(swap, SwapDisk) and job.wishes.flag("CLOUD_INIT"):
        cloud_init_files.leave_swap(guest, job, swap.mib * MIB)
        return
    text = guest.read_text(FSTAB, missing_ok=True)
    if text is None:
        raise GuestError(f"{FSTAB} does not exist, so swap cannot be added; create it in the image or drop SWAP")
    match swap:
        case SwapFile(mib):
            path = make_swap_file(guest, mib)
            if not any(entry.device == path for entry in fstab.parse(text)[0]):
                guest.append_text(FSTAB, f"{path}\tnone\tswap\tsw\t0\t0\n")
            return
        case SwapPartition(number):
            device = guest.disk.partition_device(number)
        case SwapDisk(index):
            device = guest.disk.devices[index]
    if not _in_use(text, device):
        uuid = make_swap(device)
        guest.append_text(FSTAB, f"UUID={uuid}\tnone\tswap\tsw\t0\t0\n")


def asked_swap(job: Job) -> SwapPartition | SwapDisk | SwapFile:
    """What the property SWAP asks for. Raises GuestError for a wrong one, and for a disk that the instance lacks."""
    swap = parse_swap(job.wishes.text("SWAP") or "")
    if isinstance(swap, SwapDisk) and swap.index >= len(job.disks):
        raise GuestError(
            f"property SWAP: disk {chr(ord('a') + swap.index)} is asked for and the instance has "
            f"{len(job.disks)}; add a disk or write <partition>:<MiB>"
        )
    return swap


def _in_use(text: str, device: str) -> bool:
    """Whether fstab names the swap area that is on the device already."""
    used = {entry.device.replace('"', "") for entry in fstab.parse(text)[0] if entry.type == SWAP}
    if not used:
        return False
    found = probe([device])[device]
    names = {f"UUID={found.uuid}", f"UUID={found.uuid.upper()}", f"LABEL={found.label}"}
    return found.type == SWAP and bool(names & used)


def _skip(job: Job) -> str | None:
    if job.wishes.text("SWAP") is None:
        return "the property SWAP is not set"
    asked_swap(job)
    return None


def _makes_partition(job: Job) -> bool:
    return not job.wishes.flag("CLOUD_INIT") and isinstance(asked_swap(job), SwapPartition)


TASK: Task[Guest] = Task(
    "AddSwap",
    add_swap,
    families=LINUX_ONLY,
    after=("FixPartitionTable", MOUNT_IMAGE),
    requires=(Requires("FixPartitionTable", _makes_partition),),
    skip=_skip,
    decides="unless fstab names the area already",
)
