# SPDX-License-Identifier: GPL-2.0-or-later
"""A swap file in the guest, made so that the guest's own kernel will take it.

Which file can be swap depends on the file system and on the kernel that is to use it: swapon(8), btrfs(5) "SWAPFILE
SUPPORT", and what cloud-init does in its module "Mounts".
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from pathlib import Path

from snf_image_helper.disks.filesystems import EXT, make_swap, mounted_types
from snf_image_helper.files.guest_errors import explained
from snf_image_helper.guest import Guest
from snf_image_shared.errors import GuestError

_MIB = 1 << 20
_ROOM_LEFT = 64 * _MIB  # bytes that a guest needs to boot and log
_PLAIN, _SUBVOLUME = "/swapfile", "/swap"
_PAGE = 4096  # bytes
_SIGNATURE = slice(_PAGE - 10, _PAGE)
_LAST_PAGE = 1028  # union swap_header of linux/swap.h: boot block of 1024 bytes, version, last_page
# linux/fs.h, linux/btrfs.h
_GET_FLAGS, _SET_FLAGS, _NO_COW = 0x80086601, 0x40086602, 0x00800000
_SUBVOLUME_CREATE, _SUBVOLUME_ARGUMENTS = 0x5000940E, struct.Struct("q4088s")
_SUPPORTED = EXT | {"xfs", "btrfs"}
_MODULES = ("/usr/lib/modules", "/lib/modules")
# The first kernels that take a preallocated file on xfs, and any file on btrfs.
_XFS_PREALLOCATED, _BTRFS = (4, 18), (5, 0)


def make_swap_file(guest: Guest, mib: int) -> str:
    """Make a swap file of `mib` MiB unless it is there already; the answer is its path.

    On btrfs it lies in a subvolume of its own, as no subvolume with swap in use can be snapshotted. Raises GuestError
    when there is no room, something else has its name, or the guest's kernel could not use it.
    """
    kind = _file_system(guest)
    if kind == "btrfs" and (kernel := _oldest_kernel(guest)) and kernel < _BTRFS:
        raise GuestError(
            f"property SWAP: the guest's kernel {kernel[0]}.{kernel[1]} has no swap files on btrfs, only 5.0 and later "
            "have; use <partition>:<MiB> or a disk"
        )
    path = f"{_SUBVOLUME}/swapfile" if kind == "btrfs" else _PLAIN
    if guest.exists(path):
        if not _is_swap_of(guest, path, mib * _MIB):
            raise GuestError(f"property SWAP: {path} exists and is no swap of {mib} MiB; remove it from the image")
        return path
    directory = guest.open_directory("/")
    try:
        _check_room(directory, mib)
        if kind == "btrfs":
            directory = _enter_subvolume(guest, directory)
        with explained(path):
            _make(directory, Path(path).name, mib * _MIB, written=_must_be_written(guest, kind))
    finally:
        os.close(directory)
    guest.changed.add(path)
    return path


def _file_system(guest: Guest) -> str:
    device = guest.mounts.get("/", "")
    kind = mounted_types().get(device, ("", ""))[0]
    if kind not in _SUPPORTED:
        raise GuestError(
            f"property SWAP: a swap file on {kind or 'an unknown file system'} is not supported, only on "
            f"{', '.join(sorted(_SUPPORTED))}; use <partition>:<MiB> or a disk"
        )
    return kind


def _oldest_kernel(guest: Guest) -> tuple[int, int] | None:
    """The lowest version among the guest's kernels, from the names of their modules."""
    names = (name for path in _MODULES for name in guest.list_directory(path, missing_ok=True))
    found = (re.match(r"([0-9]{1,3})\.([0-9]{1,3})(?![0-9])", name) for name in names)
    return min(((int(match[1]), int(match[2])) for match in found if match), default=None)


def _must_be_written(guest: Guest, kind: str) -> bool:
    """Whether preallocated space would be holes to the kernel that is to use it."""
    kernel = _oldest_kernel(guest)
    return kind in {"ext2", "ext3"} or (kind == "xfs" and (kernel is None or kernel < _XFS_PREALLOCATED))


def _is_swap_of(guest: Guest, path: str, size: int) -> bool:
    head = guest.head(path, _PAGE)
    if len(head) < _PAGE or head[_SIGNATURE] != b"SWAPSPACE2":
        return False
    return (int.from_bytes(head[_LAST_PAGE : _LAST_PAGE + 4], "little") + 1) * _PAGE == size


def _check_room(directory: int, mib: int) -> None:
    found = os.fstatvfs(directory)
    free = found.f_bavail * found.f_frsize
    if free < mib * _MIB + _ROOM_LEFT:
        raise GuestError(
            f"property SWAP: a swap file of {mib} MiB and {_ROOM_LEFT // _MIB} MiB to spare do not fit into the "
            f"{free // _MIB} MiB that are free in the guest; use a larger disk or ask for less"
        )


def _enter_subvolume(guest: Guest, root: int) -> int:
    """Open the subvolume for the file, made if need be, in exchange for the open root directory."""
    if guest.is_link(_SUBVOLUME):
        raise GuestError(f"{_SUBVOLUME} is a symbolic link, where the swap file belongs; remove it from the image")
    if not guest.exists(_SUBVOLUME):
        with explained(_SUBVOLUME):
            arguments = bytearray(_SUBVOLUME_ARGUMENTS.pack(0, _SUBVOLUME.removeprefix("/").encode()))
            fcntl.ioctl(root, _SUBVOLUME_CREATE, arguments)
        guest.chmod(_SUBVOLUME, 0o700)
        guest.changed.add(_SUBVOLUME)
    entered = guest.open_directory(_SUBVOLUME)
    os.close(root)
    return entered


def _make(directory: int, name: str, size: int, *, written: bool) -> None:
    """It gets its name when it is whole. Raises OSError, ProcessError."""
    file = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        os.fchmod(file, 0o600)
        _forbid_copy_on_write(file)
        if written:
            _write_zeros(file, size)
        else:
            os.posix_fallocate(file, 0, size)
        make_swap(f"/proc/self/fd/{file}", file)
        os.fsync(file)
        os.link(f"/proc/self/fd/{file}", name, dst_dir_fd=directory)
    finally:
        os.close(file)


def _forbid_copy_on_write(file: int) -> None:
    """Only btrfs has a use for it, and wants it before the first byte; it turns compression off as well."""
    flags = bytearray(8)
    try:
        fcntl.ioctl(file, _GET_FLAGS, flags)
        fcntl.ioctl(file, _SET_FLAGS, struct.pack("q", int.from_bytes(flags[:4], "little") | _NO_COW))
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL}:
            raise


def _write_zeros(file: int, size: int) -> None:
    zeros = bytes(_MIB)
    while size > 0:
        size -= os.write(file, zeros[:size])
