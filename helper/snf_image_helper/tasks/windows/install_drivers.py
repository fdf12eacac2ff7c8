# SPDX-License-Identifier: GPL-2.0-or-later
r"""InstallDrivers: the property WINDOWS_DRIVERS names folders of the image with drivers, as C:\Drivers\virtio.

Those of virtio disks are entered in the registry, so that Windows starts from them; Setup installs all of them.
"""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import MOUNT_IMAGE, WINDOWS, Task
from snf_image_helper.windows import sysprep_inf
from snf_image_helper.windows.drivers import PROPERTY, find, make_bootable, paths, windows_path
from snf_image_helper.windows.facts import facts
from snf_image_helper.windows.registry import HIVE_SYSTEM, opened
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

_LONGEST_COMMAND = 259  # characters of RunSynchronousCommand's Path


def install_drivers(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError for a folder that holds nothing for the guest, or a driver that it could not start from."""
    found = facts(guest)
    drivers = find(guest, paths(job.wishes.text(PROPERTY) or ""), found)
    if drivers.boot:
        with opened(guest, HIVE_SYSTEM, change=True) as hive:
            make_bootable(guest, hive, drivers.boot, found)
    if job.wishes.flag("CLOUD_INIT"):
        report.warning(
            f"{PROPERTY}: with CLOUD_INIT there is no answer file: only drivers of virtio disks are installed"
        )
    elif found.legacy:
        answers = sysprep_inf.read(guest)
        folders = [windows_path(folder).removeprefix("C:\\") for folder in drivers.folders]
        answers.set("Unattended", "OemPnPDriversPath", ";".join(folders))
        answers.set("Unattended", "UpdateInstalledDrivers", "Yes")
        sysprep_inf.write(guest, answers)
    else:
        _tell_setup(guest, drivers.folders, found.architecture)


def _tell_setup(guest: Guest, folders: tuple[str, ...], architecture: str) -> None:
    """The offlineServicing pass, where an answer file has drivers, does not come after sysprep."""
    from snf_image_helper.windows import unattend  # noqa: PLC0415  # XML, for this family alone
    from snf_image_helper.windows.answer_file import Command  # noqa: PLC0415

    with unattend.changed(guest) as answers:
        for folder in folders:
            line = rf'pnputil.exe -i -a "{windows_path(folder)}\*.inf"'
            if len(line) > _LONGEST_COMMAND:
                raise GuestError(f"property {PROPERTY}: {windows_path(folder)} is too long; put the drivers higher up")
            answers.run_synchronously(architecture, Command(line, "Install drivers"))


def _skip(job: Job) -> str | None:
    text = job.wishes.text(PROPERTY)
    if not text or not paths(text):
        return f"the property {PROPERTY} is not set"
    return None


TASK: Task[Guest] = Task(
    "InstallDrivers", install_drivers, families=WINDOWS, after=(MOUNT_IMAGE, "InstallUnattend"), skip=_skip
)
