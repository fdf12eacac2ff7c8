# SPDX-License-Identifier: GPL-2.0-or-later
"""cloudbase-init reads the seed alone, and finds in it what was ordered; the disk's side is the VM's to show."""

from __future__ import annotations

import configparser
import email
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from images.inspection import partition_table
from images.windows_disks import Role, make_windows_disk
from phony_windows import CLOUDBASE
from snf_image_helper.guest import Guest
from snf_image_helper.system import OsFamily, System
from snf_image_helper.tasks.windows.initialize_datasource import TASK, orders_of
from snf_image_helper.windows import cloudbase
from snf_image_helper.windows.cloudbase import Orders
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Nic, Secrets
from unit.helper.disk_images import MIB, Listener, attached, private_mounts, sh
from unit.helper.guest_trees import JOB, put
from unit.helper.windows_guests import SERVER, snapshot, windows_guest

pytestmark = pytest.mark.row(168)

MAIN = f"{CLOUDBASE}/conf/cloudbase-init.conf"
SERVICE = "cloudbaseinit.metadata.services.nocloudservice.NoCloudConfigDriveService"
PASSWORD = Orders("id", "web", passwords={"Administrator": 'pa"ss: #ö'})


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return windows_guest(tmp_path / "c", replace(SERVER, cloudbase=True))


def settings(guest: Guest, path: str = MAIN) -> dict[str, str]:
    parser = configparser.RawConfigParser(default_section="none")
    parser.read_string(Path(guest.root, path.lstrip("/")).read_text())
    return dict(parser["DEFAULT"])


def parts(orders: Orders) -> list[tuple[str, bytes]]:
    """As cloudbase-init takes them apart."""
    message = email.message_from_bytes(cloudbase.documents(orders)["user-data"])
    assert message.is_multipart()
    return [
        (part.get_content_type(), part.get_payload(decode=True))  # type: ignore[misc]
        for part in message.walk()
        if not part.is_multipart()
    ]


@pytest.mark.parametrize("name", ["cloudbase-init.conf", "cloudbase-init-unattend.conf"])
def test_nobody_but_the_seed_is_asked(guest: Guest, name: str) -> None:
    cloudbase.pin(guest, has_password=False)
    assert settings(guest, f"{CLOUDBASE}/conf/{name}")["metadata_services"] == SERVICE


def test_what_else_is_set_stays(guest: Guest) -> None:
    before = settings(guest)
    cloudbase.pin(guest, has_password=False)
    after = settings(guest)
    assert after.pop("metadata_services")
    assert after == before


def test_a_setting_of_several_lines_is_replaced_as_a_whole(guest: Guest) -> None:
    put(
        Path(guest.root),
        {MAIN: "[DEFAULT]\nmetadata_services=a.B,\n    c.D\nusername=Admin\n[x]\nmetadata_services=y\n"},
    )
    cloudbase.pin(guest, has_password=False)
    assert settings(guest) == {"metadata_services": SERVICE, "username": "Admin"}
    assert Path(guest.root, MAIN.lstrip("/")).read_bytes().endswith(b"[x]\nmetadata_services=y\n")


def test_a_search_that_leaves_out_the_seeds_place_is_widened(guest: Guest) -> None:
    put(Path(guest.root), {MAIN: "[DEFAULT]\nconfig_drive_types=iso\nconfig_drive_locations=cdrom,partition\n"})
    cloudbase.pin(guest, has_password=False)
    assert settings(guest)["config_drive_types"] == "vfat"
    assert settings(guest)["config_drive_locations"] == "cdrom,partition"


def test_nobody_gets_a_random_password_after_the_one_that_was_ordered(guest: Guest) -> None:
    cloudbase.pin(guest, has_password=True)
    plugins = settings(guest)["plugins"].split(",")
    assert "cloudbaseinit.plugins.common.userdata.UserDataPlugin" in plugins
    assert not [plugin for plugin in plugins if "SetUserPassword" in plugin]


def test_the_images_own_plugins_stay_but_for_that_one(guest: Guest) -> None:
    put(Path(guest.root), {MAIN: "[DEFAULT]\nplugins=a.One,cloudbaseinit.plugins.common.setuserpassword."
                                 "SetUserPasswordPlugin,b.Two\n"})  # fmt: skip
    cloudbase.pin(guest, has_password=True)
    assert settings(guest)["plugins"] == "a.One,b.Two"


def test_pinning_again_changes_nothing(guest: Guest) -> None:
    cloudbase.pin(guest, has_password=True)
    before = snapshot(guest.root)
    cloudbase.pin(guest, has_password=True)
    assert snapshot(guest.root) == before


