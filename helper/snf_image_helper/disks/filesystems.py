# SPDX-License-Identifier: GPL-2.0-or-later
"""File systems on partitions: what they are, how they are mounted, how they grow. Nothing here decides which."""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper.disks import ntfs
from snf_image_helper.disks.checking import finding, first_finding
from snf_image_helper.disks.kernel_log import messages_about
from snf_image_helper.disks.ufs import UFS, read_ufs
from snf_image_shared.errors import GuestError
from snf_image_shared.process import Limits, ProcessError, run

EXT = frozenset({"ext2", "ext3", "ext4"})
F2FS = "f2fs"
MOUNTABLE = EXT | {"xfs", "btrfs", "vfat", F2FS, UFS}
SWAP = "swap"

# Options for a first look at a file system that may be damaged: its journal stays as it is.
_LOOK = {"ext3": "noload", "ext4": "noload", "xfs": "norecovery", "btrfs": "rescue=nologreplay", F2FS: "norecovery"}
_CHECK_SECONDS = 3600.0
_REPAIRED, _REPAIRED_REBOOT = 1, 2  # e2fsck(8)

# struct ext4_super_block, fs/ext4/ext4.h: the state is 58 bytes behind the superblock's begin at 1024.
_STATE_OFFSET, _HAS_ERRORS = 1024 + 58, 2
_XFS_VERSION_OFFSET = 101  # struct xfs_dsb, fs/xfs/libxfs/xfs_format.h: sb_versionnum, big-endian; 4 bits of it count

# What kernels say when they bring one in order: fs/ext4/super.c, fs/xfs/xfs_log_recover.c, fs/btrfs/disk-io.c.
_REPLAYED = re.compile(r"recovery complete|Ending recovery|start tree-log replay|recover", re.IGNORECASE)

# sys/mount.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8


@dataclass(frozen=True)
class FileSystem:
    """What blkid recognised on a device: `type` is its name ("crypto_LUKS") or "", `label` is as spelled() gives it."""

    device: str
    type: str = ""
    uuid: str = ""
    label: str = ""


def probe(devices: Sequence[str]) -> dict[str, FileSystem]:
    """Look at all `devices` with as few program starts as possible; a device with nothing on it has type ""."""
    found = {device: FileSystem(device) for device in devices}
    rest = list(devices)
    while rest:
        done = run(["blkid", "-p", "-o", "export", *rest], limits=Limits(accept=frozenset({0, 2, 8})))
        seen = {item.device: item for item in _parse_export(done.stdout)}
        found.update(seen)
        if done.status == 0:
            break
        # blkid stops at the first device on which it sees nothing, or too much.
        unseen = [number for number, device in enumerate(rest) if device not in seen]
        if not unseen:
            break
        rest = rest[unseen[0] + 1 :]
    return found


def spelled(label: str) -> str:
    """A label as FileSystem has it: blkid writes control characters as ^c and bytes beyond ASCII as M-c."""
    text = ""
    for byte in label.encode("utf-8", "surrogateescape"):
        low = byte & 0x7F
        text += ("M-" if byte > low else "") + (f"^{chr(low ^ 0x40)}" if low < 0x20 or low == 0x7F else chr(low))
    return text


def mount(device: str, target: str, kind: str, options: str = "") -> tuple[str, ...]:
    """Mount read-write, without device nodes and set-uid; the answer are warnings. Raises GuestError."""
    if kind == ntfs.NTFS:
        return ntfs.mount(device, target)
    with messages_about(device) as messages:
        _mount(device, target, kind, _MS_NODEV | _MS_NOSUID, options)
        replayed = any(_REPLAYED.search(line) for line in messages.read())
    return (_unclean(device),) if replayed else ()


def check_writable(device: str, mount_point: str) -> None:
    """Refuse a mount that the kernel made read-only because the file system is damaged. Raises GuestError."""
    if os.statvfs(mount_point).f_flag & os.ST_RDONLY:
        raise GuestError(f"{device} has become read-only: its file system is damaged; check the image with fsck")


def repair_known_errors(device: str, kind: str) -> tuple[str, ...]:
    """Let e2fsck bring an unmounted ext2/3/4 in order in which a kernel has found errors; the answer are warnings.

    Raises GuestError when there are some that it must not repair by itself, OSError.
    """
    return _check_ext(device) if kind in EXT and _has_errors(device) else ()


