# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of the guest's own, run with the guest as their root. The helper VM is their cage; nothing of theirs stays.

A /dev, /proc, /sys and /run of their own are there while they run, as a package's scripts expect. Each run has name
spaces of its own for processes and mounts, so what it starts in the background ends with it. A hostile image's programs
are root, and the VM holds more than the guest: the job, hooks, overlays, ports to the node. To these they find no way,
for no device, mount, process or file is there but the guest's and the helper's programs. The kernel is all the wall.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper.chroot_devices import furnish, needs_mapper
from snf_image_helper.disks.filesystems import unmount
from snf_image_helper.guest import Guest
from snf_image_shared.process import SEARCH_PATH, Finished, Limits, ProcessError, run, run_capped

_WALL = Path("/run/snf-image/wall")
# Nowhere but in /dev is a device node more than a name. To write to /proc or /sys is to change the kernel: core_pattern
# is a program that it starts outside of all name spaces.
_MOUNTS = (
    ("/dev", ["-t", "tmpfs", "-o", "nosuid,noexec,mode=755", "dev"]),
    ("/proc", ["-t", "tmpfs", "-o", "ro,nr_blocks=1,nr_inodes=1", "proc"]),  # each run has another
    ("/sys", ["-t", "sysfs", "-o", "ro,nosuid,nodev,noexec", "sys"]),
    ("/run", ["-t", "tmpfs", "-o", "nosuid,nodev,mode=755", "run"]),
    ("/tmp", ["-t", "tmpfs", "-o", "nosuid,nodev,mode=1777", "tmp"]),  # noqa: S108 - the guest's
)
# The first process of the name spaces is timeout(1), without a time: the kernel kills all others when it ends. It stays
# outside the guest's root, by which programs tell that they are in a chroot. That outside is all there is besides the
# guest: whoever gets out of a chroot, as root can, is there.
_START = """\
set -e
cd "$1"; privileges=$2; shift 2
mount -t proc -o ro,nosuid,nodev,noexec proc guest/proc
pivot_root . old
umount -l old
exec setpriv --inh-caps=-all --bounding-set="$privileges" timeout --foreground 0 chroot guest "$@"
"""
# What the root of a container without a network has; linux_immutable is for EXTLINUX, which marks its file, mknod for
# old dracuts, which make nodes in their RAM disk. Not there, among others: sys_admin, which mounts (even the helper's
# /dev) and remounts; sys_rawio (the port of the result, memory); sys_module; sys_boot (kexec); sys_ptrace; bpf;
# dac_read_search, which opens a file by its number in whatever directory (dac_override reads all others as well).
_PRIVILEGES = (
    *("chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "setfcap"),
    *("sys_chroot", "sys_nice", "mknod", "linux_immutable", "audit_write"),
)
_FOR_MAPPER = "sys_admin"  # device-mapper answers nobody else
# Labels cannot be copied without sys_admin; dracut of RHEL 8 insists on all attributes for files that lose them in the
# RAM disk, if cp(1) is not told to leave some out.
_ATTRIBUTES = "/etc/xattr.conf"
_LEFT_OUT = "\nsecurity.selinux skip\nsecurity.ima skip\ntrusted.* skip\n"
_TIMEOUT = 900.0  # seconds
_ENVIRONMENT = {
    "PATH": f"/usr/local/sbin:/usr/local/bin:{SEARCH_PATH}",
    "HOME": "/root",
    "TERM": "dumb",
    "DEBIAN_FRONTEND": "noninteractive",
}


@dataclass(frozen=True)
class Chroot:
    """What programs of the guest can be run in: `wall` is a directory of the helper, which has the guest in it."""

    wall: str
    privileges: Sequence[str]

    def run(self, argv: Sequence[str], *, env: dict[str, str] | None = None, limits: Limits | None = None) -> Finished:
        """Run a program of the guest by itself, with nothing to read. Both its outputs are `stdout`, the end of them.

        Raises ProcessError, with its last lines.
        """
        limits = limits or Limits(timeout=_TIMEOUT)
        kept = ",".join(("-all", *(f"+{name}" for name in self.privileges)))
        confined = [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
            *("sh", "-c", _START, "sh", self.wall, kept, *argv),
        ]
        try:
            done = run_capped(confined, name=Path(argv[0]).name, env=_ENVIRONMENT | (env or {}), limits=limits)
        except ProcessError as error:
            raise ProcessError(error.program, error.outcome, _printable("\n".join(error.stderr_tail))) from error
        return Finished(done.status, _printable(done.stdout), "")


@contextmanager
def chroot(guest: Guest) -> Iterator[Chroot]:
    """Mount what programs expect, and unmount all of it. Raises GuestError, ProcessError, OSError."""
    guest.programs_ran = True
    with ExitStack() as stack:
        for path, options in _MOUNTS:
            guest.make_directory(path)
            place = _place(guest, path)
            _mount(stack, options, place)
            if path == "/dev":
                furnish(place, guest)
        _build_wall(stack)
        _leave_out_labels(stack, guest)
        run(["mount", "--rbind", guest.root, str(_WALL / "guest")])
        run(["mount", "-o", "remount,bind,ro,nosuid,nodev", str(_WALL)])
        yield Chroot(str(_WALL), (*_PRIVILEGES, _FOR_MAPPER) if needs_mapper(guest) else _PRIVILEGES)


def _build_wall(stack: ExitStack) -> None:
    """The root outside the guest's: the helper's programs, and nothing that is not in every helper."""
    _WALL.mkdir(parents=True, exist_ok=True)
    _mount(stack, ["-t", "tmpfs", "-o", "nosuid,nodev,mode=755", "wall"], str(_WALL))
    for name in ("etc", "guest", "old", "usr"):
        (_WALL / name).mkdir()
    for name in ("bin", "sbin", "lib", "lib64"):
        (_WALL / name).symlink_to(f"usr/{name}")
    (_WALL / "proc").symlink_to("guest/proc")
    run(["mount", "--bind", "-o", "ro", "/usr", str(_WALL / "usr")])


def _leave_out_labels(stack: ExitStack, guest: Guest) -> None:
    known = guest.read_text(_ATTRIBUTES, missing_ok=True)
    if known is None or guest.is_link(_ATTRIBUTES):
        return
    directory, _, name = _ATTRIBUTES.rpartition("/")
    ours = _WALL / _ATTRIBUTES.lstrip("/")
    ours.write_bytes((known + _LEFT_OUT).encode("utf-8", "surrogateescape"))
    _mount(stack, ["--bind", str(ours)], f"{_place(guest, directory)}/{name}")


def _mount(stack: ExitStack, options: Sequence[str], place: str) -> None:
    run(["mount", *options, place])
    stack.callback(unmount, place, lazily=True)


def _place(guest: Guest, path: str) -> str:
    """Where a directory of the guest is in the helper, by the kernel, inside the root."""
    directory = guest.open_directory(path)
    try:
        return str(Path(f"/proc/self/fd/{directory}").readlink())
    finally:
        os.close(directory)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)
