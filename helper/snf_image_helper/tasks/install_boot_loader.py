# SPDX-License-Identifier: GPL-2.0-or-later
"""InstallBootLoader: a guest that was unpacked from an archive starts by the boot loader that it brings.

The guest's own programs install it, with the guest as their root.
"""

from __future__ import annotations

from snf_image_helper.chroot import chroot
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job


def install_boot_loader(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError, ProcessError."""
    if not guest.exists("/usr/sbin/grub-install"):
        raise GuestError("the guest has no boot loader that could be installed; put grub-pc into the image")
    with chroot(guest) as root:
        root.run(["grub-install", "--target=i386-pc", guest.disk.device])
        root.run(["update-grub"], env={"GRUB_DISABLE_OS_PROBER": "true"})


def _skip(job: Job) -> str | None:
    if job.deployment is None:
        return "the image is a disk, with a boot loader of its own"
    return None if job.deployment.layout.has_loader else "the hypervisor brings the kernel (kernel_path)"


TASK: Task[Guest] = Task(
    "InstallBootLoader",
    install_boot_loader,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE, "AddSwap"),
    skip=_skip,
)
