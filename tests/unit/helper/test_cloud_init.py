# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left for cloud-init, on trees: seed, drop-ins and scripts, and what of the image makes way for them."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper import cloud_init, planning
from snf_image_helper.cloud_init import network as cloud_init_network
from snf_image_helper.cloud_init import version as cloud_init_version
from snf_image_helper.cloud_init.activation import commented
from snf_image_helper.guest import Guest
from snf_image_helper.system import OsFamily, System
from snf_image_helper.tasks import (
    add_swap,
    assign_hostname,
    change_password,
    delete_ssh_keys,
    enforce_personality,
    initialize_datasource,
)
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job, Nic, PersonalityFile, Secrets
from unit.helper.disk_images import Listener
from unit.helper.guest_trees import JOB, guest_in, perform, put, seen, text
from unit.helper.test_passwords import verifies

pytestmark = pytest.mark.root

SEED = "/var/lib/cloud/seed/nocloud-net"
ONCE = "/var/lib/cloud/scripts/per-once"
DROP_INS = "/etc/cloud/cloud.cfg.d"
DATASOURCE = f"{DROP_INS}/98_snf-image-35InitializeDatasource.cfg"
PASSWORDS = f"{DROP_INS}/98_snf-image-50ChangePassword.cfg"
ACCOUNTS = {"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001::/home/user:/bin/sh\n", "/etc/group": ""}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHQqdXO3qBz5UZuPsHuRkYQmqAWQWyRW1rYVOTjPPUZW me@home"
YESCRYPT = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"
BLOWFISH = "$2y$05$abcdefghijklmnopqrstuuKJhgfdsaqwertyuiopasdfghjklzxcv"
CLOUD = replace(JOB, properties={"CLOUD_INIT": "yes"}, seed="00ff")
TASKS = (initialize_datasource, assign_hostname, change_password, delete_ssh_keys, enforce_personality)


def cloud_guest(root: Path, files: Mapping[str, str] | None = None, version: str = "") -> Guest:
    """A guest with cloud-init; a `version` is told as Debian's package tells it."""
    (root / DROP_INS.lstrip("/")).mkdir(parents=True, exist_ok=True)
    if version:
        put(root, {"/usr/bin/cloud-init": "", f"{LIBRARY}/version.py": f'__VERSION__ = "{version}"\n'})
    return guest_in(root, files or {})


LIBRARY = "/usr/lib/python3/dist-packages/cloudinit"


def with_secrets(password: str | None = None, hashed: str | None = None, keys: str | None = None, **wishes: str) -> Job:
    return replace(CLOUD, secrets=Secrets(password, hashed, keys), properties={**CLOUD.properties, **wishes})


def meta_data(guest: Guest) -> object:
    return json.loads(text(guest, f"{SEED}/meta-data"))


@pytest.mark.row(168)
def test_the_datasource_is_pinned_and_seeded_for_root_alone(tmp_path: Path) -> None:
    with cloud_guest(tmp_path) as guest:
        user_data = b"Content-Type: multipart/mixed\n\0\xff"
        perform(
            initialize_datasource.TASK,
            guest,
            replace(CLOUD, secrets=Secrets(cloud_userdata=base64.b64encode(user_data).decode())),
        )
        perform(assign_hostname.TASK, guest, CLOUD)
        assert text(guest, DATASOURCE) == "datasource_list: [ NoCloud ]\n"
        assert seen(guest, DATASOURCE) == (0, 0, 0o644)
        found = json.loads(text(guest, f"{SEED}/meta-data"))
        assert re.fullmatch(r"web\.example\.com-[0-9a-f]{16}", found.pop("instance-id"))
        assert found == {"local-hostname": "web.example.com"}
        assert (tmp_path / SEED.lstrip("/") / "user-data").read_bytes() == user_data
        assert text(guest, f"{SEED}/vendor-data") == ""
        assert {seen(guest, f"{SEED}/{name}") for name in guest.list_directory(SEED)} == {(0, 0, 0o600)}
        assert guest.list_directory(SEED) == ("meta-data", "user-data", "vendor-data")
        assert seen(guest, f"{ONCE}/clear_user_data.sh") == (0, 0, 0o700)


