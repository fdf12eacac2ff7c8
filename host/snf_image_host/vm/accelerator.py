# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM when it works, TCG when it must. A /dev/kvm that opens is no proof: failures are remembered until reboot."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

from snf_image_host.configuration.setting_types import Accelerator
from snf_image_host.configuration.settings import Settings
from snf_image_shared.errors import ConfigurationError

KVM_DEVICE = Path("/dev/kvm")
XEN = Path("/proc/xen")  # there on a Xen node, whatever it runs there
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def accelerators(settings: Settings, device: Path = KVM_DEVICE, xen: Path = XEN) -> tuple[Accelerator, ...]:
    """What to try, in order. Raises ConfigurationError when HELPER_ACCEL=kvm cannot be had."""
    if settings.helper_accel is Accelerator.TCG:
        return (Accelerator.TCG,)
    problem = kvm_problem(device, xen)
    if settings.helper_accel is Accelerator.KVM:
        if problem:
            raise ConfigurationError(f"HELPER_ACCEL=kvm, but {problem}; mend that, or set HELPER_ACCEL=auto")
        return (Accelerator.KVM,)
    if problem or _memory(settings).is_file():
        return (Accelerator.TCG,)
    return (Accelerator.KVM, Accelerator.TCG)


def kvm_problem(device: Path = KVM_DEVICE, xen: Path = XEN) -> str | None:
    """Why an unprivileged QEMU cannot use KVM, or None. Only group and world count: QEMU is not root."""
    if xen.exists():
        return "this node runs on Xen"
    try:
        status = device.stat()
    except OSError:
        return f"there is no {device} on this node"
    if not stat.S_ISCHR(status.st_mode):
        return f"{device} is no character device"
    everybody = status.st_mode & 0o006 == 0o006
    group = status.st_mode & 0o060 == 0o060 and status.st_gid != 0
    return None if everybody or group else f"{device} is open to nobody but root (chgrp kvm and chmod g+rw it)"


def kvm_groups(device: Path = KVM_DEVICE) -> tuple[int, ...]:
    """The supplementary groups that QEMU needs for KVM: the device's own, unless that is root's."""
    gid = device.stat().st_gid
    return (gid,) if gid else ()


def remember_failure(settings: Settings) -> None:
    """Do not try KVM again on this node before it has been rebooted, or the named file removed."""
    memory = _memory(settings)
    with suppress(OSError):  # without it the next run waits for KVM again, and that is all
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text("KVM did not run the helper VM; remove this file to let snf-image try again.\n")


def _memory(settings: Settings) -> Path:
    return settings.run_dir / f"kvm-failed-{_BOOT_ID.read_text().strip()}"
