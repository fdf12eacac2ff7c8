# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts the system volume of a Windows guest."""

from __future__ import annotations

from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.volumes import Volumes
from snf_image_helper.guest import Guest
from snf_image_helper.mounts import Mounts
from snf_image_helper.system import System
from snf_image_shared.errors import GuestError


def mount_windows(disk: Disk, system: System, volumes: Volumes, mounts: Mounts, only: frozenset[str] | None) -> Guest:
    """As mount_linux(). Raises GuestError."""
    raise GuestError(f"OSFAMILY {system.family} cannot be mounted by this version")