@pytest.mark.row(168)
def test_every_deployment_has_an_instance_id_of_its_own(tmp_path: Path) -> None:
    ids = set()
    for number, seed in enumerate(("00", "01", "0001", "ff" * 32)):
        with cloud_guest(tmp_path / str(number)) as guest:
            perform(initialize_datasource.TASK, guest, replace(CLOUD, seed=seed))
            found = meta_data(guest)
            assert isinstance(found, dict)
            ids.add(found["instance-id"])
    assert len(ids) == 4
    assert all(name.startswith("web.example.com-") for name in ids)


@pytest.mark.row(168)
def test_nothing_of_the_templates_own_life_is_left(tmp_path: Path) -> None:
    state = "/var/lib/cloud"
    old = {
        f"{state}/seed/{kind}/{name}": "old: life\n"
        for kind in ("nocloud", "nocloud-net")
        for name in cloud_init.SEED_FILES
    }
    old |= {
        f"{state}/sem/config_scripts_per_once.once": "1: 2\n",
        f"{state}/data/upgraded-network": "",
        f"{ONCE}/rm_98_snf-image-50ChangePassword.cfg.sh": "",
        f"{ONCE}/theirs.sh": "",
        PASSWORDS: '{"chpasswd": {}}',
        f"{DROP_INS}/98_snf-image-50ConfigureNetwork.cfg": '{"network": {"config": "disabled"}}',
        f"{DROP_INS}/90_theirs.cfg": "locale: C\n",
    }
    with cloud_guest(tmp_path, old) as guest:
        os.symlink("instances/old", tmp_path / "var/lib/cloud/instance")
        perform(initialize_datasource.TASK, guest, CLOUD)
        left = {f"/{path.relative_to(tmp_path)}" for path in tmp_path.rglob("*") if not path.is_dir()}
        assert left == {
            DATASOURCE,
            *(f"{SEED}/{name}" for name in ("meta-data", "user-data", "vendor-data")),
            f"{ONCE}/clear_user_data.sh",
            f"{ONCE}/theirs.sh",
            f"{DROP_INS}/90_theirs.cfg",
        }
        assert meta_data(guest) == {"instance-id": initialize_datasource.instance_id(CLOUD)}


def test_a_second_run_touches_no_file(tmp_path: Path) -> None:
    job = replace(
        with_secrets(None, YESCRYPT, KEY, SWAP="2:64"),
        personality=(PersonalityFile("/x", base64.b64encode(b"x").decode()),),
    )
    pictures = []
    with cloud_guest(tmp_path, {**ACCOUNTS, "/etc/fstab": ""}) as guest:
        for _ in range(2):
            for task in (*TASKS, add_swap):
                perform(task.TASK, guest, job)
            cloud_init_network.leave(guest, {}, Listener().reporter)
            found = {str(path): path.lstat() for path in tmp_path.rglob("*")}
            pictures.append({path: (entry.st_ino, entry.st_mtime_ns) for path, entry in found.items()})
    assert pictures[0] == pictures[1]


@pytest.mark.row(168)
@pytest.mark.parametrize(
    "settings",
    [
        "system_info:\n  paths:\n    cloud_dir: /srv/cloud/\n",
        'system_info: {paths: {"cloud_dir": "/srv/cloud", run_dir: /run/x}}\n',
        "system_info:\n  paths:\n    cloud_dir: '/srv/cloud'   # here\n#    cloud_dir: /not/here\n",
    ],
)
def test_the_seed_goes_where_this_guests_cloud_init_looks(tmp_path: Path, settings: str) -> None:
    with cloud_guest(tmp_path, {"/etc/cloud/cloud.cfg": settings}) as guest:
        perform(initialize_datasource.TASK, guest, CLOUD)
        assert guest.list_directory("/srv/cloud/seed/nocloud-net") == ("meta-data", "user-data", "vendor-data")
        assert "/srv/cloud/seed/nocloud-net/user-data" in text(guest, "/srv/cloud/scripts/per-once/clear_user_data.sh")
        assert not guest.exists("/var/lib/cloud")


@pytest.mark.row(168)
def test_the_first_boots_script_empties_the_user_data_and_goes(tmp_path: Path) -> None:
    with cloud_guest(tmp_path) as guest:
        perform(
            initialize_datasource.TASK,
            guest,
            replace(CLOUD, secrets=Secrets(cloud_userdata=base64.b64encode(b"x").decode())),
        )
        run_once(guest, "clear_user_data.sh")
        assert text(guest, f"{SEED}/user-data") == ""
        assert guest.list_directory(ONCE) == ()


