# SPDX-License-Identifier: GPL-2.0-or-later
"""InstallBootLoader: a guest that was unpacked from an archive starts by the boot loader that it brings.

The guest's own programs install it, with the guest as their root. A disk image has one; INSTALL_BOOT_LOADER asks for
its being installed anew.
"""

from __future__ import annotations

from dataclasses import replace

from snf_image_helper.boot_loaders import LOADERS
from snf_image_helper.boot_loaders.former_disk import forget_former_disk, name_root
from snf_image_helper.boot_loaders.initial_ram_disk import renew
from snf_image_helper.boot_loaders.install_grub import prepare_settings
from snf_image_helper.boot_loaders.installing import installer_for
from snf_image_helper.boot_loaders.starting import kernels_in, start_of
from snf_image_helper.chroot import chroot
from snf_image_helper.files.edits import Edits
from snf_image_helper.guest import Guest
from snf_image_helper.linux.asked_arguments import asked
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.deployment import BootMode
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

_PROPERTY = "INSTALL_BOOT_LOADER"
_BOOT_MODE = "BOOT_MODE"


def install_boot_loader(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError, ProcessError."""
    installer = installer_for(guest, _firmware(job))
    start = start_of(guest, installer.firmware)
    edits = Edits(guest)
    # A disk image's volumes are still there.
    stale = job.deployment is not None and forget_former_disk(edits, start)
    prepare_settings(edits)
    wanted = asked(job)
    if wanted:  # the guest's tools are to make a menu of it; ConfigureBoot looks at that one later
        for edit in LOADERS:
            edit(edits, wanted)
    edits.apply()
    with chroot(guest) as root:
        renew(guest, root, start, report, stale=stale)
        start = replace(start, kernels=kernels_in(guest))
        installer.install(guest, root, start)
    if job.deployment is not None:
        forget_former_disk(edits, start)
    name_root(edits, start)
    edits.apply()


def _firmware(job: Job) -> BootMode:
    if job.deployment is not None:
        return job.deployment.layout.boot_mode
    try:
        return BootMode((job.wishes.text(_BOOT_MODE) or BootMode.BIOS).lower())
    except ValueError as error:
        raise GuestError(f"property {_BOOT_MODE}: is not one of {', '.join(BootMode)}") from error


def _skip(job: Job) -> str | None:
    if job.deployment is None:
        asked = job.wishes.flag(_PROPERTY)
        return None if asked else f"the image is a disk, with a boot loader of its own, and {_PROPERTY} is not set"
    return None if job.deployment.layout.has_loader else "the hypervisor brings the kernel (kernel_path)"


TASK: Task[Guest] = Task(
    "InstallBootLoader",
    install_boot_loader,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE, "AddSwap"),
    skip=_skip,
    rare=True,
    on_import=True,
)