def refuse_errors(device: str) -> None:
    """Refuse a mounted ext2/3/4 in which a kernel has found errors: e2fsck has to come before the next change.

    Raises GuestError, OSError.
    """
    if mounted_types()[device][0] in EXT and _has_errors(device):
        raise GuestError(f"the file system on {device} has errors; start the guest, which checks it, or run e2fsck")


def mount_for_a_look(device: str, target: str, kind: str, options: str = "") -> None:
    """Mount read-only without touching the device. Raises GuestError."""
    if kind == ntfs.NTFS:
        ntfs.mount_for_a_look(device, target)
        return
    joined = ",".join(filter(None, (_LOOK.get(kind), options)))
    _mount(device, target, kind, _MS_RDONLY | _MS_NODEV | _MS_NOSUID | _MS_NOEXEC, joined)


def unmount(target: str, *, lazily: bool = False) -> None:
    """Unmount and flush what is mounted at `target`; `lazily` only takes it out of sight. Raises GuestError."""
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazily else 0)
    with nullcontext() if lazily else ntfs.waited_for(target):
        if _libc().umount2(os.fsencode(target), flags):
            reason = os.strerror(ctypes.get_errno())
            raise GuestError(f"{target} cannot be unmounted ({reason}); does a custom task leave programs running?")


def grow_ext(device: str, *, durable: bool) -> tuple[str, ...]:
    """Check an unmounted ext2/3/4 and let it fill its partition; the answer are warnings.

    Raises GuestError when e2fsck finds what it must not repair by itself. `durable` keeps resize2fs' own flushes.
    """
    warnings = _check_ext(device, "-f")
    resize = ["resize2fs", device] if durable else ["eatmydata", "resize2fs", device]
    run(resize, limits=Limits(_CHECK_SECONDS))
    return warnings


def grow_f2fs(device: str, place: str) -> tuple[str, ...]:
    """Let an unmounted f2fs fill its device; the answer are warnings. `place` is an empty directory to mount it at.

    Raises GuestError when its checker finds something.
    """
    warnings: tuple[str, ...] = ()
    if "unmount" not in _f2fs_state(device):
        mount(device, place, F2FS)
        unmount(place)
        warnings = (_unclean(device),)
    faults = finding(device, F2FS)
    if faults:
        raise GuestError(f"the f2fs on {device} is damaged: {faults}; repair the image and publish it anew")
    run(["resize.f2fs", device], limits=Limits(_CHECK_SECONDS))
    return warnings


def grow_mounted(kind: str, device: str, mount_point: str) -> None:
    """Let a mounted xfs or btrfs fill its device. `mount_point` is a path of the helper."""
    match kind:
        case "xfs":
            run(["xfs_growfs", "-d", mount_point], limits=Limits(_CHECK_SECONDS))
        case "btrfs":
            number = _btrfs_device_number(device, mount_point)
            run(["btrfs", "filesystem", "resize", f"{number}:max", mount_point], limits=Limits(_CHECK_SECONDS))
        case _:
            raise ValueError(kind)


def make_swap(device: str, *descriptors: int) -> str:
    """Make a swap area over the whole device or file, whatever it held; the answer is its UUID.

    `descriptors` are those that `device`, a path like /proc/self/fd/7, speaks of.
    """
    uuid = Path("/proc/sys/kernel/random/uuid").read_text(encoding="ascii").strip()
    # -f: a secondary disk may carry an old partition table, and SWAP says that the disk is given up.
    run(["mkswap", "-f", "-U", uuid, device], limits=Limits(pass_fds=descriptors))
    return uuid


def mounted_types() -> dict[str, tuple[str, str]]:
    """Device -> (file system type, one of its mount points), of everything mounted now."""
    found: dict[str, tuple[str, str]] = {}
    for device, target, kind, *_ in mount_table("/proc/self/mounts"):
        found.setdefault(device, (kind, target))
    return found


def mount_table(path: str) -> Iterator[list[str]]:
    """The fields of each line of /proc/self/mounts or mountinfo, as proc(5) has them.

    A guest's names may hold whatever Python takes for the end of a line; the kernel hides a newline alone.
    """
    for line in filter(None, Path(path).read_bytes().decode("utf-8", "surrogateescape").split("\n")):
        yield [re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field) for field in line.split(" ")]