def run_once(guest: Guest, name: str) -> None:
    """Run a script of per-once, which speaks of the booted guest's paths, where the guest's root is a directory."""
    place = Path(guest.root + ONCE, name)
    place.write_text(place.read_text().replace("'/", f"'{guest.root}/"))
    assert os.spawnv(os.P_WAIT, str(place), [str(place)]) == 0


@pytest.mark.row(172)
def test_debugging_logs_to_a_file_and_leaves_the_scripts_alone(tmp_path: Path) -> None:
    job = replace(with_secrets(None, "!", KEY), cloud_init_debug=True, personality=(PersonalityFile("/x", ""),))
    with cloud_guest(tmp_path, ACCOUNTS) as guest:
        for task in TASKS:
            perform(task.TASK, guest, job)
        first, logging = text(guest, DATASOURCE).splitlines()
        assert first == "datasource_list: [ NoCloud ]"
        assert logging.startswith('logcfg: "[loggers]\\n')
        assert "/var/log/snf-image/cloud-init-debug.log" in logging
        assert guest.is_dir("/var/log/snf-image")
        assert guest.list_directory(ONCE)
        assert {seen(guest, f"{ONCE}/{name}")[2] for name in guest.list_directory(ONCE)} == {0o600}


@pytest.mark.row(173)
@pytest.mark.parametrize(
    "task", [initialize_datasource, delete_ssh_keys, change_password], ids=lambda task: task.TASK.name
)
def test_a_guest_without_cloud_init_is_an_error(tmp_path: Path, task: object) -> None:
    with guest_in(tmp_path, ACCOUNTS) as guest, pytest.raises(GuestError, match="install cloud-init in the image"):
        perform(task.TASK, guest, with_secrets("secret"))  # type: ignore[attr-defined]


@pytest.mark.row(169)
@pytest.mark.parametrize("version", ["22.3", "22.4.2", "25.1.4", "26.1"])
def test_a_cloud_init_of_today_gets_users_with_hashes(tmp_path: Path, version: str) -> None:
    with cloud_guest(tmp_path, ACCOUNTS, version) as guest:
        perform(change_password.TASK, guest, with_secrets("secret", USERS="root cloud"))
        members = json.loads(text(guest, PASSWORDS))
        users = members["chpasswd"].pop("users")
        assert members == {"ssh_pwauth": True, "chpasswd": {"expire": False}}
        assert [(user["name"], user["type"]) for user in users] == [("root", "hash"), ("cloud", "hash")]
        assert all(verifies("secret", user["password"]) for user in users)
        assert "secret" not in text(guest, PASSWORDS)


@pytest.mark.row(169)
@pytest.mark.parametrize("version", ["17.1", "19.4", "22.2", ""])
@pytest.mark.parametrize("hashed", ["$6$salt$hash", "$5$rounds=5000$salt$hash", BLOWFISH])
def test_an_older_one_or_one_that_does_not_tell_gets_a_list(tmp_path: Path, version: str, hashed: str) -> None:
    with cloud_guest(tmp_path, ACCOUNTS, version) as guest:
        perform(change_password.TASK, guest, with_secrets(None, hashed, USERS="root cloud"))
        assert json.loads(text(guest, PASSWORDS))["chpasswd"] == {
            "expire": False,
            "list": f"root:{hashed}\ncloud:{hashed}\n",
        }
        assert guest.list_directory(ONCE) == (f"rm_{Path(PASSWORDS).name}.sh",)


