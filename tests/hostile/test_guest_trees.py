# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that lay something hostile at every path that a task writes.

What the tasks write is not listed here: each of them is run over trees like the published images', and asked what it
has changed. Then it meets the same tree with a trap at each of those paths. It may do its work inside the root or
refuse it in words that name the place; it never reaches what lies outside, never waits, and leaves no half of a file.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import cast

import pytest

from phony_guests import MUTABLE
from snf_image_helper import tasks
from snf_image_helper.disks.disk import Disk
from snf_image_helper.guest import Guest
from snf_image_helper.system import OsFamily, System
from snf_image_helper.task import Task, plan
from snf_image_shared.errors import SnfImageError
from snf_image_shared.job import Ipv4Method, Ipv6Method, Job, Nic, PersonalityFile, Secrets
from unit.helper.disk_images import Listener, private_mounts, sh
from unit.helper.guest_trees import JOB

pytestmark = pytest.mark.root

LONGEST = 60  # seconds for one task: a FIFO that somebody opened would take for ever
SYSTEM = System(OsFamily.LINUX, 1)
NOT_HERE = {"FilesystemResizeMounted"}  # it writes no file
MIB = 1 << 20
# What the trees lack and the tasks of boot and language look for.
BESIDES: Mapping[str, bytes] = {
    "/usr/share/zoneinfo/Europe/Athens": b"TZif2",
    "/etc/timezone": b"Etc/UTC\n",
    "/usr/lib/kbd/keymaps/gr.map.gz": b"",
    "/usr/share/bkeymaps/gr/gr.bmap.gz": b"",
    "/etc/securetty": b"tty1\n",
    "/boot/grub/grub.cfg": b"menuentry x {\n\tlinux /vmlinuz ro\n}\n",
    "/boot/grub2/grubenv": b"# GRUB Environment Block\nkernelopts=ro\n".ljust(1024, b"#"),
    "/boot/loader/entries/x.conf": b"title x\nlinux /vmlinuz\noptions ro\n",
    "/boot/extlinux.conf": b"LABEL x\nLINUX vmlinuz\nAPPEND ro\n",
    "/boot/efi/EFI/debian/grubx64.efi": b"MZ",
    "/root/.ssh/authorized_keys": b"",
}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f x@y"
NATIVE = replace(
    JOB,
    disks=("disk-0", "disk-1"),
    seed="00" * 64,
    secrets=Secrets(password="secret", authorized_keys=KEY),
    nics=(
        Nic(
            "aa:00:00:00:00:01",
            ipv4=Ipv4Method.STATIC,
            address4="192.0.2.7/24",
            gateway4="192.0.2.1",
            ipv6=Ipv6Method.SLAAC,
            nameservers=("192.0.2.53",),
            search=("example.com",),
        ),
    ),
    personality=(PersonalityFile("/srv/personality/file", base64.b64encode(b"content\n").decode()),),
    properties={
        "SWAP": "b",
        "TIMEZONE": "Europe/Athens",
        "LOCALE": "el_GR.UTF-8",
        "KEYMAP": "gr",
        "CONSOLE": "serial",
        "KERNEL_ARGS": "nosmt",
    },
)
CLOUD = replace(NATIVE, properties={**NATIVE.properties, "CLOUD_INIT": "yes", "SWAP": "file:64"})


@dataclass(frozen=True)
class Written:
    """A path that a task writes in one of the trees; `emptied` are the files that are empty then."""

    tree: str
    job: Job
    task: Task[Guest]
    path: str
    is_directory: bool
    emptied: frozenset[str]

    def __str__(self) -> str:
        return f"{self.task.name} of {self.tree} at {self.path}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory in memory."""
    directory = tmp_path_factory.mktemp("hostile")
    sh("mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", str(directory))
    try:
        yield directory
    finally:
        sh("umount", str(directory))


@pytest.fixture(scope="module")
def written(place: Path) -> tuple[Written, ...]:
    """Every path that a task writes, in the first of the trees where it does."""
    found: dict[tuple[str, str], Written] = {}
    for name in MUTABLE:
        for job in (NATIVE, CLOUD):
            root = lay_out(place, name)
            for task in tasks_of(job):
                changed, error = run(task, root, job)
                assert error is None or names_a_cure(error), f"{task.name} of {name}: {error}"
                emptied = frozenset(path[1:] for path in changed if Path(f"{root}{path}").lstat().st_size == 0)
                for path in changed:
                    one = Written(name, job, task, path, Path(f"{root}{path}").is_dir(), emptied)
                    found.setdefault((task.name, path), one)
            shutil.rmtree(root)
    return tuple(found.values())


