# SPDX-License-Identifier: GPL-2.0-or-later
"""How long the helper VM takes, against the floor below it and against virt-customize, measured side by side.

The floor is the same QEMU, kernel and initrd with an /init that says one line and powers off: what no helper can beat.
virt-customize makes three edits (hostname, password, key) on a copy of the same image; create is timed with these three
alone, and with all it does by default: growing, network, host keys. All are timed from the image file to the finished
disk.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.ratios import Table
from images.distribution import debian
from provider import Instance, Provider
from snf_image_helper_builder import cpio
from snf_image_host.configuration.setting_types import Accelerator, ConfigDevice
from snf_image_host.vm import drives, qemu
from snf_image_host.vm.floppy import config_floppy
from snf_image_shared.job import JOB_FILE, JOB_VERSION, Job, Secrets

PASSWORD = "bench-password"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFBW3Qw8OZQ3xN1yqF0G7q9m2YtYz7mBZ8q0nqXKkq0L bench@example.com"
DISK_SIZE = 4 << 30
SAME_EDITS = {
    f"EXCLUDE_TASK_{task}": "yes"
    for task in ("FIXPARTITIONTABLE", "CHANGEMACHINEID", "CONFIGURENETWORK", "DELETESSHKEYS", "SELINUXAUTORELABEL")
} | {"EXCLUDE_FILESYSTEMRESIZE_TASKS": "yes"}
FLOOR_INIT = b"""#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
echo floor > /dev/ttyS2
$b poweroff -f
"""


@dataclass(frozen=True)
class Timing:
    """Seconds from the start of QEMU to the first byte on the report port, to the result, and to its exit."""

    first: float
    result: float
    exit: float


def measure(cache: Path, rounds: int, table: Table) -> None:
    """Add the rows of the helper to the table. Needs root, the helper image in the cache, and libguestfs-tools."""
    with tempfile.TemporaryDirectory(prefix="snf-image-bench-", dir=cache) as scratch_name:
        scratch = Path(scratch_name)
        image = debian("trixie", cache)
        floor_initrd = scratch / "floor.initrd"
        # The kernel unpacks one archive after the other, and the later /init replaces the earlier.
        floor_initrd.write_bytes(
            (cache / "helper/initrd").read_bytes() + cpio.archive({"init": cpio.file(FLOOR_INIT, 0o755)})
        )
        provider = Provider.install(scratch / "installed", cache)
        shutil.copy(image, provider.images / "bench.diskdump")
        for _ in range(rounds):
            disk = _deployable(image, scratch / "disk")
            helper = time_helper(cache / "helper", cache / "helper/initrd", disk)
            floor = time_helper(cache / "helper", floor_initrd, disk)
            table.add("first report line / floor", helper.first, floor.first)
            table.add("SUCCESS / floor", helper.result, floor.first)
            table.add("exit / floor", helper.exit, floor.exit)
            theirs = time_virt_customize(image, scratch)
            table.add("virt-customize / create, the same edits", theirs, time_create(provider, scratch, SAME_EDITS))
            table.add("virt-customize / create, all it does", theirs, time_create(provider, scratch, {}))


def time_helper(helper: Path, initrd: Path, disk: Path) -> Timing:
    """One run of the helper VM, without the jail, on a disk with the image on it."""
    job = Job(
        version=JOB_VERSION,
        instance="bench.example.com",
        hostname="bench.example.com",
        image_format="diskdump",
        disks=(qemu.disk_serial(0),),
        secrets=Secrets(password=PASSWORD, authorized_keys=KEY),
        seed=os.urandom(64).hex(),
    )
    pairs = [socket.socketpair() for _ in range(4)]
    with config_floppy({JOB_FILE: job.dump()}, ConfigDevice.DISK) as floppy:
        image_fd, disk_fd = os.open(helper / "image", os.O_RDONLY), os.open(disk, os.O_RDWR)
        machine = qemu.Machine(
            program=("qemu-system-x86_64",),
            accelerator=Accelerator.TCG,
            memory=512,
            image=drives.Drive(image_fd),
            disks=(drives.Drive(disk_fd, writable=True),),
            config=drives.Drive(floppy.fd),
            config_device=floppy.device,
            ports=tuple(theirs.fileno() for _, theirs in pairs[1:]),
            monitor=pairs[0][1].fileno(),
            hypervisor="kvm",
        )
        inside = {qemu.KERNEL: str(helper / "kernel"), qemu.INITRD: str(initrd)}
        argv = [inside.get(word, word) for word in qemu.arguments(machine)]
        seen: dict[str, float] = {}
        start = time.monotonic()
        process = subprocess.Popen(argv, pass_fds=machine.descriptors)
        readers = [
            threading.Thread(target=_note_first_byte, args=(name, pair[0], seen))
            for name, pair in zip(("console", "result", "report"), pairs[1:], strict=True)
        ]
        for _, theirs in pairs:
            theirs.close()
        for reader in readers:
            reader.start()
        process.wait()
        end = time.monotonic()
        for reader in readers:
            reader.join()
        for ours, _ in pairs:
            ours.close()
        os.close(image_fd)
        os.close(disk_fd)
    return Timing(seen["report"] - start, seen.get("result", end) - start, end - start)


def time_create(provider: Provider, scratch: Path, properties: Mapping[str, str]) -> float:
    """Seconds of a whole create, from the start of the script to its exit."""
    disk = scratch / "created"
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(DISK_SIZE)
    parameters = {
        "img_id": "bench.diskdump",
        "img_format": "diskdump",
        "img_passwd": PASSWORD,
        "auth_keys": KEY,
        "img_properties": dict(properties),
    }
    start = time.monotonic()
    outcome = provider.run(Instance("bench.example.com", (disk,), parameters=parameters))
    if outcome.code:
        sys.exit(outcome.log)
    return time.monotonic() - start


def time_virt_customize(image: Path, scratch: Path) -> float:
    """Seconds of a copy and virt-customize on it, which does not grow anything."""
    disk, key = scratch / "customized", scratch / "key.pub"
    key.write_text(KEY + "\n")
    disk.unlink(missing_ok=True)
    start = time.monotonic()
    shutil.copy(image, disk)
    edits = [
        "--hostname",
        "bench.example.com",
        "--root-password",
        f"password:{PASSWORD}",
        "--ssh-inject",
        f"root:file:{key}",
    ]
    kernels = sorted(Path("/boot").glob("vmlinuz-*"))
    env = os.environ | {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
    if kernels:
        env |= {
            "SUPERMIN_KERNEL": str(kernels[-1]),
            "SUPERMIN_MODULES": f"/lib/modules/{kernels[-1].name.removeprefix('vmlinuz-')}",
        }
    subprocess.run(["virt-customize", "-q", "--format", "raw", "-a", str(disk), *edits], check=True, env=env)
    return time.monotonic() - start


def _deployable(image: Path, disk: Path) -> Path:
    shutil.copy(image, disk)
    os.truncate(disk, DISK_SIZE)
    return disk


def _note_first_byte(name: str, port: socket.socket, seen: dict[str, float]) -> None:
    said = b""
    while chunk := port.recv(65536):
        seen.setdefault(name, time.monotonic())
        said += chunk
    if name == "result" and said not in {b"", b"SUCCESS\n", b"SUCCESS\r\n"}:
        sys.exit(f"the helper said {said!r}")