@pytest.mark.row(169)
@pytest.mark.parametrize(
    ("version", "hashed"),
    [("22.2", YESCRYPT), ("", YESCRYPT), ("19.4", "!"), ("", "*"), ("0.7.9", "$6$salt$hash"), ("19.4", "$6$short")],
)
def test_a_hash_that_it_would_take_for_a_password_is_set_by_a_script(tmp_path: Path, version: str, hashed: str) -> None:
    with cloud_guest(tmp_path, ACCOUNTS, version) as guest:
        perform(change_password.TASK, guest, with_secrets(None, hashed, USERS="root cloud"))
        assert hashed not in (text(guest, PASSWORDS) if guest.exists(PASSWORDS) else "")
        script = f"{ONCE}/snf-image-passwords.sh"
        assert seen(guest, script) == (0, 0, 0o700)
        put(tmp_path, {"/bin/chpasswd": '#!/bin/sh\n[ "$1" = -e ] && cat > "$0.read"\n'})
        (tmp_path / "bin/chpasswd").chmod(0o755)
        body = text(guest, script).replace("chpasswd", f"{tmp_path}/bin/chpasswd")
        put(tmp_path, {script: body})
        run_once(guest, "snf-image-passwords.sh")
        assert text(guest, "/bin/chpasswd.read") == f"root:{hashed}\ncloud:{hashed}\n"
        assert not guest.exists(script)


@pytest.mark.row(169)
def test_a_lock_is_no_reason_to_let_passwords_in(tmp_path: Path) -> None:
    with cloud_guest(tmp_path, ACCOUNTS, "25.1") as guest:
        perform(change_password.TASK, guest, with_secrets(None, "!"))
        assert "ssh_pwauth" not in json.loads(text(guest, PASSWORDS))


@pytest.mark.row(169)
def test_the_file_with_hashes_is_private_and_removed_at_the_first_boot(tmp_path: Path) -> None:
    with cloud_guest(tmp_path, ACCOUNTS) as guest:
        perform(change_password.TASK, guest, with_secrets("secret"))
        assert seen(guest, PASSWORDS) == (0, 0, 0o600)
        run_once(guest, f"rm_{Path(PASSWORDS).name}.sh")
        assert not guest.exists(PASSWORDS)
        assert guest.list_directory(ONCE) == ()


@pytest.mark.row(169)
def test_keys_reach_cloud_inits_user_and_those_of_the_image_that_are_named(tmp_path: Path) -> None:
    with cloud_guest(tmp_path, ACCOUNTS) as guest:
        emoji = f"{KEY} 😀 é"
        perform(change_password.TASK, guest, with_secrets(None, None, emoji, USERS="root user cloud"))
        assert meta_data(guest) == {"public-keys": [emoji]}
        assert emoji in text(guest, f"{SEED}/meta-data")  # PyYAML makes no character of two halves
        assert text(guest, "/home/user/.ssh/authorized_keys") == f"{emoji}\n"
        assert seen(guest, "/home/user/.ssh/authorized_keys") == (1000, 1001, 0o600)
        assert json.loads(text(guest, PASSWORDS)) == {"disable_root": False}


@pytest.mark.row(169)
def test_without_the_property_users_keys_are_cloud_inits_alone(tmp_path: Path) -> None:
    with cloud_guest(tmp_path, ACCOUNTS) as guest:
        perform(change_password.TASK, guest, with_secrets(None, None, KEY))
        assert meta_data(guest) == {"public-keys": [KEY]}
        assert not guest.exists(PASSWORDS)
        assert not guest.exists("/root/.ssh")


@pytest.mark.row(170)
@pytest.mark.parametrize("swap", ["2:10", "file:10"])
def test_swap_becomes_a_file_of_at_most_the_size_asked_for(tmp_path: Path, swap: str) -> None:
    with cloud_guest(tmp_path, {"/etc/fstab": "# none\n"}) as guest:
        perform(add_swap.TASK, guest, CLOUD, SWAP=swap)
        members = json.loads(text(guest, f"{DROP_INS}/98_snf-image-50AddSwap.cfg"))
        name = members["swap"].pop("filename")
        assert members == {"swap": {"size": "auto", "maxsize": 10 << 20}}
        assert name.startswith("/swap-")
        assert name.endswith(".img")
        assert text(guest, "/etc/fstab") == "# none\n"


@pytest.mark.row(170)
def test_host_keys_are_deleted_by_cloud_init(tmp_path: Path) -> None:
    with cloud_guest(tmp_path) as guest:
        perform(delete_ssh_keys.TASK, guest, CLOUD)
        assert json.loads(text(guest, f"{DROP_INS}/98_snf-image-50DeleteSSHKeys.cfg")) == {"ssh_deletekeys": True}


