# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left for cloud-init, taken by the real ones of Debian 12 and 13: its schemas, ds-identify, a first boot."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from snf_image_helper.cloud_init import as_text, seed_orders
from snf_image_helper.cloud_init import network as cloud_init_network
from snf_image_helper.cloud_init.documents import cloud_config
from snf_image_helper.network import netplan
from snf_image_helper.network.cards import cards_of
from snf_image_helper.tasks import (
    add_swap,
    assign_hostname,
    change_password,
    delete_ssh_keys,
    enforce_personality,
    initialize_datasource,
)
from snf_image_shared.job import Ipv4Method, Ipv6Method, Job, Nic, PersonalityFile, Secrets
from unit.helper.cloud_init_room import OWN, TRIXIE, CloudInit
from unit.helper.disk_images import Listener
from unit.helper.guest_trees import JOB, guest_in, perform, put
from unit.helper.test_passwords import verifies

pytestmark = pytest.mark.root

TASKS = (initialize_datasource, assign_hostname, change_password, delete_ssh_keys, enforce_personality, add_swap)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHQqdXO3qBz5UZuPsHuRkYQmqAWQWyRW1rYVOTjPPUZW me@home"
DROP_INS = "etc/cloud/cloud.cfg.d"
USER_DATA = b"#cloud-config\nwrite_files:\n- path: /etc/user-data\n  content: seen\n"
# Of cloud-init's settings, and no part of a cloud-config: its schema has no word for them.
SETTINGS = ("datasource_list", "logcfg", "network")
NICS = (
    Nic("02:00:00:00:00:01", ipv4=Ipv4Method.STATIC, address4="192.0.2.7/24", gateway4="192.0.2.1"),
    Nic("02:00:00:00:00:02", ipv4=Ipv4Method.DHCP, ipv6=Ipv6Method.SLAAC),
    Nic("02:00:00:00:00:03", ipv6=Ipv6Method.STATIC, address6="2001:db8::7/64", gateway6="2001:db8::1"),
    Nic("02:00:00:00:00:04", nameservers=("192.0.2.53",), search=("example.com",), mtu=1400),
)


@pytest.fixture(scope="module", params=[OWN, TRIXIE])
def cloud_init(request: pytest.FixtureRequest, cache: Path) -> CloudInit:
    return CloudInit.of(request.param, cache)


def deployed(cloud_init: CloudInit, root: Path, job: Job) -> None:
    """A Debian with this cloud-init after all tasks; its accounts are those of the machine."""
    modules = {
        "init": ["write-files", "set_hostname", "users-groups", "ssh"],
        "config": ["set-passwords"],
        "final": ["scripts-per-once"],
    }
    accounts = {path: Path(path).read_text() for path in ("/etc/passwd", "/etc/shadow", "/etc/group")}
    files = {**accounts, "/etc/fstab": "", "/etc/ssh/sshd_config": "", "/etc/hostname": "image\n"}
    with guest_in(root, files) as guest:
        cloud_init.give(root, modules)
        for task in TASKS:
            perform(task.TASK, guest, job)
        cloud_init_network.leave(guest, netplan.for_cloud_init(cards_of(NICS)), Listener().reporter)


def everything(**wishes: str) -> Job:
    secrets = Secrets("secret", None, KEY, base64.b64encode(USER_DATA).decode())
    file = PersonalityFile("/etc/deep/er", base64.b64encode(b"hello\n").decode(), "debian", "debian")
    properties = {"CLOUD_INIT": "yes", "SWAP": "2:64", **wishes}
    return replace(JOB, seed="ab", secrets=secrets, personality=(file,), properties=properties)


YESCRYPT = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"


@pytest.mark.row(170, 174)
def test_every_document_keeps_to_cloud_inits_own_schemas(cloud_init: CloudInit, tmp_path: Path) -> None:
    documents: dict[str, object] = {"wrong": {"chpasswd": {"expire": "perhaps"}}}
    for number, hashed in enumerate((None, "!", YESCRYPT)):
        job = everything(USERS="root debian", HOSTNAME_POLICY="fqdn", TIMEZONE="Europe/Athens", LOCALE="C.UTF-8")
        if hashed:
            job = replace(job, secrets=replace(job.secrets, password=None, password_hash=hashed), cloud_init_debug=True)
        root = tmp_path / str(number)
        deployed(cloud_init, root, job)
        ours = sorted((root / DROP_INS).glob("98_snf-image-*.cfg"))
        assert len(ours) >= 4
        for path in ours:
            config = yaml.safe_load(path.read_text())
            documents[str(path)] = {key: value for key, value in config.items() if key not in SETTINGS}
        orders = seed_orders.orders_of(replace(job, nics=NICS), Listener().reporter)
        documents[f"partition {number}"] = yaml.safe_load(as_text(cloud_config(job, orders)))
        network = (root / "var/lib/cloud/seed/nocloud-net/network-config").read_text()
        documents["network-config"] = yaml.safe_load(network)
    complaints = cloud_init.complaints(documents)
    assert complaints.keys() == {"wrong", "partition 0"}
    # Where nobody can look which cloud-init there is, the form that old ones know as well has to do.
    assert complaints["partition 0"].startswith("Cloud config schema deprecations: chpasswd.list:")