def tasks_of(job: Job) -> tuple[Task[Guest], ...]:
    steps = plan(tasks.ON_GUEST, job, SYSTEM, mounted=True).steps
    return tuple(step.task for step in steps if step.skipped is None and step.task.name not in NOT_HERE)


def names_a_cure(error: SnfImageError) -> bool:
    """Some trees have no keymaps, no kernel or no cloud-init: then the task says what to do."""
    return any(word in str(error) for word in ("install", "create", "leave the property", "correct", "remove", "add"))


def lay_out(place: Path, name: str) -> Path:
    """A tree, copied from one that is made once."""
    pristine = place / name
    if not pristine.exists():
        MUTABLE[name].make(pristine)
        for path, content in BESIDES.items():
            file = pristine / path.lstrip("/")
            if not os.path.lexists(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
    sh("cp", "-a", str(pristine), str(place / "guest"))
    return place / "guest"


def run(task: Task[Guest], root: Path, job: Job) -> tuple[set[str], SnfImageError | None]:
    """What the task has changed, and what it failed with; it fails in words, and in time."""
    disk = root.parent.parent / "swap-disk"
    disk.write_bytes(bytes(MIB))
    devices = ("/dev/none", str(disk))
    with (
        Guest(str(root), cast(Disk, SimpleNamespace(device=devices[0], devices=devices)), SYSTEM) as guest,
        at_most(LONGEST),
    ):
        try:
            task.run(guest, job, Listener().reporter)
        except SnfImageError as error:
            return guest.changed, error
    return guest.changed, None


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    def too_long(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"it takes longer than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def clear(path: Path) -> None:
    """Make room for a trap."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def absolute_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "canary")


def climbing_link(path: Path, outside: Path) -> None:
    path.symlink_to("../" * 40 + str(outside / "canary").lstrip("/"))


def dangling_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "new")


def loop(path: Path, outside: Path) -> None:
    path.symlink_to(path.name)


def fifo(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def device(path: Path, outside: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero: to read it never ends


def block_device(path: Path, outside: Path) -> None:
    os.mknod(path, stat.S_IFBLK | 0o666, os.makedev(240, 0))  # a number for local use, behind which there is nothing


def a_socket(path: Path, outside: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has at most 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def directory(path: Path, outside: Path) -> None:
    (path / "below").mkdir(parents=True)


def giant(path: Path, outside: Path) -> None:
    path.touch()
    os.truncate(path, 100 << 30)


def no_text(path: Path, outside: Path) -> None:
    path.write_bytes(bytes(range(256)) * 4096)


def many_lines(path: Path, outside: Path) -> None:
    path.write_bytes(b"\n" * 200_000)


def parent_outside(path: Path, outside: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.symlink_to(outside)


def parent_is_file(path: Path, outside: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.touch()


Trap = Callable[[Path, Path], None]
# Each path meets one trap of each line, by turns: all of them at all paths would take minutes, and the traps of a line
# are told apart in one place of the code.
TRAPS: Mapping[str, tuple[Trap, ...]] = {
    "links out": (absolute_link, climbing_link, dangling_link),
    "parent outside": (parent_outside,),
    "waits": (fifo, device, a_socket, block_device),
    "refuses": (directory, giant, loop, parent_is_file),
    "content": (no_text, many_lines),
}


@pytest.mark.row(164, 198)
@pytest.mark.parametrize("kind", TRAPS)
def test_a_trap_at_a_path_that_is_written_catches_nothing(place: Path, written: tuple[Written, ...], kind: str) -> None:
    assert len(written) > 50
    for number, one in enumerate(written):
        trap = TRAPS[kind][number % len(TRAPS[kind])]
        if trap in {parent_outside, parent_is_file} and os.path.dirname(one.path) in {"/", "/etc"}:
            continue  # nothing would be left of the guest
        outside = plant_canary(place / "outside")
        before = picture(outside)
        root = lay_out(place, one.tree)
        path = Path(f"{root}{one.path}")
        clear(path)
        trap(path, outside)
        changed, error = run(one.task, root, one.job)
        assert picture(outside) == before, f"{one}: reached what lies outside"
        assert error is None or is_clear(error, one.path), f"{one}: {error}"
        assert all(not name.startswith(str(place)) for name in changed), str(one)
        shutil.rmtree(root)
        shutil.rmtree(outside)


@contextmanager
def ext4(path: Path, mib: int) -> Iterator[Path]:
    """An empty file system at a directory, which nobody else sees."""
    disk = path.with_suffix(".disk")
    with disk.open("wb") as file:
        file.truncate(mib * MIB)
    sh("mkfs.ext4", "-q", "-F", "-N", "8192", str(disk))
    with private_mounts():
        path.mkdir()
        sh("mount", "-o", "loop", str(disk), str(path))
        try:
            yield path
        finally:
            sh("umount", str(path))


def first_of_each(written: tuple[Written, ...]) -> tuple[Written, ...]:
    """One file of each task: what a file system refuses it refuses for all."""
    found: dict[str, list[Written]] = {}
    for one in written:
        if not one.is_directory:
            found.setdefault(one.task.name, []).append(one)
    return tuple(one for ones in found.values() for one in ones[:1])


@pytest.mark.parametrize("how", ["full", "read-only", "immutable files", "immutable directories"])
def test_a_file_system_that_refuses_leaves_every_file_as_it_was(
    tmp_path: Path, place: Path, written: tuple[Written, ...], how: str
) -> None:
    refused = 0
    with ext4(tmp_path / "disk", 24) as disk:
        for one in first_of_each(written):
            pristine = lay_out(place, one.tree)
            root = disk / "guest"
            sh("cp", "-a", str(pristine), str(root))
            shutil.rmtree(pristine)
            path = Path(f"{root}{one.path}")
            path.parent.mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(path):
                path.write_bytes(b"old\n")
            before = contents(root)
            with refusing(disk, path, how):
                _, error = run(one.task, root, one.job)
            after = contents(root)
            kept = before.keys() & after.keys() - one.emptied
            torn = [name for name in kept if not is_whole(before[name], after[name])]
            assert not torn, f"{one}: {torn}"
            assert not [name for name in after if Path(name).name.startswith(".snf-image-")], (
                f"{one}: something is left beside"
            )
            assert error is None or "Traceback" not in str(error)
            if error is not None:
                refused += 1
                assert any(word in str(error) for word in CURES[how]), f"{one}: {error}"
            assert how != "read-only" or after == before, f"{one}: {error}"
            shutil.rmtree(root)
    assert refused > 5


CURES = {
    "full": ("is full",),
    "read-only": ("is read-only",),
    "immutable files": ("immutable",),
    "immutable directories": ("immutable",),
}


@contextmanager
def refusing(disk: Path, path: Path, how: str) -> Iterator[None]:
    match how:
        case "full":
            filler = disk / "filler"
            for _ in range(3):  # what was only reserved is free again once it is written
                with filler.open("ab") as file, suppress(OSError):
                    while os.write(file.fileno(), bytes(1024)):
                        pass
                sh("sync", "-f", str(disk))
            yield
            filler.unlink()
        case "read-only":
            sh("mount", "-o", "remount,ro", str(disk))
            yield
            sh("mount", "-o", "remount,rw", str(disk))
        case _:
            target = str(path.parent if how.endswith("directories") else path)
            if Path(target).is_symlink():
                target = str(path.parent)
            sh("chattr", "+i", target)
            yield
            sh("chattr", "-i", target)


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def is_whole(before: bytes, after: bytes) -> bool:
    """Old or new: nothing else that a task writes is empty, or a part of what was there."""
    return before == after or (bool(after) and not before.startswith(after))


def is_clear(error: SnfImageError, path: str) -> bool:
    """Whether the message names the path, or something on the way to it or beside it."""
    names = [name for name in path.split("/") if name]
    return any(name in str(error) for name in names[-3:]) or names_a_cure(error)


def plant_canary(outside: Path) -> Path:
    outside.mkdir()
    (outside / "canary").write_bytes(b"alive\n")
    (outside / "canary").chmod(0o640)
    return outside


def picture(outside: Path) -> dict[str, tuple[int, int, int, bytes]]:
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_uid, path.lstat().st_mtime_ns, path.read_bytes())
        for path in outside.rglob("*")
        if path.is_file()
    } | {str(outside): (outside.stat().st_mode, outside.stat().st_uid, outside.stat().st_mtime_ns, b"")}
