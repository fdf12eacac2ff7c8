# SPDX-License-Identifier: GPL-2.0-or-later
"""Two deployments of one image have nothing in common that tells who they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.fresh import fresh_bytes
from snf_image_helper.system import OsFamily
from snf_image_helper.tasks import ON_GUEST
from snf_image_shared.job import Secrets
from unit.helper.guest_trees import JOB, guest_in, perform, text

pytestmark = pytest.mark.root

TEMPLATE = "0123456789abcdef0123456789abcdef"
TASKS = ("AssignHostname", "ResetIdentity", "ChangeMachineId", "ChangePassword", "DeleteSSHKeys")
SECRET = ("/etc/machine-id", "/etc/shadow", "/etc/ssh/ssh_host_ed25519_key", "/etc/iscsi/initiatorname.iscsi")
IMAGE = {
    "/etc/os-release": "ID=devuan\n",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "/etc/shadow": "root:!:1:0:99999:7:::\n",
    "/etc/hostname": "template\n",
    "/etc/machine-id": f"{TEMPLATE}\n",
    "/var/lib/dbus/machine-id": f"{TEMPLATE}\n",
    "/var/lib/urandom/random-seed": TEMPLATE,
    "/var/lib/dhcp/dhclient.eth0.leases": TEMPLATE,
    "/etc/iscsi/initiatorname.iscsi": f"InitiatorName=iqn.1993-08.org.debian:01:{TEMPLATE}\n",
    "/usr/sbin/sshd": "",
    "/etc/ssh/sshd_config": "",
}


@pytest.mark.row(147, 155)
def test_two_clones_share_no_secret_with_each_other_or_their_template(tmp_path: Path) -> None:
    found = []
    for number in range(2):
        with guest_in(tmp_path / str(number), IMAGE) as guest:
            job = replace(JOB, seed=f"{number:064x}", secrets=Secrets("the same password"))
            for task in ON_GUEST:
                if task.name in TASKS and OsFamily.LINUX in task.families:
                    perform(task, guest, job, USERS="root")
            assert not guest.exists("/var/lib/urandom/random-seed")
            assert not guest.exists("/var/lib/dhcp/dhclient.eth0.leases")
            assert text(guest, "/etc/machine-id") == text(guest, "/var/lib/dbus/machine-id")
            found += [text(guest, path) for path in SECRET]
    assert len(set(found)) == len(found)
    assert not any(TEMPLATE in content for content in found)


def test_what_is_fresh_depends_on_the_deployment_and_the_purpose_alone() -> None:
    seeds = (replace(JOB, seed="00"), replace(JOB, seed="01"))
    made = {fresh_bytes(job, purpose, 16) for job in seeds for purpose in ("one", "two") for _ in range(2)}
    assert len(made) == 4
    assert {len(content) for content in made} == {16}


def test_without_a_seed_it_is_new_every_time() -> None:
    assert fresh_bytes(replace(JOB, seed=""), "one", 16) != fresh_bytes(replace(JOB, seed=""), "one", 16)
