# SPDX-License-Identifier: GPL-2.0-or-later
"""The wall between the node and what a tenant wrote, looked at from outside while a deployment runs."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from images.layouts import layout
from provider import Instance, Provider
from sparse_disks import copy_disk

pytestmark = pytest.mark.vm

# What could attach a disk, or find out what is on it. The helper VM has its own, which the node never starts.
INTERPRETERS = frozenset(("mount", "losetup", "blkid", "parted", "sfdisk", "sgdisk", "kpartx", "partprobe", "qemu-img"))
FORKS = ("clone", "clone3", "fork", "vfork")
MOUNTING = ("mount", "fsconfig", "fsopen", "open_tree", "move_mount")
# The number of a process that is born into a namespace of its own is followed by the one that the trace knows it by.
CHILD = re.compile(r"\b(?:clone3?|v?fork)\b.* = (\d+)(?: /\* (\d+) in strace's PID NS \*/)?$")
CREATING = ("open", "openat", "openat2", "creat", "mkdir", "mkdirat", "mknod", "mknodat", "symlinkat", "linkat")
READING = ("read", "pread64", "preadv", "preadv2", "readv")


@pytest.fixture
def instance(provider: Provider, cache: Path, tmp_path: Path) -> Instance:
    """A small instance; its disk has a name that no other file has."""
    image = layout("ext4-mbr-primary", cache)
    copy_disk(image, provider.images / "isolated.diskdump")
    disk = tmp_path / "the-tenants-disk"
    with disk.open("wb") as file:
        file.truncate(2 * image.stat().st_size)
    parameters = {"img_id": "isolated.diskdump", "img_format": "diskdump", "img_passwd": "x"}
    return Instance("isolated.example.com", (disk,), parameters=parameters)


@pytest.mark.row(24)
@pytest.mark.row(195)
def test_the_host_tier_never_mounts_loops_probes_or_reads_the_disk_and_makes_no_file(
    provider: Provider, instance: Instance, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    calls = f"trace={','.join((*FORKS, *MOUNTING, *CREATING, *READING))},execve,ioctl"
    strace = ["strace", "-f", "--seccomp-bpf", "-y", "--decode-pids=pidns", "-s", "256", "-e", calls, "-o", str(trace)]
    subprocess.run(
        [*strace, str(provider.os_directory / "create")],
        cwd=provider.os_directory,
        env=instance.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    lines = trace.read_text(errors="replace").splitlines()
    disk = str(instance.disks[0])
    programs = {Path(found[1]).name for line in lines if (found := re.search(r'execve\("([^"]+)"', line))}
    assert "qemu-system-x86_64" in programs, "the trace does not show the helper VM: it would show nothing else either"
    assert not programs & INTERPRETERS
    assert not [line for line in lines if disk in line and _calls(line, MOUNTING)]
    assert not [line for line in lines if "LOOP_" in line and "ioctl" in line]
    readers = {line.split()[0] for line in lines if f"<{disk}>" in line and _calls(line, READING)}
    assert readers, "QEMU reads the disk; a trace without that proves nothing"
    assert readers <= _descendants(_jail_pid(lines), lines)
    assert _made(lines) == []


@pytest.mark.image_row(96)
@pytest.mark.row(98, 99, 100)
def test_qemu_is_unprivileged_in_every_way_and_the_helper_image_is_not_written(
    provider: Provider, instance: Instance, cache: Path
) -> None:
    before = _digests(cache / "helper")
    process = provider.start(instance)
    try:
        qemu = _wait_for_qemu(instance.disks[0])
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{qemu}/status").read_text().splitlines() if ":\t" in line
        )
        uids = set(status["Uid"].split())
        assert len(uids) == 1
        assert int(uids.pop()) > 1_000_000_000
        assert status["Groups"].split() == []
        assert {status[name].strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {""}
        assert status["NoNewPrivs"].strip() == "1"
        assert status["Seccomp"].strip() == "2"
        for namespace in ("net", "pid", "ipc", "mnt", "uts"):
            assert os.readlink(f"/proc/{qemu}/ns/{namespace}") != os.readlink(f"/proc/self/ns/{namespace}")
        assert sorted(os.listdir(f"/proc/{qemu}/root")) == ["bin", "dev", "helper", "lib", "lib64", "sbin", "usr"]
        assert Path(f"/proc/{qemu}/net/dev").read_text().count(":") == 1, "the loopback device alone"
        files = {os.readlink(f"/proc/{qemu}/fd/{fd}") for fd in os.listdir(f"/proc/{qemu}/fd")}
        real = {name for name in files if name.startswith("/") and not name.startswith(("/dev/null", "/memfd:"))}
        assert str(instance.disks[0]) in real
        assert {Path(name).name for name in real} <= {instance.disks[0].name, "image", "kernel", "initrd", "kvm"}
    finally:
        log, _ = process.communicate(timeout=600)
    assert process.returncode == 0, log
    assert _digests(cache / "helper") == before


def _digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def _calls(line: str, names: tuple[str, ...]) -> bool:
    """Whether a line of the trace is a call of one of these names."""
    return re.search(rf"^\d+ +(?:<\.\.\. )?(?:{'|'.join(names)})\b", line) is not None


def _made(lines: list[str]) -> list[str]:
    """Calls that may have made a file: without any, nothing is left behind and no secret lies on a disk for a moment.

    Those of bwrap do not count; they are in file systems that it has just made for itself.
    """
    jailed = {line.split()[0] for line in lines if "execve(" in line and '"bwrap", "--unshare' in line}
    assert len(jailed) == 2, "one for mke2fs and one for QEMU"
    outside = {line.split()[0] for line in lines} - set().union(*(_descendants(pid, lines) for pid in jailed))
    calls = [line for line in lines if line.split()[0] in outside and _calls(line, CREATING)]
    assert calls, "create opens many files; a trace without them proves nothing"
    making = [line for line in calls if "O_CREAT" in line or "O_TMPFILE" in line or not _calls(line, CREATING[:3])]
    return [line for line in making if '"/proc/self/' not in line]


def _jail_pid(lines: list[str]) -> str:
    """The process that became bwrap for QEMU."""
    return next(line.split()[0] for line in lines if "execve(" in line and "--unshare-ipc" in line)


def _descendants(pid: str, lines: list[str]) -> set[str]:
    """The process, its children and all their threads."""
    family = {pid}
    for line in lines:
        parent, _, rest = line.partition(" ")
        if parent.strip() in family and (found := CHILD.search(rest)):
            family.add(found[2] or found[1])
    return family


def _wait_for_qemu(disk: Path) -> int:
    """The process that has the disk open in its jail, once it has read its arguments and put itself under seccomp."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                with suppress(OSError):
                    program = (process / "cmdline").read_bytes().split(b"\0")[0]
                    holds = str(disk) in {os.readlink(fd) for fd in (process / "fd").iterdir()}
                    confined = "Seccomp:\t0" not in (process / "status").read_text()
                    if holds and confined and program.endswith(b"qemu-system-x86_64"):
                        return int(process.name)
        time.sleep(0.05)
    raise AssertionError("QEMU never started, or never put itself under seccomp")
