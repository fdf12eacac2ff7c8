# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of snf-image-shell: the guest mounted, and somebody's command, or a shell, in the helper VM beside it.

What is mounted can only be read unless the job says otherwise. Nothing that the command leaves running outlives it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from snf_image_helper.detection import detect
from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import (
    MOUNTABLE,
    SWAP,
    FileSystem,
    mount,
    mount_for_a_look,
    probe,
    unmount,
)
from snf_image_helper.disks.volumes import refuse_suspended
from snf_image_helper.mounting import mounted
from snf_image_helper.mounts import TARGET
from snf_image_helper.reporter import Reporter
from snf_image_helper.stream import opened_stream
from snf_image_helper.visitor import Visit
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job
from snf_image_shared.process import SEARCH_PATH, run
from snf_image_shared.shell import Shell

DATA = "/run/snf-image/data"  # below it, what lies on the other disks
_INTERACTIVE = ("bash",)
_TERMINALS = "/dev/pts"


def shell(job: Job, report: Reporter) -> None:
    """Let the command run, and unmount all. How it ended, the stream tells. Raises GuestError, ProcessError."""
    if job.visit is None:
        raise GuestError("the job names nothing to run")
    disk = Disk.open(job.disks)
    with opened_stream() as port:
        visit = Visit(port, job.visit)
        if job.visit.terminal:
            _mount_terminals()
        with _at(disk, job, job.visit, report) as (directory, environment):
            command = job.visit.command or _INTERACTIVE
            status = visit.run(["env", "-C", directory, *command], environment)
        visit.say_goodbye(status)


def _mount_terminals() -> None:
    Path(_TERMINALS).mkdir(exist_ok=True)
    run(["mount", "-t", "devpts", "-o", "gid=5,mode=620", "devpts", _TERMINALS])


@contextmanager
def _at(disk: Disk, job: Job, wanted: Shell, report: Reporter) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The directory to work in, and the command's environment."""
    known = {
        "PATH": f"/usr/local/sbin:/usr/local/bin:{SEARCH_PATH}",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "BLOCKDEV": disk.device,
        "SNF_IMAGE_DEV_COUNT": str(len(disk.devices)),
        **{f"SNF_IMAGE_DEV_{number}": device for number, device in enumerate(disk.devices)},
    }
    if wanted.terminal:
        known |= {"TERM": wanted.terminal.kind, "PS1": f"snf-image {job.instance}:\\w# "}
    if not wanted.mount:
        yield "/", known
        return
    try:
        system = detect(disk, job, report)
    except GuestError as error:
        raise GuestError(f"{error}; --no-mount gives the disks alone") from error
    if wanted.writable:
        refuse_suspended(disk, system, report)
    with mounted(disk, system, report, read_only=not wanted.writable) as guest, ExitStack() as stack:
        devices = {"ROOT_DEV": guest.mounts.get("/", ""), "BOOT_DEV": guest.mounts.get("/boot", "")}
        for number, device in enumerate(disk.devices[1:], 1):
            _mount_data(number, device, wanted, stack, report)
        yield TARGET, {**known, "TARGET": TARGET, **{name: device for name, device in devices.items() if device}}


def _mount_data(number: int, device: str, wanted: Shell, stack: ExitStack, report: Reporter) -> None:
    """Mount what lies on another disk at DATA/NUMBER, or its partitions below that; what cannot be is a warning."""
    try:
        places = Disk((device,)).places()
        found = probe([place.device for place in places])
    except (GuestError, OSError) as error:
        report.warning(f"disk {number} is not mounted: {error}")
        return
    for place in places:
        system = found[place.device]
        path = Path(DATA, str(number), *([str(place.number)] if place.partition else []))
        if system.type in MOUNTABLE:
            _mount(system, path, wanted, stack, report)
        elif system.type and system.type != SWAP:
            report.warning(f"disk {number}, {place.name}, is not mounted: it holds {system.type}")


def _mount(system: FileSystem, path: Path, wanted: Shell, stack: ExitStack, report: Reporter) -> None:
    path.mkdir(parents=True, exist_ok=True)
    try:
        if wanted.writable:
            for warning in mount(system.device, str(path), system.type):
                report.warning(warning)
        else:
            mount_for_a_look(system.device, str(path), system.type)
    except GuestError as error:
        report.warning(str(error))
    else:
        stack.callback(unmount, str(path))
