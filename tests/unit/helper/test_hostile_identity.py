# SPDX-License-Identifier: GPL-2.0-or-later
"""Identity tasks on trees that a tenant has laid traps in: an error that names the path, or the work done."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.guest import Guest
from snf_image_helper.task import Task
from snf_image_helper.tasks import (
    assign_hostname,
    change_machine_id,
    change_password,
    delete_ssh_keys,
    reset_identity,
    selinux_autorelabel,
)
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Secrets
from unit.helper.guest_trees import JOB, guest_in, perform

pytestmark = pytest.mark.root

TASKS: dict[str, tuple[Task[Guest], tuple[str, ...]]] = {
    "hostname": (assign_hostname.TASK, ("/etc/hostname", "/etc/hosts", "/etc/machine-info", "/etc/mailname")),
    "machine-id": (change_machine_id.TASK, ("/etc/machine-id", "/var/lib/dbus/machine-id")),
    "password": (
        change_password.TASK,
        ("/etc/shadow", "/etc/passwd", "/etc/login.defs", "/root/.ssh", "/root/.ssh/authorized_keys", "/root"),
    ),
    "keys": (delete_ssh_keys.TASK, ("/etc/ssh", "/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/sshd_config")),
    "reset": (
        reset_identity.TASK,
        ("/var/log/journal", "/var/log/wtmp", "/var/lib/systemd/random-seed", "/etc/iscsi/initiatorname.iscsi"),
    ),
    "labels": (
        selinux_autorelabel.TASK,
        ("/etc/selinux/config", "/etc/selinux/targeted/contexts/files/file_contexts", "/.autorelabel"),
    ),
}
WRITTEN = [(task, path) for name, (task, paths) in TASKS.items() for path in paths]
FILES = {
    "/etc/os-release": "ID=fedora\n",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "/etc/shadow": "root:!:1:0:99999:7:::\n",
    "/etc/hostname": "old\n",
    "/etc/selinux/config": "SELINUX=enforcing\n",
    "/usr/sbin/sshd": "",
    "/etc/ssh/sshd_config": "",
}
JOB_WITH_ALL = replace(
    JOB,
    secrets=Secrets(
        "secret", None, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHQqdXO3qBz5UZuPsHuRkYQmqAWQWyRW1rYVOTjPPUZW me"
    ),
    properties={"IDENTITY_RESET": "all", "USERS": "root"},
)


def giant(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 << 30)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


TRAPS: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "socket": unix_socket,
    "device": lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5)),
    "directory": Path.mkdir,
    "giant": giant,
    "loop": lambda path: path.symlink_to(path.name),
    "out": lambda path: path.symlink_to("../" * 12 + "canary/x"),
    "away": lambda path: path.symlink_to("/nowhere/at/all"),
    "binary": lambda path: path.write_bytes(b"\0\xff\x1b[2J:::\n" * 64),
}


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize(("task", "path"), WRITTEN, ids=lambda value: value if isinstance(value, str) else value.name)
def test_a_trap_is_an_error_that_names_it_or_does_no_harm(
    tmp_path: Path, task: Task[Guest], path: str, trap: str
) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "x").write_text("alive")
    with guest_in(tmp_path / "guest", {file: text for file, text in FILES.items() if file != path}) as guest:
        place = Path(f"{guest.root}{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir():
            place = place / "trap"  # a directory that has files of ours: the trap is in it
        TRAPS[trap](place)
        try:
            said = perform(task, guest, JOB_WITH_ALL)
        except GuestError as error:
            assert str(error).isprintable()
            assert path.rpartition("/")[0] in str(error) or path in str(error)
        else:
            assert all(warning.isprintable() for warning in said.warnings)
    assert sorted(os.listdir(tmp_path)) == ["canary", "guest"]
    assert os.listdir(canary) == ["x"]
    assert (canary / "x").read_text() == "alive"
