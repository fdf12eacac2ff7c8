# SPDX-License-Identifier: GPL-2.0-or-later
"""NTFS by ntfs-3g: what state a volume is in, how it is mounted, how it grows. Nothing here decides which.

Sources: ntfs-3g(8), ntfs-3g.probe(8), ntfsinfo(8), ntfsresize(8), ntfsfix(8); libntfs-3g/volume.c and logfile.c.
"""

from __future__ import annotations

import os
import re
import select
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path

from snf_image_helper.disks.checking import first_finding
from snf_image_shared.errors import GuestError
from snf_image_shared.process import Finished, Limits, run

NTFS = "ntfs"
_DRIVER = "lowntfs-3g"
_FUSE = "/dev/fuse"
_ANY_STATUS = frozenset(range(-64, 256))
_LOOK_SECONDS, _WORK_SECONDS = 120.0, 3600.0
_PATIENCE_MS = 600_000  # until a driver has written all that it had in memory
_BOOT_SECTOR, _HIDDEN_SECTORS, _NTFS_BEGINS = 512, 28, b"NTFS    "
_IS_DIRTY = 0x0001  # VOLUME_IS_DIRTY, include/ntfs-3g/layout.h
_CHECK = "start it, run chkdsk /f, shut it down fully, and publish it anew"

# A name means what it means to Windows, and only such names are made. Nothing of the volume is a device or a program.
# big_writes: not in pieces of 4 KiB, which takes hives of some MiB four times as long.
_ALWAYS = "ignore_case,windows_names,streams_interface=xattr,big_writes,noatime,nodev,nosuid,noexec"


class State(IntEnum):
    """What ntfs-3g.probe(8) says by its exit status."""

    GOOD = 0
    NOT_NTFS = 12
    CORRUPT = 13
    HIBERNATED = 14
    UNCLEAN = 15


def refuse_unsafe(device: str) -> tuple[str, ...]:
    """Refuse to write to a volume that its Windows has not let go of; the answer are warnings. Nothing is written.

    Raises GuestError for one that is dirty, hibernated (by a fast shutdown, too) or damaged.
    """
    said = _run(["ntfs-3g.probe", "--readwrite", device])
    if said.status == State.HIBERNATED:
        raise GuestError(
            f"the Windows on {device} is hibernated, or was shut down with fast startup, and would write its memory "
            "over our changes; start it, run powercfg /h off and shutdown /s /t 0, and publish the image anew"
        )
    if said.status not in {State.GOOD, State.UNCLEAN}:
        raise GuestError(f"the NTFS on {device} is damaged: {_reason(said)}; {_CHECK}")
    if is_dirty(device):
        raise GuestError(f"the NTFS on {device} is dirty: its Windows wants to check it first; {_CHECK}")
    if said.status == State.UNCLEAN:
        return (
            f"the NTFS on {device} was not unmounted cleanly: its journal ($LogFile) is thrown away; "
            "better shut the image's Windows down fully and publish it anew",
        )
    return ()


def is_dirty(device: str) -> bool:
    """Whether Windows is to check the volume at its next start. Raises GuestError when that cannot be told."""
    said = _run(["ntfsinfo", "--force", "--mft", device])
    found = re.search(r"^\s*Volume Flags: 0x([0-9a-fA-F]{1,4})\b", said.stdout, re.MULTILINE)
    if said.status or found is None:
        raise GuestError(f"the NTFS on {device} cannot be read: {_reason(said)}; {_CHECK}")
    return bool(int(found[1], 16) & _IS_DIRTY)


def mount(device: str, target: str) -> tuple[str, ...]:
    """Mount read-write at a directory of the helper; the answer are warnings.

    Raises GuestError as refuse_unsafe() does. An unclean journal is thrown away.
    """
    warnings = refuse_unsafe(device)
    _mount(device, target, "rw" if warnings else "rw,norecover")
    return warnings


def mount_for_a_look(device: str, target: str) -> None:
    """Mount read-only without touching the device, in whatever state it is. Raises GuestError."""
    _mount(device, target, "ro,norecover")


