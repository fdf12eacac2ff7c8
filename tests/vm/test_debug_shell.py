# SPDX-License-Identifier: GPL-2.0-or-later
"""HELPER_DEBUG: the shell that waits inside the helper VM when a task fails. KVM is set as in old configurations."""

from __future__ import annotations

import base64
import os
import re
import select
import threading
import time
from pathlib import Path

import pytest

from images.layouts import layout
from leaks import nothing_left
from provider import TIMEOUT, Instance, Provider
from sparse_disks import copy_disk

pytestmark = pytest.mark.vm

OLD_KVM = "qemu-system-x86_64 -enable-kvm -machine pc-i440fx-2.1,accel=kvm -cpu host"
FAILING_TASK = base64.b64encode(b"#!/bin/sh\nexit 7\n").decode()


def answered(terminal: int, question: bytes, answer: bytes) -> bool:
    """Ask until the answer comes: what is typed before the shell listens may be lost."""
    said = b""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        os.write(terminal, question)
        while select.select([terminal], [], [], 2)[0]:
            said += os.read(terminal, 4096)
            if answer in said:
                return True
    return False


@pytest.mark.row(36, 42)
def test_a_failing_task_leaves_a_root_shell_on_the_terminal_that_the_log_names(
    provider: Provider, cache: Path, tmp_path: Path
) -> None:
    image = copy_disk(layout("ext4-mbr-primary", cache), provider.images / "shell.diskdump")
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(image.stat().st_size)
    parameters = {"img_id": "shell.diskdump", "img_format": "diskdump", "img_properties": {"CUSTOM_TASK": FAILING_TASK}}
    provider.configure(HELPER_DIR=str(cache / "helper"), HELPER_DEBUG="yes", HELPER_SOFT_TIMEOUT="5m", KVM=OLD_KVM)
    try:
        with (
            nothing_left(tmp_path),
            provider.start(Instance("shell.example.com", (disk,), parameters=parameters)) as run,
        ):
            watchdog = threading.Timer(TIMEOUT, run.kill)
            watchdog.start()
            assert run.stdout
            log = ""
            for line in run.stdout:
                log += line
                if "a shell is waiting on" in line:
                    break
            named = re.search(r"root shell of the helper VM waits on (/dev/pts/[0-9]+)", log)
            assert named, log
            terminal = os.open(named[1], os.O_RDWR | os.O_NOCTTY)
            try:
                assert answered(terminal, b"echo answer $((6 * 7)) $(id -u)\n", b"answer 42 0")
                os.write(terminal, b"exit\n")
                log += run.stdout.read()
            finally:
                os.close(terminal)
                watchdog.cancel()
            assert run.wait() == 6, log
    finally:
        provider.configure(HELPER_DIR=str(cache / "helper"))
    assert "KVM: -enable-kvm -machine pc-i440fx-2.1,accel=kvm -cpu host is left out" in log
