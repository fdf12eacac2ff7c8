# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens between the first and the last word of the helper: the job is read, done, and its end put into words.

Apart from __main__, so that the host hears the first word before half a second of imports under emulation.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from snf_image_helper.reporter import Reporter
from snf_image_shared.errors import HelperError, SnfImageError
from snf_image_shared.job import JOB_FILE, Action, Archive, Job
from snf_image_shared.process import SEARCH_PATH, run

CONFIG_OPTION = "snf_image_config="
CONFIG_SERIAL = "snf-config"
DEBUG_PORT = "/dev/ttyS3"
_CONFIG_MOUNT = "/run/config"
_FLOPPY_PATIENCE = 10.0  # seconds until /dev/fd0 has appeared


def read_job(command_line: list[str]) -> Job:
    """The job on the device that the kernel's command line tells of. Raises HelperError, ProcessError."""
    return _load(_config_device(command_line))


def do(job: Job, report: Reporter) -> None:
    """Do the job's story, and return when all of it is written. Raises SnfImageError."""
    _add_entropy(job.seed)
    _link_descriptors()
    _story(job)(job, report)
    os.sync()


def _story(job: Job) -> Callable[[Job, Reporter], None]:
    action = job.action
    # Only what is told is imported: that takes long under emulation, and a rename needs none of the tasks.
    if action is Action.RENAME:
        from snf_image_helper.rename import rename  # noqa: PLC0415

        return rename
    if action is Action.INSPECT:
        from snf_image_helper.inspection import inspect  # noqa: PLC0415

        return inspect
    if action is Action.SHELL:
        from snf_image_helper.shell import shell  # noqa: PLC0415

        return shell
    if action is Action.EXPORT and job.archive is Archive.EXCHANGE:
        from snf_image_helper.archiving.export import export  # noqa: PLC0415

        return export
    if action is Action.IMPORT:
        from snf_image_helper.archiving.importing import import_  # noqa: PLC0415

        return import_
    if action is Action.EXPORT:
        from snf_image_helper.archiving.capturing import capture  # noqa: PLC0415

        return capture
    from snf_image_helper.customize import customize  # noqa: PLC0415

    return customize


def _config_device(command_line: list[str]) -> str:
    """The block device that carries the job: the host says which kind it attached."""
    kinds = [word.removeprefix(CONFIG_OPTION) for word in command_line if word.startswith(CONFIG_OPTION)]
    match kinds:
        case ["floppy"]:
            run(["modprobe", "floppy"])
            return _wait_for("/dev/fd0")
        case ["disk"]:
            for entry in Path("/sys/block").iterdir():
                serial_number = entry / "serial"
                if serial_number.exists() and serial_number.read_text().strip() == CONFIG_SERIAL:
                    return f"/dev/{entry.name}"
            raise HelperError(f"there is no disk with the serial number {CONFIG_SERIAL}")
        case _:
            raise HelperError(f"the kernel command line lacks {CONFIG_OPTION}floppy or {CONFIG_OPTION}disk")


def _wait_for(device: str) -> str:
    deadline = time.monotonic() + _FLOPPY_PATIENCE
    while not Path(device).exists():
        if time.monotonic() > deadline:
            raise HelperError(f"{device} did not appear within {_FLOPPY_PATIENCE:g} seconds")
        time.sleep(0.05)
    return device


def _load(device: str) -> Job:
    Path(_CONFIG_MOUNT).mkdir(parents=True, exist_ok=True)
    run(["mount", "-t", "ext2", "-o", "ro,nodev,nosuid,noexec", device, _CONFIG_MOUNT])
    try:
        return Job.load(Path(_CONFIG_MOUNT, JOB_FILE).read_bytes())
    finally:
        run(["umount", _CONFIG_MOUNT])


def _add_entropy(seed: str) -> None:
    with Path("/dev/urandom").open("wb", buffering=0) as pool:
        pool.write(bytes.fromhex(seed))


def _link_descriptors() -> None:
    """What udev would make in /dev, for the custom tasks that rely on it."""
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        Path("/dev", name).symlink_to(f"/proc/self/fd{target}")


def explain(error: Exception, report: Reporter) -> str:
    """Report the error, and give the one line that says it."""
    if isinstance(error, SnfImageError):
        text = str(error)
    else:
        traceback.print_exception(error)
        text = f"internal error: {type(error).__name__}: {error}; the helper's console in the log has the traceback"
    report.error(text)
    return text.replace("\n", " ")


def debug_shell() -> None:
    """A root shell on the fourth port; it ends when the operator leaves it or the host's deadline comes."""
    print(f"snf-image-helper: a shell is waiting on {DEBUG_PORT}; leave it to go on", flush=True)
    shell = ["setsid", "--ctty", "--wait", "busybox", "sh", "-i"]
    with Path(DEBUG_PORT).open("r+b", buffering=0) as port:
        pid = os.posix_spawnp(
            shell[0],
            shell,
            {"PATH": SEARCH_PATH, "TERM": "vt100", "HOME": "/root"},
            file_actions=[(os.POSIX_SPAWN_DUP2, port.fileno(), fd) for fd in (0, 1, 2)],
        )
        os.waitpid(pid, 0)
