# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts the guest as its own system would, and takes it all down again whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from snf_image_helper.bsd import mounting as bsd_mounting
from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.volumes import volumes_of
from snf_image_helper.guest import Guest
from snf_image_helper.linux.mounting import mount_linux
from snf_image_helper.mounts import Mounts
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import System
from snf_image_helper.task import BSD, MOUNT_IMAGE, UMOUNT_IMAGE, WINDOWS, reported
from snf_image_helper.windows.mounting import mount_windows, refuse_unsafe

_WAYS = dict.fromkeys(WINDOWS, mount_windows) | dict.fromkeys(BSD, bsd_mounting.mount_bsd)


def refuse_unmountable(disk: Disk, system: System) -> None:
    """Refuse a guest that mounted() could tell by a look not to write to. Nothing is written. Raises GuestError."""
    if system.family in WINDOWS:
        refuse_unsafe(disk, system)
    elif system.family in BSD:
        bsd_mounting.refuse_unsafe(disk, system)


@contextmanager
def mounted(
    disk: Disk, system: System, report: Reporter, *, only: frozenset[str] | None = None, read_only: bool = False
) -> Iterator[Guest]:
    """The guest with everything mounted, `guest.mounts` filled; flushed and unmounted at the end, deepest first.

    With `only`, nothing but the root and these mount points is mounted, and the latter are as good as nofail. With
    `read_only` the devices are not touched, journals included.
    Reports MountImage and UmountImage. Raises GuestError when the root or what fstab demands cannot be mounted or
    unmounted; a failure of the body is raised instead, after unmounting.
    """
    mounts = Mounts(report, read_only, repairs=only is None and not read_only)
    mount = _WAYS.get(system.family, mount_linux)
    with ExitStack() as cleanup:
        with reported(MOUNT_IMAGE, report):
            volumes = cleanup.enter_context(volumes_of(disk, system, report, read_only=read_only))
            cleanup.callback(mounts.abandon)
            guest = cleanup.enter_context(mount(disk, system, volumes, mounts, only))
        yield guest
        guest.close()
        with reported(UMOUNT_IMAGE, report):
            mounts.release()