def _parse_export(text: str) -> list[FileSystem]:
    found = []
    for block in text.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "DEVNAME" in values:
            values = {name: _unescaped(value) for name, value in values.items()}
            found.append(
                FileSystem(values["DEVNAME"], values.get("TYPE", ""), values.get("UUID", ""), values.get("LABEL", ""))
            )
    return found


def _unescaped(text: str) -> str:
    r"""Undo blkid's \c; what spelled() does to a label cannot be undone."""
    return re.sub(r"\\(.)", r"\1", text)


def _check_ext(device: str, *options: str) -> tuple[str, ...]:
    try:
        done = run(["e2fsck", "-p", *options, device], limits=Limits(_CHECK_SECONDS, frozenset(range(256))))
    except ProcessError as error:
        raise GuestError(f"{error}; check the image with e2fsck -f and publish it anew") from error
    if done.status not in {0, _REPAIRED, _REPAIRED_REBOOT}:
        said = first_finding(f"{done.stdout}\n{done.stderr}")
        raise GuestError(
            f"the file system on {device} is damaged: e2fsck failed with status {done.status} and says: {said}; "
            "run e2fsck -f on the image's file system and publish it anew"
        )
    if "recovering journal" in done.stdout:
        return (_unclean(device),)
    return (f"e2fsck repaired the file system on {device}; check the image",) if done.status else ()


def _unclean(device: str) -> str:
    return f"the file system on {device} was not unmounted cleanly: its journal has been replayed"


def _has_errors(device: str) -> bool:
    with Path(device).open("rb") as file:
        return bool(os.pread(file.fileno(), 1, _STATE_OFFSET)[0] & _HAS_ERRORS)


def _f2fs_state(device: str) -> str:
    """The line of the checkpoint's flags, "unmount" among them for one that needs no recovery: f2fs_fs.h."""
    said = run(["dump.f2fs", device], limits=Limits(accept=frozenset(range(256)))).stdout
    found = re.search(r"checkpoint state = (.*)", said)
    return found[1] if found else ""


def _mount(device: str, target: str, kind: str, flags: int, options: str) -> None:
    if kind == UFS:
        options = f"ufstype={read_ufs(device).kind}"
    arguments = (os.fsencode(device), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), os.fsencode(options))
    with messages_about(device) as messages:
        if _libc().mount(*arguments):
            raise GuestError(_why_not_mounted(device, kind, options, ctypes.get_errno(), messages.read()))


def _why_not_mounted(device: str, kind: str, options: str, number: int, said: Sequence[str]) -> str:
    if kind == UFS and number in {errno.ENODEV, errno.EROFS}:
        return "the helper's kernel does not write UFS; rebuild the helper with snf-image-update-helper --with-ufs"
    if number == errno.ENODEV:
        return f"the helper's kernel does not know {kind}; rebuild the helper with snf-image-update-helper"
    if number == errno.ENOENT and options:
        return f"the {kind} on {device} has nothing for {options}; correct the subvolume in /etc/fstab"
    if kind == "xfs" and _is_old_xfs(device):
        return (
            f"{device} is an xfs of the old format 4 (crc=0), which the helper's kernel does not mount; "
            "make the image's file system anew with a current mkfs.xfs"
        )
    reasons = [os.strerror(number), *said[-1:], *filter(None, (finding(device, kind),))]
    return f"{device} cannot be mounted as {kind} ({'; '.join(reasons)}); check it with fsck in the image"


def _is_old_xfs(device: str) -> bool:
    try:
        with Path(device).open("rb") as file:
            return os.pread(file.fileno(), 1, _XFS_VERSION_OFFSET)[0] & 0xF == 4
    except (OSError, IndexError):
        return False


def _btrfs_device_number(device: str, mount_point: str) -> int:
    listing = run(["btrfs", "filesystem", "show", "--raw", mount_point]).stdout
    for number, path in re.findall(r"^\s*devid\s+(\d+)\s.*\spath\s+(\S+)", listing, re.MULTILINE):
        if path == device:
            return int(number)
    raise GuestError(f"{device} is not among the devices of its btrfs; a btrfs over several disks cannot be grown")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