@contextmanager
def waited_for(target: str) -> Iterator[None]:
    """The block unmounts what may be an NTFS: behind it all is written, for its driver has ended.

    Raises GuestError when it does not end.
    """
    drivers = [os.pidfd_open(process) for process in _drivers(target)]
    try:
        yield
        for driver in drivers:
            ended = select.poll()
            ended.register(driver, select.POLLIN)
            if not ended.poll(_PATIENCE_MS):
                raise GuestError(f"the NTFS driver of {target} does not end; is the instance's disk too slow?")
    finally:
        for driver in drivers:
            os.close(driver)


def grow(device: str) -> None:
    """Let an unmounted, clean volume fill its partition; Windows then checks it. Raises GuestError.

    The marking for a check is ntfsresize's own doing.
    """
    if is_dirty(device):
        raise GuestError(f"the NTFS on {device} is dirty and cannot be grown; {_CHECK}")
    said = _run(["ntfsresize", "--no-progress-bar", "--force", device], _WORK_SECONDS)
    if said.status:
        raise GuestError(f"the NTFS on {device} cannot be grown: {_reason(said)}; {_CHECK}")


def clear_dirty(device: str) -> None:
    """Take back the marking for a check. Raises ProcessError."""
    run(["ntfsfix", "--clear-dirty", device], limits=Limits(_WORK_SECONDS))


def fills(device: str) -> bool:
    """Whether the volume has the whole device, but for less than a cluster. Raises OSError."""
    with Path(device).open("rb") as file:
        sector, cluster, total = _geometry(file.read(_BOOT_SECTOR))
        # The copy of the boot sector behind the volume is not counted.
        return file.seek(0, os.SEEK_END) - (total + 1) * sector < cluster


def correct_start(device: str, start: int) -> tuple[str, ...]:
    """Let an unmounted volume know that it begins `start` bytes behind the begin of the disk; the answer are warnings.

    Windows' loaders find their files by what the boot sector says of that, and the dump of a file system says where it
    was before. Its copy at the volume's end is corrected as well. Raises GuestError as refuse_unsafe() does, OSError.
    """
    with Path(device).open("r+b", buffering=0) as file:
        head = file.read(_BOOT_SECTOR)
        sector, _, total = _geometry(head)
        said = struct.unpack_from("<I", head, _HIDDEN_SECTORS)[0]
        wanted = start // sector
        if said == wanted or not head.startswith(_NTFS_BEGINS, 3) or wanted >= 1 << 32:
            return ()
        refuse_unsafe(device)
        for place in (total * sector, 0):
            file.seek(place)
            if file.read(_BOOT_SECTOR).startswith(_NTFS_BEGINS, 3):
                file.seek(place + _HIDDEN_SECTORS)
                file.write(struct.pack("<I", wanted))
        os.fsync(file.fileno())
    return (f"the boot sector of {device} said that it begins at sector {said}; it begins at {wanted} now",)


def _geometry(head: bytes) -> tuple[int, int, int]:
    """Bytes in a sector and in a cluster, and the number of sectors (BIOS parameter block of NTFS)."""
    sector, factor, total = struct.unpack_from("<HB26xQ", head, 11)
    return max(sector, 1), max(sector, 1) * (factor if factor <= 0x80 else 1 << min(256 - factor, 31)), total


def _mount(device: str, target: str, how: str) -> None:
    if not Path(_FUSE).exists():
        run(["modprobe", "fuse"])
    said = _run([_DRIVER, "-o", f"{how},{_ALWAYS}", device, target])
    if said.status:
        raise GuestError(f"{device} cannot be mounted as ntfs ({_reason(said)}); {_CHECK}")


def _run(argv: list[str], seconds: float = _LOOK_SECONDS) -> Finished:
    return run(argv, limits=Limits(seconds, _ANY_STATUS))


def _reason(said: Finished) -> str:
    return first_finding(f"{said.stderr}\n{said.stdout}").rstrip(".") or f"status {said.status}"


def _drivers(target: str) -> Iterator[int]:
    """The processes that serve what is mounted there."""
    if " fuse" not in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace"):
        return
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0] == _DRIVER.encode() and os.fsencode(target) in words:
                    yield int(entry.name)