@pytest.mark.row(170)
def test_cloud_init_is_told_that_the_network_has_an_owner(tmp_path: Path) -> None:
    with cloud_guest(tmp_path) as guest:
        cloud_init_network.disable(guest)
        assert json.loads(text(guest, f"{DROP_INS}/98_snf-image-50ConfigureNetwork.cfg")) == {
            "network": {"config": "disabled"}
        }


@pytest.mark.row(174)
def test_settings_of_the_image_do_not_keep_the_seeds_network_from_cloud_init(tmp_path: Path) -> None:
    off = "network: {config: disabled}\n"
    files = {"/etc/cloud/cloud.cfg": f"locale: C\n{off}", f"{DROP_INS}/99-off.cfg": off}
    files[f"{DROP_INS}/98_snf-image-50ConfigureNetwork.cfg"] = off
    with cloud_guest(tmp_path, files) as guest:
        said = Listener()
        cloud_init_network.leave(guest, {"eth0": {"dhcp4": True}}, said.reporter)
        assert json.loads(text(guest, f"{SEED}/network-config")) == {
            "version": 2,
            "ethernets": {"eth0": {"dhcp4": True}},
        }
        assert text(guest, "/etc/cloud/cloud.cfg") == f"locale: C\n# snf-image: {off}"
        assert text(guest, f"{DROP_INS}/99-off.cfg") == f"# snf-image: {off}"
        assert guest.list_directory(DROP_INS) == ("99-off.cfg",)
        assert len(said.warnings) == 2


def test_a_cloud_init_that_does_not_know_version_2_is_told(tmp_path: Path) -> None:
    with cloud_guest(tmp_path, version="0.7.9") as guest:
        said = Listener()
        cloud_init_network.leave(guest, {}, said.reporter)
        assert "before 17.1" in said.warnings[0]


DEBIAN_MARK = "Disabled by Ubuntu live installer after first boot.\n"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/etc/cloud/cloud-init.disabled", DEBIAN_MARK),
        ("/etc/cloud/ds-identify.cfg", "policy: disabled\n"),
        ("/etc/cloud/ds-identify.cfg", "# ours\ndatasource: Ec2 # here\n"),
    ],
)
def test_what_switches_cloud_init_off_is_renamed(tmp_path: Path, path: str, content: str) -> None:
    with cloud_guest(tmp_path, {path: content}) as guest:
        said = perform(initialize_datasource.TASK, guest, CLOUD)
        assert not guest.exists(path)
        assert text(guest, f"{path}.snf-image-bak") == content
        assert said.warnings[0].startswith(f"{path} is renamed to {path}.snf-image-bak, it switches cloud-init off")


@pytest.mark.parametrize(
    "content", ["policy: enabled\n", "datasource: NoCloud\n", "policy: search,notfound=disabled\n"]
)
def test_a_harmless_ds_identify_stays(tmp_path: Path, content: str) -> None:
    with cloud_guest(tmp_path, {"/etc/cloud/ds-identify.cfg": content}) as guest:
        perform(initialize_datasource.TASK, guest, CLOUD)
        assert text(guest, "/etc/cloud/ds-identify.cfg") == content


def test_a_mask_over_its_units_is_lifted(tmp_path: Path) -> None:
    with cloud_guest(tmp_path, {"/etc/systemd/system/other": ""}) as guest:
        guest.symlink("/dev/null", "/etc/systemd/system/cloud-init-local.service")
        said = perform(initialize_datasource.TASK, guest, CLOUD)
        assert guest.list_directory("/etc/systemd/system") == ("other",)
        assert "masked" in said.warnings[0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"/etc/default/grub": 'GRUB_CMDLINE_LINUX="cloud-init=disabled"\n'},
            "/etc/default/grub has the kernel argument",
        ),
        ({"/boot/loader/entries/a.conf": "options ro cloud-init=disabled\n"}, "/boot/loader/entries/a.conf has the"),
        ({"/etc/runlevels/default/sshd": ""}, "in no runlevel of OpenRC"),
        ({"/etc/cloud/cloud.cfg": "cloud_final_modules:\n - final-message\n"}, "lack the module scripts-per-once"),
    ],
)
def test_what_cannot_be_helped_is_told(tmp_path: Path, files: Mapping[str, str], message: str) -> None:
    with cloud_guest(tmp_path, files) as guest:
        warnings = perform(initialize_datasource.TASK, guest, CLOUD).warnings
        assert message in warnings[0]
        assert {path: text(guest, path) for path in files} == dict(files)


