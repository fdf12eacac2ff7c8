# SPDX-License-Identifier: GPL-2.0-or-later
"""An instance's disk -> an open Target or Source, wherever its bytes are: behind a path, or behind a URI."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from snf_image_host.configuration.settings import Settings
from snf_image_host.disks.instance_disks import InstanceDisk
from snf_image_host.disks.remote_disks import RemoteSource, open_remote_source, open_remote_target
from snf_image_host.disks.targets import Target, open_target
from snf_image_host.disks.userspace import Node, parse_uri
from snf_image_host.images.formats import FIRMWARE_MAGIC
from snf_image_host.images.sources import Source, open_device
from snf_image_host.vm.helper_image import PARTS
from snf_image_shared.errors import DiskError


def data_disks(disks: Sequence[InstanceDisk]) -> tuple[InstanceDisk, ...]:
    """The disks without Ganeti's firmware disk, which stands behind the first and is known by its first bytes.

    Nothing but these is read of a disk, and no lock is taken. The first is never looked at: it is the system's,
    whatever a tenant has written there.
    """
    return (disks[0], *(disk for disk in disks[1:] if not _is_firmware(disk)))


def kind_of(disk: InstanceDisk) -> str:
    """The name of what writes the disk, as the administrator may turn it off: "uri" or "local"."""
    return "uri" if isinstance(_place(disk), Node) else "local"


@contextmanager
def open_disks(
    disks: Sequence[InstanceDisk], settings: Settings
) -> Iterator[tuple[Target, *tuple[Target | Source | RemoteSource, ...]]]:
    """All disks of an instance, checked and locked, for the length of the block. The first is writable.

    To be entered before any thread is started. Raises RequestError for a URI, DiskError, ConfigurationError.
    """
    with ExitStack() as stack:
        first = stack.enter_context(open_for_writing(disks[0], settings))
        others = [stack.enter_context(_opened(disk, settings)) for disk in disks[1:]]
        yield (first, *others)


@contextmanager
def open_for_writing(disk: InstanceDisk, settings: Settings) -> Iterator[Target]:
    """The disk behind its path if that is usable, else behind its URI. Raises as open_disks() does."""
    place = _place(disk)
    with open_remote_target(place, settings) if isinstance(place, Node) else open_target(place) as target:
        _check_not_ours(target, settings.helper_dir)
        yield target


def open_for_reading(disk: InstanceDisk, settings: Settings) -> AbstractContextManager[Source | RemoteSource]:
    """As open_for_writing(), for reading alone."""
    place = _place(disk)
    return open_remote_source(place, settings) if isinstance(place, Node) else open_device(place)


def _opened(disk: InstanceDisk, settings: Settings) -> AbstractContextManager[Target | Source | RemoteSource]:
    return open_for_writing(disk, settings) if disk.access == "rw" else open_for_reading(disk, settings)


def _check_not_ours(target: Target, helper_dir: Path) -> None:
    """Raise DiskError for a part of the helper image, by whatever name it goes: every helper VM boots from it."""
    for part in (helper_dir / name for name in PARTS):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if any(os.path.samestat(part.stat(), os.fstat(own)) for own in target.descriptors):
                raise DiskError(f"{target.name}: is a part of the helper image, {part}: give the instance's disk")


def _place(disk: InstanceDisk) -> Path | Node:
    """The path if it is a block device or a file, or if there is nothing else: Ganeti gives both where it has both."""
    if disk.path is not None and (not disk.uri or _type(disk.path) is not None):
        return disk.path
    return parse_uri(disk.uri, disk.variable)


def _type(path: Path) -> int | None:
    """The kind of a block device or a regular file (stat.S_IFMT); None for everything else, also for nothing."""
    with contextlib.suppress(OSError):
        kind = stat.S_IFMT(path.stat().st_mode)
        return kind if kind in {stat.S_IFBLK, stat.S_IFREG} else None
    return None


def _is_firmware(disk: InstanceDisk) -> bool:
    """Whether Ganeti's superblock is there (ganeti lib/hypervisor/hv_kvm/firmware.py). It always has a path."""
    if disk.path is None or _type(disk.path) is None:
        return False
    try:
        fd = os.open(disk.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # whoever opens it will say why
    try:
        return os.pread(fd, len(FIRMWARE_MAGIC), 0) == FIRMWARE_MAGIC
    except OSError:
        return False
    finally:
        os.close(fd)