@pytest.mark.row(168)
def test_ds_identify_does_not_search_where_var_is_not_mounted_yet(cloud_init: CloudInit, tmp_path: Path) -> None:
    deployed(cloud_init, tmp_path / "guest", everything())
    (tmp_path / "guest/var").rename(tmp_path / "hidden")
    put(tmp_path / "guest", {f"/{DROP_INS}/90_dpkg.cfg": "datasource_list: [ Ec2, NoCloud, None ]\n"})
    status, found = identified(cloud_init, tmp_path / "guest")
    assert (status, found.replace("NoCloud, None", "NoCloud")) == (0, "datasource_list: [ NoCloud ]\n")
    (tmp_path / "guest" / DROP_INS / "98_snf-image-35InitializeDatasource.cfg").unlink()
    assert identified(cloud_init, tmp_path / "guest")[0] == 1


def identified(cloud_init: CloudInit, root: Path) -> tuple[int, str]:
    """What it ends with, and the settings it gives to cloud-init."""
    done = subprocess.run(
        ["sh", cloud_init.ds_identify, "--force"],
        env={"PATH_ROOT": str(root), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        check=False,
    )
    result = root / "run/cloud-init/cloud.cfg"
    return done.returncode, result.read_text() if result.exists() else done.stderr


BOOT = """
trap '[ $? = 0 ] || cat /run/log' EXIT
for number in 1 2 3 4; do ip link add lan$number address 02:00:00:00:00:0$number type veth peer name far$number; done
ci init --local > /run/log
echo "$(hostname) $(ip -brief link show eth0 | cut -c 1-4)" > /run/local
for stage in "init" "modules --mode config" "modules --mode final"; do ci $stage >> /run/log; done
cat /run/local /var/lib/cloud/data/result.json
echo ---
getent shadow root debian
echo ---
cat /root/.ssh/authorized_keys /home/debian/.ssh/authorized_keys
echo ---
stat -c '%n %U %a' /etc/deep /etc/deep/er; cat /etc/deep/er /etc/user-data
echo ---
(cd /etc/cloud/cloud.cfg.d; ls 98_*); ls -A /var/lib/cloud/scripts/per-once /var/lib/snf-image/personality
grep -rl '[$]6[$]' /etc/cloud /var/lib/cloud || true
echo ---
cat /etc/ssh/ssh_host_ed25519_key.pub
rm -rf /run/cloud-init
for stage in "init --local" "init"; do ci $stage >> /run/log; done
cat /etc/ssh/ssh_host_ed25519_key.pub
cat /etc/user-data
"""


@pytest.mark.guest(family="Debian", version="12, 13", stack="cloud-init", boot="not started", proven="tool")
@pytest.mark.row(168, 169, 171)
def test_a_first_boot_makes_it_so_and_keeps_no_secret_and_a_second_changes_nothing(
    cloud_init: CloudInit, tmp_path: Path
) -> None:
    deployed(cloud_init, tmp_path / "guest", everything(USERS="root debian"))
    state, shadow, keys, files, left, again = cloud_init.run(BOOT, tmp_path / "guest", tmp_path / "room").split("---\n")
    assert state.startswith("web eth0\n")  # before there was a network
    assert ("DataSourceNoCloud" in state, '"errors": []' in state) == (True, True)
    hashes = {line.split(":")[0]: line.split(":")[1] for line in shadow.splitlines()}
    assert hashes.keys() == {"root", "debian"}
    assert all(verifies("secret", hashed) for hashed in hashes.values())
    assert keys.splitlines() == [KEY, KEY]
    assert files.splitlines() == ["/etc/deep debian 750", "/etc/deep/er debian 440", "hello", "seen"]
    assert "50ChangePassword" not in left
    assert not [line for line in left.splitlines() if line.endswith(".sh") or line.startswith("/etc") or line == "0"]
    before, after, content = again.splitlines()
    assert (before, content) == (after, "seen")
