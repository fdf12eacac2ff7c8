# SPDX-License-Identifier: GPL-2.0-or-later
"""A small guest that was cut off while it ran: only the journal knows of its newest file. And a tree, to the bit."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from images.partitions import MIB, Partition, Table, TableType, Type, create_disk

BOOT, ROOT = 1, 2
NEWEST = "var/newest"
SWAP = "swapfile"
TABLE = Table(
    TableType.MBR,
    "0x5eed0007",
    200,
    (
        Partition(BOOT, 2048, 40 * 2048, Type.MBR_LINUX, bootable=True),
        Partition(ROOT, 41 * 2048, 159 * 2048, Type.MBR_LINUX),
    ),
)
_WRITTEN_INTO = {".", "boot", "etc"}  # by a deployment
_UUIDS = {BOOT: "7f3a9f7e-2c52-4d5c-9c7b-1d1f4b8f0b01", ROOT: "7f3a9f7e-2c52-4d5c-9c7b-1d1f4b8f0b02"}
_LONG = "a name of two hundred bytes " * 7
_FSTAB = (
    f"UUID={_UUIDS[ROOT]} / ext4 defaults 0 1\nUUID={_UUIDS[BOOT]} /boot ext4 defaults 0 2\n/{SWAP} none swap sw 0 0\n"
)


def lived_in_disk(disk: Path, scratch: Path) -> None:
    """Make the disk. Raises CalledProcessError."""
    running = scratch / "running"
    create_disk(running, TABLE)
    for number, features in ((BOOT, "^has_journal"), (ROOT, "has_journal")):
        partition = TABLE.partition(number)
        make = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-U", _UUIDS[number], "-O", features]
        make += ["-E", f"offset={partition.offset}", str(running), f"{partition.length >> 10}k"]
        subprocess.run(make, check=True, capture_output=True)
    with mounted(running, BOOT, scratch) as boot:
        (boot / "vmlinuz").write_bytes(b"a kernel" * 1000)
    with mounted(running, ROOT, scratch) as root:
        fill(root)
        os.sync()
        (root / NEWEST).write_text("written last\n")
        for path in (root / NEWEST, root / "var"):
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        shutil.copyfile(running, disk)
    running.unlink()


@contextmanager
def mounted(disk: Path, number: int, scratch: Path, table: Table = TABLE) -> Iterator[Path]:
    """The partition, mounted by this machine's kernel."""
    partition = table.partition(number)
    place = scratch / f"mount-{number}"
    place.mkdir(exist_ok=True)
    options = f"loop,offset={partition.offset},sizelimit={partition.length}"
    subprocess.run(["mount", "-o", options, str(disk), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def manifest(root: Path, *, unit: int = 1) -> Mapping[str, object]:
    """Path -> all that is to be the same in a copy of the tree, times in units of so many nanoseconds.

    What a deployment writes itself is left out.
    """
    found: dict[str, object] = {}
    links: dict[int, str] = {}
    for directory, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name != "lost+found")
        for name in (".", *names, *sorted(files)):
            path = Path(directory, name)
            inside = os.path.relpath(path, root)
            status = path.lstat()
            first = links.setdefault(status.st_ino, inside) if stat.S_ISREG(status.st_mode) else inside
            attributes = os.listxattr(path, follow_symlinks=False)
            found[inside] = (
                stat.S_IFMT(status.st_mode),
                oct(status.st_mode),
                (status.st_uid, status.st_gid),
                status.st_rdev if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else 0,
                None if inside in _WRITTEN_INTO else status.st_mtime_ns // unit,
                first,
                {name: os.getxattr(path, name, follow_symlinks=False) for name in attributes},
                _content(path, status),
            )
    for rewritten in ("etc/fstab", SWAP):
        found.pop(rewritten, None)
    return found


def _content(path: Path, status: os.stat_result) -> object:
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    if stat.S_ISREG(status.st_mode):
        return status.st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    return None


def fill(root: Path) -> None:
    """Make the tree of the guest's root in the empty directory, which must take all attributes."""
    for name in (
        "boot",
        "dev",
        "proc",
        "run",
        "sys",
        "tmp",
        "etc",
        "root",
        "sbin",
        "var",
        "var/deep/er",
        f"var/{_LONG}",
    ):
        (root / name).mkdir(parents=True)
    for name, text in {
        "etc/fstab": _FSTAB,
        "etc/os-release": 'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13"\n',
        "etc/debian_version": "13\n",
        "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
        "etc/hostname": "lived\n",
        "etc/shadow": "root:*:19000:0:99999:7:::\n",
        f"var/{_LONG}/ünï\ncode": "odd\n",
    }.items():
        (root / name).write_text(text)
    (root / "etc/shadow").chmod(0o640)
    os.chown(root / "etc/shadow", 0, 42)
    capable = root / "var/capable"
    capable.write_bytes(b"\x7fELF" * 100)
    os.chown(capable, 4_000_000_000, 100_000)
    capable.chmod(0o4755)
    for tool in (
        ["setcap", "cap_net_raw+ep"],
        ["setfacl", "-m", "u:1000:r"],
        ["setfattr", "-n", "security.selinux", "-v", "system_u:object_r:bin_t:s0"],
        ["setfattr", "-n", "trusted.of_root", "-v", "1"],
        ["setfattr", "-n", "user.of_all", "-v", "2"],
    ):
        words = [tool[0], *tool[1:], str(capable)] if tool[0] != "setcap" else ["setcap", tool[1], str(capable)]
        subprocess.run(words, check=True)
    subprocess.run(["setfacl", "-d", "-m", "g:77:rx", str(root / "var/deep")], check=True)
    os.link(capable, root / "var/hard")
    os.symlink("/nowhere/at/all", root / "var/link")
    os.chown(root / "var/link", 1234, 5678, follow_symlinks=False)
    os.mkfifo(root / "var/pipe")
    os.mknod(root / "var/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with (root / "var/sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(20 * MIB)
        file.write(b"end")
    (root / SWAP).write_bytes(os.urandom(3 * MIB))
    for number, name in enumerate(("var/link", "var/deep/er", "var/capable", "var")):
        os.utime(root / name, ns=(0, 1_000_000_000_123_456_700 + number), follow_symlinks=False)