UNIT = "cloud-init-local.service"


@pytest.mark.parametrize(("wanted", "told"), [("/etc/systemd/system/cloud-init.target.wants", 0), ("/srv", 1)])
def test_units_that_systemd_does_not_start_are_told(tmp_path: Path, wanted: str, told: int) -> None:
    files = {"/usr/lib/systemd/systemd": "", f"/usr/lib/systemd/system/{UNIT}": "", f"{wanted}/{UNIT}": ""}
    with cloud_guest(tmp_path, files) as guest:
        warnings = perform(initialize_datasource.TASK, guest, CLOUD).warnings
        assert len([warning for warning in warnings if f"systemd does not start {UNIT}" in warning]) == told


def test_a_var_that_was_not_mounted_is_told(tmp_path: Path) -> None:
    fstab = "UUID=a / ext4 defaults 0 1\nUUID=b /var ext4 nofail 0 2\nUUID=c /srv ext4 nofail 0 2\n"
    with cloud_guest(tmp_path, {"/etc/fstab": fstab}) as guest:
        guest.mounts["/"] = "/dev/vda1"
        warnings = perform(initialize_datasource.TASK, guest, CLOUD).warnings
        assert warnings[0].startswith("/var is not mounted and will hide /var/lib/cloud")
        guest.mounts["/var"] = "/dev/vda2"
        assert len(perform(initialize_datasource.TASK, guest, CLOUD).warnings) == 1


INSTALLER = """datasource_list:
- None
datasource:
  None:
    metadata: {instance-id: x}
growpart:
  mode: 'off'
"""


def test_drop_ins_after_ours_do_not_choose_the_data_source(tmp_path: Path) -> None:
    files = {
        "/etc/cloud/cloud.cfg": "datasource_list: [ Ec2 ]\n",
        f"{DROP_INS}/90_dpkg.cfg": "datasource_list: [ Ec2 ]\n",
        f"{DROP_INS}/99-installer.cfg": INSTALLER,
        f"{DROP_INS}/README": "datasource_list: [ Ec2 ]\n",
        f"{DROP_INS}/pve.cfg": "datasource_list: [ NoCloud,\n  Ec2\n]\nlocale: C\n",
    }
    with cloud_guest(tmp_path, files) as guest:
        said = perform(initialize_datasource.TASK, guest, CLOUD)
        assert len(said.warnings) == 3
        changed = {path for path in files if text(guest, path) != files[path]}
        assert changed == {f"{DROP_INS}/99-installer.cfg", f"{DROP_INS}/pve.cfg"}
        assert text(guest, f"{DROP_INS}/99-installer.cfg") == INSTALLER.replace(
            "datasource_list:\n- None\n", "# snf-image: datasource_list:\n# snf-image: - None\n"
        )
        assert text(guest, f"{DROP_INS}/pve.cfg").endswith("\n# snf-image: ]\nlocale: C\n")


@pytest.mark.parametrize("name", ["/etc/cloud/cloud.cfg", f"{DROP_INS}/10_seed.cfg", f"{DROP_INS}/zz.cfg"])
def test_another_seed_is_forgotten(tmp_path: Path, name: str) -> None:
    content = "datasource:\n  NoCloud:\n    seedfrom: http://192.0.2.1/\nlocale: C\n"
    with cloud_guest(tmp_path, {name: content}) as guest:
        perform(initialize_datasource.TASK, guest, CLOUD)
        lines = text(guest, name).splitlines()
        assert [line for line in lines if not line.startswith("#")] == ["locale: C"]


