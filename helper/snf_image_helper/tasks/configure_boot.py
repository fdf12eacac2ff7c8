# SPDX-License-Identifier: GPL-2.0-or-later
"""ConfigureBoot: a first boot without surprises.

Serial console and kernel arguments, of the properties CONSOLE and KERNEL_ARGS, in the configuration of the guest's own
boot loader; and a loader that firmware without variables finds, where an EFI system partition has none.
"""

from __future__ import annotations

from snf_image_helper.boot_loaders import LOADERS
from snf_image_helper.files.edits import Edits
from snf_image_helper.guest import Guest
from snf_image_helper.linux.asked_arguments import CONSOLE, asked
from snf_image_helper.linux.getty import enable_getty
from snf_image_helper.linux.kernel_arguments import PROPERTY
from snf_image_helper.linux.removable_loader import ensure_removable_loader
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job


def configure_boot(guest: Guest, job: Job, report: Reporter) -> None:
    """All files of the boot loader are changed or, if one cannot be, none. Raises GuestError."""
    wanted = asked(job)
    if wanted:
        edits = Edits(guest)
        # Every one: a guest with entries of the Boot Loader Specification has a grub.cfg as well.
        found = [edit(edits, wanted) for edit in LOADERS]
        if job.deployment is not None and not job.deployment.layout.has_loader:
            report.warning("The hypervisor starts the kernel: its arguments are Ganeti's kernel_args and root_path")
        elif not any(found):
            asking = " and ".join(name for name in (CONSOLE, PROPERTY) if job.wishes.text(name))
            missing = (
                "no configuration of a boot loader with kernels was found in the guest (of GRUB, systemd-boot or "
                "extlinux, in a /boot that fstab mounts; unified kernels have their arguments inside)"
            )
            if (job.wishes.text("UNKNOWN_GUEST") or "").strip().lower() != "deliver":
                raise GuestError(f"property {asking}: {missing}; leave the property away")
            report.warning(f"The kernel's arguments stay as they are: {missing}")
        if wanted.serial:
            enable_getty(edits, wanted, report)
        edits.apply()
    try:
        ensure_removable_loader(guest, report)
    except GuestError as error:  # nobody asked for it, and with BIOS the guest does not need it
        report.warning(f"The guest has no loader that UEFI finds without variables, and none can be put there: {error}")


def _skip(job: Job) -> str | None:
    asked(job)
    return None


TASK: Task[Guest] = Task(
    "ConfigureBoot",
    configure_boot,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE, "AddSwap"),
    skip=_skip,
    decides="what is asked for, and a loader that UEFI finds without variables",
    on_import=True,
)
