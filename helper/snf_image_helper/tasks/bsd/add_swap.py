# SPDX-License-Identifier: GPL-2.0-or-later
"""AddSwap: swap on another disk, or in a file that the first boot makes, where the property SWAP says so.

What the other disk is called depends on how the guest sees it (vtbd1, da1, ld1, ...), so it gets a GPT whose one
partition has a name: /dev/gpt/NAME on FreeBSD (gpart(8)), NAME=... on NetBSD (dk(4), fstab(5)). OpenBSD swaps on no
partition without a disklabel of its own making (sdsize() of sys/scsi/sd.c wants FS_SWAP). No BSD wants a signature.
"""

from __future__ import annotations

from snf_image_helper import fstab
from snf_image_helper.bsd import first_boot
from snf_image_helper.bsd.first_boot import Moment, Step
from snf_image_helper.disks.partitions import SwapDisk, SwapFile, SwapPartition
from snf_image_helper.fstab import FSTAB
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import OsFamily
from snf_image_helper.task import BSD, MOUNT_IMAGE, Task
from snf_image_helper.tasks.add_swap import asked_swap
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job
from snf_image_shared.process import run

SWAP_FILE = "/swapfile"
_TYPES = {
    OsFamily.FREEBSD: "516E7CB5-6ECF-11D6-8FF8-00022D09712B",
    OsFamily.NETBSD: "49F48D32-B10E-11DC-B99B-0019D1879648",
}
_ON = {
    OsFamily.FREEBSD: "swapon -aLq",  # what is "late" in fstab(5)
    OsFamily.NETBSD: "swapctl -A -t noblk",
    OsFamily.OPENBSD: "swapctl -A -t noblk",
}


def add_swap(guest: Guest, job: Job, report: Reporter) -> None:
    """Swap that fstab has already is left alone. Raises GuestError, and ProcessError of sfdisk."""
    swap = asked_swap(job)
    text = guest.read_text(FSTAB, missing_ok=True)
    if text is None:
        raise GuestError(f"{FSTAB} does not exist, so swap cannot be added; create it in the image or drop SWAP")
    match swap:
        case SwapPartition():
            report.warning("No swap is added: partitions for it are made on Linux alone")
        case SwapDisk(index):
            _add_disk(guest, text, index)
        case SwapFile(mib):
            _add_file(guest, text, mib)


def _add_disk(guest: Guest, text: str, index: int) -> None:
    family = guest.system.family
    letter = chr(ord("a") + index)
    if family not in _TYPES:
        raise GuestError(
            f"property SWAP: {family} swaps on no disk without a disklabel of its own, so {letter} cannot be had; "
            "write file:<MiB>"
        )
    name = f"snf-swap-{letter}"
    entry = f"/dev/gpt/{name}" if family is OsFamily.FREEBSD else f"NAME={name}"
    if _has(text, entry):
        return
    table = f"label: gpt\ntype={_TYPES[family]}, name={name}\n"
    options = ("--quiet", "--no-reread", "--no-tell-kernel", "--wipe=always", "--wipe-partitions=always")
    run(["sfdisk", *options, guest.disk.devices[index]], stdin=table.encode())
    guest.append_text(FSTAB, f"{entry}\tnone\tswap\tsw\t0\t0\n")


def _add_file(guest: Guest, text: str, mib: int) -> None:
    """The file is made by its own kernel: what can be swap, and how long it takes to write, is the guest's affair."""
    family = guest.system.family
    new = f"{SWAP_FILE}.new"
    make = (
        f"{{ [ -f {SWAP_FILE} ] || {{ umask 077; dd if=/dev/zero of={new} bs=1m count={mib} 2>/dev/null && "
        f"mv {new} {SWAP_FILE}; }} || {{ rm -f {new}; false; }}; }}"
    )
    freebsd = family is OsFamily.FREEBSD
    if not _has(text, f"file={SWAP_FILE}" if freebsd else SWAP_FILE):
        line = f"md\tnone\tswap\tsw,file={SWAP_FILE},late" if freebsd else f"{SWAP_FILE}\tnone\tswap\tsw"
        guest.append_text(FSTAB, f"{line}\t0\t0\n")
    first_boot.add(guest, Step("swap", (make, _ON[family]), Moment.LAST))


def _has(text: str, word: str) -> bool:
    """Whether a line for swap has this device or this option."""
    entries = (entry for entry in fstab.parse(text)[0] if entry.type == "swap")
    return any(word == entry.device or word in entry.options for entry in entries)


def _skip(job: Job) -> str | None:
    if job.wishes.text("SWAP") is None:
        return "the property SWAP is not set"
    asked_swap(job)
    return None


TASK: Task[Guest] = Task(
    "AddSwap",
    add_swap,
    families=BSD,
    after=("FixPartitionTable", MOUNT_IMAGE),
    skip=_skip,
    decides="unless fstab names the area already",
)
