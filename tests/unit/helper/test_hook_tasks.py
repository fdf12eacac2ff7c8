# SPDX-License-Identifier: GPL-2.0-or-later
"""What the helper does of instance-image's hooks cloud-init and zz_ddns, and which of the others' programs run when."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from snf_image_helper.hooks.cloud_config import PATH, from_environment
from snf_image_helper.linux.dhcp_names import send_name
from snf_image_helper.system import OsFamily, System
from snf_image_helper.task import plan
from snf_image_helper.tasks import ON_GUEST, run_hooks, send_hostname, write_cloud_config
from snf_image_helper.tasks.run_hooks import names_between
from snf_image_shared.deployment import CloudConfig, Hooks, Input
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job, Nic
from unit.helper.guest_trees import JOB, guest_in, perform, text

pytestmark = pytest.mark.root

DEBIAN = {"/etc/os-release": "ID=debian\n"}
REDHAT = {"/etc/os-release": "ID=centos\n"}
DHCLIENT = "/etc/dhcp/dhclient.conf"
IFCFG = "/etc/sysconfig/network-scripts/ifcfg-eth0"
CLOUD = CloudConfig(
    "ops", "ssh-ed25519 AAAA ops", False, False, True, ("192.0.2.1", "192.0.2.2"), ("a.example", "b.example")
)


def seeded(seed: str) -> Job:
    return replace(JOB, cloud_config=CLOUD, seed=seed * 64)


@pytest.mark.image_row(84)
def test_cloud_init_gets_names_user_and_name_servers(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/etc/cloud/cloud.cfg.d/05_logging.cfg": ""}) as guest:
        perform(write_cloud_config.TASK, guest, seeded("ab"))
        written = text(guest, PATH)
        seed = json.loads(text(guest, "/var/lib/cloud/seed/nocloud-net/meta-data"))
    assert written.startswith("#cloud-config\n")
    found = yaml.safe_load(written)
    instance_id = found.pop("instance-id")
    assert seed["instance-id"] == instance_id
    modules = found.pop("cloud_init_modules")
    assert (modules[0], modules[-1], len(modules)) == ("migrator", "ssh", 12)
    assert found == {
        "hostname": "web",
        "fqdn": "web.example.com",
        "disable_root": False,
        "ssh_pwauth": False,
        "manage-resolv-conf": True,
        "manage_resolv_conf": True,
        "groups": ["ops"],
        "users": [
            {
                "name": "ops",
                "primary-group": "ops",
                "groups": ["wheel", "adm", "systemd-journal"],
                "sudo": ["ALL=(ALL) NOPASSWD:ALL"],
                "shell": "/bin/bash",
                "lock_passwd": True,
                "ssh_authorized_keys": ["ssh-ed25519 AAAA ops"],
            }
        ],
        "resolv_conf": {
            "nameservers": ["192.0.2.1", "192.0.2.2"],
            "searchdomains": ["a.example", "b.example"],
            "domain": "example.com",
            "options": {"rotate": True, "timeout": 1},
        },
    }


@pytest.mark.image_row(84)
def test_the_instance_id_is_another_one_at_each_installation_and_the_same_when_done_again(tmp_path: Path) -> None:
    ids = []
    with guest_in(tmp_path, {"/etc/cloud/cloud.cfg.d/05_logging.cfg": ""}) as guest:
        for seed in ("ab", "ab", "cd"):
            perform(write_cloud_config.TASK, guest, seeded(seed))
            ids.append(yaml.safe_load(text(guest, PATH))["instance-id"])
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.image_row(84)
def test_a_guest_without_cloud_init_is_refused_as_ever(tmp_path: Path) -> None:
    refused = pytest.raises(GuestError, match="cloud-init is not installed")
    with guest_in(tmp_path, {"/etc/hostname": "web\n"}) as guest, refused:
        perform(write_cloud_config.TASK, guest, seeded("ab"))


def test_the_shipped_program_makes_the_same_file_of_exported_settings(tmp_path: Path) -> None:
    environment = {
        "INSTANCE_NAME": "web.example.com",
        "CINIT_USER": "ops",
        "CINIT_SSH_KEY": "ssh-ed25519 AAAA ops",
        "CINIT_MANAGE_RESOLV_CONF": "yes",
        "DNS_SERVERS": "192.0.2.1 192.0.2.2",
        "DNS_SEARCH": "a.example b.example",
        "SNF_IMAGE_INSTANCE_ID": "web.example.com-1",
    }
    with guest_in(tmp_path, {"/etc/cloud/cloud.cfg.d/05_logging.cfg": ""}) as guest:
        perform(write_cloud_config.TASK, guest, seeded("ab"))
        by_task = yaml.safe_load(text(guest, PATH))
    assert yaml.safe_load(from_environment(environment)) == {**by_task, "instance-id": "web.example.com-1"}


@pytest.mark.image_row(85)
@pytest.mark.parametrize(
    ("files", "path", "before", "after"),
    [
        (DEBIAN, DHCLIENT, "timeout 60;", 'timeout 60;\nsend host-name "web";\n'),
        (DEBIAN, "/etc/dhcp3/dhclient.conf", "", 'send host-name "web";\n'),
        (DEBIAN, DHCLIENT, "send host-name = gethostname();\nretry 1;\n", 'send host-name "web";\nretry 1;\n'),
        (DEBIAN, DHCLIENT, '#send host-name "andare";\n', '#send host-name "andare";\nsend host-name "web";\n'),
        (REDHAT, IFCFG, "DEVICE=eth0\n", "DEVICE=eth0\nDHCP_HOSTNAME=web\n"),
        (REDHAT, IFCFG, "DHCP_HOSTNAME=old\nONBOOT=yes\n", "DHCP_HOSTNAME=web\nONBOOT=yes\n"),
    ],
)
def test_the_dhcp_client_is_told_the_short_name_once(
    tmp_path: Path, files: dict[str, str], path: str, before: str, after: str
) -> None:
    with guest_in(tmp_path, {**files, path: before}) as guest:
        perform(send_hostname.TASK, guest)
        perform(send_hostname.TASK, guest)
        assert text(guest, path) == after


@pytest.mark.image_row(85)
@pytest.mark.parametrize(("files", "path"), [(DEBIAN, DHCLIENT), (REDHAT, IFCFG)])
def test_a_guest_without_the_file_fails_and_one_whose_client_sends_its_name_does_not(
    tmp_path: Path, files: dict[str, str], path: str
) -> None:
    with guest_in(tmp_path / "bare", files) as guest, pytest.raises(GuestError, match=f"{path}: is missing"):
        perform(send_hostname.TASK, guest)
    units = {
        "/usr/lib/systemd/systemd-networkd": "",
        "/usr/lib/systemd/system/systemd-networkd.service": "",
        "/usr/lib/systemd/systemd": "",
    }
    with guest_in(tmp_path / "modern", {**files, **units}) as guest:
        wants = Path(guest.root, "etc/systemd/system/multi-user.target.wants")
        wants.mkdir(parents=True)
        (wants / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")
        perform(send_hostname.TASK, guest)


@pytest.mark.image_row(62, 85)
def test_a_rename_renews_the_line_and_makes_none(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**DEBIAN, DHCLIENT: "send host-name old;\n"}) as guest:
        send_name(guest, "new", only_renewed=True)
        assert text(guest, DHCLIENT) == 'send host-name "new";\n'
        guest.write_text(DHCLIENT, "retry 1;\n")
        send_name(guest, "new", only_renewed=True)
        assert text(guest, DHCLIENT) == "retry 1;\n"


def with_hooks(*names: str) -> Job:
    return replace(JOB, hooks=Hooks(Input("the hooks", "", 0), "/hooks", names), nics=(Nic("aa:00:00:00:00:01"),))


def running(job: Job) -> list[str]:
    """The tasks of ours that run, in order."""
    mine = (
        *(
            step.task.name
            for step in plan(ON_GUEST, job, System(OsFamily.LINUX, 1), mounted=True).steps
            if step.skipped is None
        ),
    )
    return [name for name in mine if "Hook" in name or name in {"ConfigureNetwork", "DeleteSSHKeys", "SendHostname"}]


def test_a_program_runs_where_its_name_sorts_among_the_shipped_ones() -> None:
    assert running(with_hooks("10-first")) == ["RunHooksBeforeInterfaces", "ConfigureNetwork", "DeleteSSHKeys"]
    assert running(with_hooks("network")) == ["ConfigureNetwork", "RunHooksBeforeOverlays", "DeleteSSHKeys"]
    assert running(with_hooks("password")) == ["ConfigureNetwork", "RunHooksBeforeSSH", "DeleteSSHKeys"]
    assert running(with_hooks("users")) == ["ConfigureNetwork", "DeleteSSHKeys", "RunHooksBeforeDDNS"]
    assert running(with_hooks("zzz")) == ["ConfigureNetwork", "DeleteSSHKeys", "RunHooks"]


def test_each_program_is_in_one_gap_alone() -> None:
    names = tuple(
        sorted(("10", "A", "cloud-init", "grub", "interfaces", "j", "overlays", "p", "ssh", "u", "zz_ddns", "zzz"))
    )
    tasks = (
        run_hooks.BEFORE_INTERFACES,
        run_hooks.BEFORE_OVERLAYS,
        run_hooks.BEFORE_SSH,
        run_hooks.BEFORE_DDNS,
        run_hooks.TASK,
    )
    chosen = {name: [task.name for task in tasks if task.skip(with_hooks(name)) is None] for name in names}
    assert {name: len(found) for name, found in chosen.items()} == dict.fromkeys(names, 1)
    assert names_between(names, "overlays", "ssh") == ("overlays", "p")


def test_what_a_definition_leaves_off_does_not_run_and_says_why() -> None:
    job = replace(with_hooks(), kept_off={"ConfigureNetwork": "the hook interfaces is not switched on"})
    steps = {step.task.name: step for step in plan(ON_GUEST, job, System(OsFamily.LINUX, 1), mounted=True).steps}
    assert steps["ConfigureNetwork"].skipped == "the hook interfaces is not switched on"
    assert not steps["ConfigureNetwork"].quiet
    assert steps["ApplyOverlay"].quiet, "nobody asked for it, and nobody wants to hear of it"
