# SPDX-License-Identifier: GPL-2.0-or-later
"""What tasks do to a file system, and more: run on UFS by the helper's kernel, as the VM's only program, and on the
test's own file system, which says what has to come of it."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import random
import subprocess
import traceback
from pathlib import Path

from snf_image_helper.disks.filesystems import mount, mount_for_a_look, unmount

Picture = dict[str, tuple[int, int, int, int, str]]
_MOUNTED = Path("/run/ufs")


def exercise(root: Path) -> None:
    """Replace, make, grow, truncate, link, move and delete, the same each time."""
    chance = random.Random(6)
    for number in range(20):
        _replace(root / f"etc/replaced-{number % 3}", chance.randbytes(number * 977))
    new = root / "new"
    new.mkdir(mode=0o750)
    os.chown(new, 1001, 0)
    files = [new / f"file-{number}-{'y' * (number % 120)}" for number in range(200)]
    for number, path in enumerate(files):
        path.write_bytes(chance.randbytes(number * 101 % 20_000))
    for path in files[::3]:
        path.unlink()
    for path in sorted((root / "many").iterdir())[::2]:
        path.unlink()
    (new / "short").symlink_to("../etc")
    (new / "long").symlink_to("/x" * 250)
    (new / "hard").hardlink_to(root / "etc/replaced-1")
    os.mkfifo(new / "pipe", 0o600)
    _resize(root, chance)
    for name in ("one", "one/two", "one/three", "four"):
        (root / name).mkdir()
    (root / "one/two").rename(root / "four/moved")
    (root / "one/three").rmdir()
    (root / "large").unlink()
    (root / "etc/small").rename(root / "etc/small-moved")
    _fill(root / "fill")


def picture(root: Path) -> Picture:
    """Path -> mode, owner, group, links (of what is no directory), and a hash of the content or the target."""
    found: Picture = {}
    for path in [root, *sorted(root.rglob("*"))]:
        status = path.lstat()
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            content = ""
        mode = 0 if path.is_symlink() else status.st_mode  # Linux gives all links one mode, makefs the tree's
        links = 0 if path.is_dir() else status.st_nlink
        found[str(path.relative_to(root))] = (mode, status.st_uid, status.st_gid, links, content)
    return found


def _replace(path: Path, content: bytes) -> None:
    scratch = path.with_name(".scratch")
    with scratch.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.chmod(0o640)
    os.chown(scratch, 7, 8)
    scratch.rename(path)


def _resize(root: Path, chance: random.Random) -> None:
    with (root / "resized").open("w+b") as file:
        file.write(chance.randbytes(2_000_000))
        for size in (1_000_000, 1000, 50_001, 3_000_000, 700_000):
            file.truncate(size)
    with (root / "overwritten").open("w+b") as file:
        for number in range(100):
            file.seek(chance.randrange(400_000))
            file.write(bytes([number]) * 300)
    for _ in range(100):
        with (root / "appended").open("ab") as file:
            file.write(chance.randbytes(311))


def _fill(place: Path) -> None:
    """Write until there is no more room, 24 MiB at the most, and delete it."""
    place.mkdir()
    for number in range(24):
        try:
            (place / str(number)).write_bytes(bytes([number]) * (1 << 20))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            break
    for path in place.iterdir():
        path.unlink()
    place.rmdir()


def _in_the_vm() -> None:
    """Each disk before the last, which gets the report: a JSON object of pictures, or of what went wrong."""
    disks = sorted(path for path in Path("/dev").glob("vd[b-z]"))
    report: dict[str, object] = {}
    try:
        for disk in disks[:-1]:
            report[disk.name] = _one(str(disk))
    except BaseException:
        report["failure"] = traceback.format_exc() + "\n".join(_kernel())
    content = json.dumps(report).encode()
    with disks[-1].open("r+b") as file:
        file.write(len(content).to_bytes(8, "little") + content)
    os.sync()
    subprocess.run(["busybox", "poweroff", "-f"], check=True)


def _one(disk: str) -> dict[str, Picture | list[str]]:
    _MOUNTED.mkdir(exist_ok=True)
    mount(disk, str(_MOUNTED), "ufs")
    before = picture(_MOUNTED)
    exercise(_MOUNTED)
    unmount(str(_MOUNTED))
    os.sync()
    ctypes.CDLL(None).sync()
    mount_for_a_look(disk, str(_MOUNTED), "ufs")
    after = picture(_MOUNTED)
    unmount(str(_MOUNTED))
    return {"before": before, "after": after, "kernel": [line for line in _kernel() if "UFS-fs" in line]}


def _kernel() -> list[str]:
    return subprocess.run(["dmesg"], capture_output=True, text=True, check=False).stdout.splitlines()[-40:]


if __name__ == "__main__":
    os.environ["PATH"] = "/usr/sbin:/usr/bin"
    _in_the_vm()
