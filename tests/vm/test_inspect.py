# SPDX-License-Identifier: GPL-2.0-or-later
"""snf-image-inspect with a real helper VM: real images in and out of a container, garbage, and nothing left of it."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from images.guests import guest_image
from images.inspection import partition_table
from leaks import nothing_left
from provider import TIMEOUT, Provider
from sparse_disks import digest

pytestmark = pytest.mark.vm

SECRET = "sEcret-Pw"
JOB = {
    "img_passwd": SECRET,
    "img_properties": {"SWAP": "4:128", "EXCLUDE_TASK_DELETESSHKEYS": "yes"},
    "img_personality": [{"path": "/etc/motd", "contents": "c0VjcmV0LVB3"}],
}


def inspect(provider: Provider, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [str(provider.root / "usr/sbin/snf-image-inspect"), *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT, check=False)


@contextmanager
def untouched(image: Path, provider: Provider, own: Path) -> Iterator[None]:
    """The image stays as it is, to the byte and to its times, and nothing is left of whoever looked at it."""
    before = digest(image), image.stat().st_mtime_ns
    with nothing_left(own):
        yield
    assert (digest(image), image.stat().st_mtime_ns) == before
    spool = provider.root / "var/cache/snf-image/images"
    assert not spool.exists() or list(spool.iterdir()) == []


def test_an_image_is_the_same_disk_as_it_is_and_in_a_container_and_its_plan_holds_no_secret(
    provider: Provider, cache: Path, tmp_path: Path
) -> None:
    image = guest_image("cloud-init", cache)
    with untouched(image, provider, tmp_path):
        raw = inspect(provider, "-v", "--json", "--plan", "-", str(image), stdin=json.dumps(JOB))
    assert raw.returncode == 0, raw.stderr
    assert SECRET not in raw.stdout + raw.stderr
    document = json.loads(raw.stdout)
    disk = document["disk"]
    table = partition_table(image)
    assert (disk["table"]["kind"], disk["table"]["id"]) == (table.label, table.identity)
    assert [(item["number"], item["start"], item["size"]) for item in disk["table"]["partitions"]] == [
        (item.number, item.offset, item.length) for item in sorted(table.partitions, key=lambda item: item.number)
    ]
    contents = {item["role"]: item["content"] for item in disk["table"]["partitions"]}
    assert contents["EFI system"]["type"] == "vfat"
    assert contents["EFI system"]["used"] > 0
    assert (disk["boot"]["bios"], disk["boot"]["boot_code"], disk["boot"]["uefi"]) == (True, "GRUB", True)
    system = disk["system"]
    assert (system["distribution"], system["release"], system["architecture"]) == ("debian", "13", "x86_64")
    assert (system["init"], system["network"], system["boot_loader"]) == ("systemd", "netplan", "grub")
    assert len(system["kernels"]) == 1
    assert disk["problems"] == []
    outcomes = {task["name"]: task["outcome"] for task in disk["plan"]["tasks"]}
    assert (outcomes["AddSwap"], outcomes["DeleteSSHKeys"], outcomes["InitializeDatasource"]) == (
        *("runs", "excluded", "skipped"),
    )
    assert outcomes["ChangePassword"] == outcomes["EnforcePersonality"] == outcomes["ConfigureNetwork"] == "runs"

    container = provider.images / "inspect.qcow2"
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(image), str(container)]
    subprocess.run(convert, check=True)
    with untouched(container, provider, tmp_path):
        wrapped = inspect(provider, "--json", "inspect.qcow2")
    assert wrapped.returncode == 0, wrapped.stderr
    assert wrapped.stderr == ""
    again = json.loads(wrapped.stdout)
    assert again["image"] == {
        "name": "image 'inspect.qcow2'",
        "format": "auto",
        "container": "qcow2",
        "compression": "",
        "size": container.stat().st_size,
    }
    assert again["disk"] == {**disk, "plan": None}
    container.unlink()


def test_garbage_is_told_on_a_page_and_by_the_exit_code(provider: Provider, tmp_path: Path) -> None:
    image = tmp_path / "garbage"
    image.write_bytes(random.Random(4).randbytes(4 << 20) + b"odd")
    with untouched(image, provider, tmp_path):
        done = inspect(provider, "--format", "diskdump", str(image))
    assert done.returncode == 4
    assert "System      none was recognised" in done.stdout.splitlines()
    assert "no operating system is recognised on" in " ".join(done.stdout.split())
    assert all(len(line) <= 80 and line.isprintable() for line in done.stdout.splitlines())
    assert done.stderr == f"[ERROR] nothing was recognised in {image}: is img_format diskdump right?\n"
