# SPDX-License-Identifier: GPL-2.0-or-later
"""Tasks of BSD guests on trees that a tenant has laid traps in: an error that names the path, or the work done."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.guest import Guest
from snf_image_helper.system import OsFamily
from snf_image_helper.task import Task
from snf_image_helper.tasks import enforce_personality, reset_identity
from snf_image_helper.tasks.bsd import (
    add_swap,
    assign_hostname,
    change_password,
    configure_boot,
    configure_locale,
    delete_ssh_keys,
)
from snf_image_shared.errors import GuestError
from snf_image_shared.job import PersonalityFile, Secrets
from unit.helper.bsd_trees import bsd_with
from unit.helper.guest_trees import JOB, perform
from unit.helper.test_hostile_identity import TRAPS

pytestmark = pytest.mark.root

MASTER = "/etc/master.passwd"
CASES: tuple[tuple[Task[Guest], OsFamily, tuple[str, ...]], ...] = (
    (assign_hostname.TASK, OsFamily.FREEBSD, ("/etc/rc.conf", "/etc/rc.conf.d", "/etc/rc.conf.local", "/etc/hosts")),
    (assign_hostname.TASK, OsFamily.OPENBSD, ("/etc/myname",)),
    (change_password.TASK, OsFamily.FREEBSD, (MASTER, "/etc/spwd.db", "/etc/rc.d/snf_image_passwords", "/root/.ssh")),
    (change_password.TASK, OsFamily.OPENBSD, ("/etc/rc.securelevel", "/etc/rc.snf_image_passwords")),
    (add_swap.TASK, OsFamily.NETBSD, ("/etc/fstab", "/etc/rc.d/snf_image_swap")),
    (configure_locale.TASK, OsFamily.FREEBSD, ("/etc/localtime", "/var/db/zoneinfo", "/usr/share/zoneinfo/UTC")),
    (configure_boot.TASK, OsFamily.FREEBSD, ("/boot/loader.conf", "/etc/ttys")),
    (configure_boot.TASK, OsFamily.NETBSD, ("/boot.cfg",)),
    (delete_ssh_keys.TASK, OsFamily.NETBSD, ("/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/sshd_config")),
    (enforce_personality.TASK, OsFamily.OPENBSD, (MASTER, "/etc/group", "/srv/file")),
    (reset_identity.TASK, OsFamily.OPENBSD, ("/etc/random.seed", "/var/db/host.random", "/etc/soii.key")),
    (reset_identity.TASK, OsFamily.NETBSD, ("/var/db/entropy-file", "/var/log/wtmp")),
)
WRITTEN = [(task, family, path) for task, family, paths in CASES for path in paths]
FILES = {
    MASTER: "root:*:0:0::0:0:Charlie &:/root:/bin/sh\n",
    "/etc/group": "wheel:*:0:root\n",
    "/etc/fstab": "",
    "/etc/hosts": "::1 localhost\n",
    "/etc/rc.conf": "hostname=old\n",
    "/etc/rc.d/sshd": "",
    "/etc/spwd.db": "",
    "/etc/ssh/sshd_config": "",
    "/etc/ttys": "ttyu0\tnone\tvt100\toff secure\n",
    "/usr/share/zoneinfo/UTC": "TZif2",
}
JOB_WITH_ALL = replace(
    JOB,
    secrets=Secrets(
        "secret", None, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHQqdXO3qBz5UZuPsHuRkYQmqAWQWyRW1rYVOTjPPUZW me"
    ),
    personality=(PersonalityFile("/srv/file", "eA==", "root", "wheel"),),
    properties={"USERS": "root", "SWAP": "file:8", "TIMEZONE": "UTC", "CONSOLE": "serial", "IDENTITY_RESET": "all"},
)


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize(("task", "family", "path"), WRITTEN, ids=lambda value: getattr(value, "name", str(value)))
def test_a_trap_is_an_error_that_names_it_or_does_no_harm(
    tmp_path: Path, task: Task[Guest], family: OsFamily, path: str, trap: str
) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "x").write_text("alive")
    with bsd_with(tmp_path / "guest", family, {file: text for file, text in FILES.items() if file != path}) as guest:
        place = Path(f"{guest.root}{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
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


@pytest.mark.parametrize(
    "line", ["root:*:0:0::0:0:\x1b[2J:/root:/bin/sh", "root:" + "x" * 100_000, "\0" * 64, "root:*:a:b::c:d:e:f:g"]
)
def test_a_master_passwd_full_of_nonsense_is_an_error_or_kept(tmp_path: Path, line: str) -> None:
    with bsd_with(tmp_path / "guest", OsFamily.OPENBSD, {**FILES, MASTER: f"{line}\n"}) as guest:
        try:
            perform(change_password.TASK, guest, replace(JOB, secrets=Secrets(password_hash="*")), USERS="root")
        except GuestError as error:
            assert str(error).isprintable()
            assert guest.read_text(MASTER) == f"{line}\n"
        else:
            assert guest.read_text(MASTER).split(":")[1] == "*"