@given(st.text(alphabet="a:\n -#[]{}'\"nt", max_size=60))
def test_commenting_out_is_done_once_and_loses_nothing(document: str) -> None:
    changed = commented(document, "a")
    assert changed.replace("# snf-image: ", "") == document
    assert commented(changed, "a") == changed


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({}, ""),
        ({"/usr/bin/cloud-init": ""}, "unknown version"),
        ({"/usr/bin/cloud-init": "", f"{LIBRARY}/version.py": '__VERSION__ = "18.5"\n'}, "18.5"),
        (
            {
                "/usr/bin/cloud-init": "",
                "/usr/lib/python2.7/site-packages/cloudinit/version.py": '__VERSION__ = "0.7.9"\n',
            },
            "0.7.9",
        ),
        (
            {
                "/usr/bin/cloud-init": "",
                f"{LIBRARY}/version.py": '    __VERSION__ = "@MISSING_MESON_BUILD_ARTIFACT@"\n',
                f"{LIBRARY}/meson_versions.py": 'UPSTREAM_VERSION = "26.1"\n',
            },
            "26.1",
        ),
    ],
)
def test_the_version_is_found_where_its_package_has_it(tmp_path: Path, files: Mapping[str, str], version: str) -> None:
    with guest_in(tmp_path, files) as guest:
        assert cloud_init_version.installed(guest) == version


def test_no_password_is_left_in_clear_anywhere(tmp_path: Path) -> None:
    with cloud_guest(tmp_path, {**ACCOUNTS, "/etc/fstab": ""}) as guest:
        for task in (*TASKS, add_swap):
            perform(task.TASK, guest, with_secrets("canary-Ωμέγα", keys=KEY, SWAP="2:64", USERS="root cloud"))
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) > 8
        assert not [path for path in files if b"canary" in path.read_bytes()]


@pytest.mark.parametrize("name", ["98_snf-image-50ChangePassword.cfg", "98_snf-image-35InitializeDatasource.cfg"])
def test_a_link_where_ours_belongs_is_replaced_and_not_followed(tmp_path: Path, name: str) -> None:
    with cloud_guest(tmp_path, {**ACCOUNTS, "/srv/public": "theirs"}) as guest:
        guest.symlink("/srv/public", f"{DROP_INS}/{name}")
        for task in TASKS:
            perform(task.TASK, guest, with_secrets("secret"))
        assert text(guest, "/srv/public") == "theirs"
        assert guest.is_file(f"{DROP_INS}/{name}")
        assert not guest.is_link(f"{DROP_INS}/{name}")


def test_a_pipe_in_the_place_of_settings_is_an_error_that_names_it(tmp_path: Path) -> None:
    with cloud_guest(tmp_path, {f"{SEED}/x": ""}) as guest:
        os.mkfifo(tmp_path / SEED.lstrip("/") / "meta-data")
        with pytest.raises(GuestError, match=f"{SEED}/meta-data: is a FIFO"):
            perform(initialize_datasource.TASK, guest, CLOUD)


@pytest.mark.row(168)
def test_user_data_that_is_no_base64_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    with cloud_guest(tmp_path) as guest:
        with pytest.raises(GuestError, match="cloud_userdata"):
            perform(initialize_datasource.TASK, guest, replace(CLOUD, secrets=Secrets(cloud_userdata="no base64!")))
        assert guest.list_directory(DROP_INS) == ()
        assert not guest.exists("/var")


@pytest.mark.row(167)
def test_the_disk_is_left_to_cloud_init_and_the_other_tasks_run() -> None:
    everything = {"SWAP": "b", "TIMEZONE": "UTC", "CUSTOM_TASK": "eA==", "KERNEL_ARGS": "quiet"}
    job = replace(
        with_secrets("secret", **everything),
        disks=("disk-0", "disk-1"),
        personality=(PersonalityFile("/x", ""),),
        nics=(Nic("02:00:00:00:00:01"),),
    )
    plans = planning.plan_for(job, System(OsFamily.LINUX, 1))
    steps = [step for work in (plans.on_disk, plans.on_guest, plans.on_released_disk) for step in work.steps]
    linux = [step for step in steps if OsFamily.LINUX in step.task.families]
    off = {step.task.name: step.skipped for step in linux if step.skipped is not None and not step.task.rare}
    why = "CLOUD_INIT is set: cloud-init does it in the guest"
    assert off == dict.fromkeys(("FixPartitionTable", "FilesystemResizeUnmounted", "FilesystemResizeMounted"), why)
    without = planning.plan_for(replace(job, properties=everything), System(OsFamily.LINUX, 1))
    steps = [step for work in (without.on_disk, without.on_guest) for step in work.steps]
    linux = [step for step in steps if OsFamily.LINUX in step.task.families]
    told = [step.task.name for step in linux if step.skipped is not None and not step.task.rare]
    assert told == ["InitializeDatasource"]