def test_an_image_without_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="the image has no cloudbase-init; install it"):
        cloudbase.pin(windows_guest(tmp_path / "c"), has_password=False)


def test_name_and_keys_are_meta_data() -> None:
    found = cloudbase.documents(Orders("id", "web", ("ssh-ed25519 AAAA",)))
    assert json.loads(found["meta-data"]) == {
        "instance-id": "id",
        "local-hostname": "web",
        "public-keys": ["ssh-ed25519 AAAA"],
    }
    assert found["user-data"] == b""


def test_passwords_come_to_their_users_in_clear() -> None:
    kind, content = parts(PASSWORD)[0]
    assert kind == "text/cloud-config"
    assert yaml.safe_load(content) == {
        "users": [{"name": "Administrator", "passwd": 'pa"ss: #ö', "no_create_home": True}]
    }


def test_what_was_secret_is_wiped_at_the_end() -> None:
    kind, content = parts(PASSWORD)[-1]
    assert (kind, content.startswith(b"#ps1_sysnative\n")) == ("text/x-shellscript", True)


def test_to_debug_it_is_left() -> None:
    assert len(parts(replace(PASSWORD, clears=False))) == 1


@pytest.mark.parametrize(
    ("user_data", "kind"),
    [(b"#cloud-config\nset_timezone: x\n", "text/cloud-config"), (b"#ps1\ndir\n", "text/x-shellscript")],
)
def test_user_data_stands_beside_passwords(user_data: bytes, kind: str) -> None:
    assert parts(replace(PASSWORD, user_data=user_data))[1] == (kind, user_data)


def test_user_data_alone_stays_as_it_is() -> None:
    found = cloudbase.documents(Orders("id", "web", user_data=b"rem cmd\r\ndir\r\n"))
    assert found["user-data"] == b"rem cmd\r\ndir\r\n"


@pytest.mark.parametrize("user_data", [b"Content-Type: multipart/mixed\n\n", b"\x1f\x8b\x08"])
def test_user_data_that_cannot_stand_beside_a_password_is_refused(user_data: bytes) -> None:
    with pytest.raises(GuestError, match="cloud_userdata: user data in parts, or compressed"):
        cloudbase.documents(replace(PASSWORD, user_data=user_data))


def test_the_job_becomes_orders() -> None:
    listener = Listener()
    job = replace(JOB, secrets=Secrets(password="x"), nics=(Nic("02:00:00:00:00:01"),))
    found = orders_of(job, listener.reporter)
    assert (found.name, dict(found.passwords), list(found.ethernets)) == ("web", {"Administrator": "x"}, ["eth0"])
    assert listener.warnings == ["The property USERS is not set: Administrator is taken"]


def test_what_is_excluded_is_not_ordered() -> None:
    job = replace(
        JOB,
        secrets=Secrets(password="x"),
        nics=(Nic("02:00:00:00:00:01"),),
        properties={"EXCLUDE_TASK_CHANGEPASSWORD": "yes", "EXCLUDE_TASK_CONFIGURENETWORK": "yes"},
    )
    found = orders_of(job, Listener().reporter)
    assert (found.passwords, found.ethernets) == ({}, {})


@pytest.mark.root
def test_the_seed_gets_a_partition_while_c_is_mounted_and_once(tmp_path: Path) -> None:
    tree = replace(SERVER, cloudbase=True).make(tmp_path / "c")
    layout = make_windows_disk(tmp_path / "disk", "phony-windows-gpt", tree)
    os.truncate(tmp_path / "disk", layout.size + 40 * MIB)
    number = layout.number(Role.WINDOWS)
    place, seed = tmp_path / "place", tmp_path / "seed"
    place.mkdir()
    seed.mkdir()
    job = replace(JOB, secrets=Secrets(password="x"), properties={"CLOUD_INIT": "yes"})
    with private_mounts(), attached(tmp_path / "disk") as disk:
        disk.reload()
        sh("lowntfs-3g", "-o", "ignore_case,windows_names", disk.partition_device(number), str(place))
        try:
            with Guest(str(place), disk, System(OsFamily.WINDOWS, number)) as guest:
                for _ in range(2):
                    TASK.run(guest, job, Listener().reporter)
        finally:
            sh("umount", str(place))
        found = partition_table(tmp_path / "disk").partitions
    assert len(found) == len(layout.pieces) + 1
    sh("mcopy", "-n", "-i", f"{tmp_path / 'disk'}@@{found[-1].start * 512}", "::/*", str(seed))
    assert json.loads((seed / "meta-data").read_text())["local-hostname"] == "web"
