# SPDX-License-Identifier: GPL-2.0-or-later
"""Systems that Ignition sets up: how their disks look, and the configuration that is left for their first boot."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phony_guests import PHONY
from snf_image_helper.detection import detect
from snf_image_helper.disks.disk import Disk
from snf_image_helper.linux import ignition
from snf_image_helper.planning import plan_for, preview
from snf_image_helper.rename import rename_on
from snf_image_helper.system import Ignition, IgnitionGuest, OsFamily, System, UnknownGuestError
from snf_image_helper.tasks.write_ignition import TASK
from snf_image_shared.errors import GuestError
from snf_image_shared.findings import Outcome
from snf_image_shared.job import Ipv4Method, Job, Nic, PersonalityFile, Secrets
from unit.helper import ignition_schema
from unit.helper.disk_images import Listener, filled, image, job, plant_root, private_mounts, sh

pytestmark = pytest.mark.root

# build_library/disk_layout.json of github.com/flatcar/scripts, smaller; types from its disk_util.
FLATCAR = """label: gpt
1 : size=4096,type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B,name=EFI-SYSTEM
2 : size=2048,type=21686148-6449-6E6F-744E-656564454649,name=BIOS-BOOT
3 : size=4096,type=5DFBF5F4-2848-4BAC-AA5E-0D9A20B745A6,name=USR-A
4 : size=4096,type=5DFBF5F4-2848-4BAC-AA5E-0D9A20B745A6,name=USR-B
6 : size=20480,name=OEM
9 : size=20480,type=3884DD41-8582-4404-B9A8-E9B84F2DF50E,name=ROOT
"""
FLATCAR_MADE = {
    1: ("mkfs.ext2", "-q", "-L", "EFI-SYSTEM"),  # not every kernel that runs the tests knows vfat
    6: ("mkfs.ext4", "-q", "-L", "OEM"),
    9: ("mkfs.ext4", "-q", "-L", "ROOT"),
}
# coreos-assembler's disk: boot is ext4, the root's file system is called root.
COREOS = """label: gpt
1 : size=2048,type=21686148-6449-6E6F-744E-656564454649,name=BIOS-BOOT
3 : size=20480,name=boot
4 : size=20480,name=root
"""
COREOS_MADE = {3: ("mkfs.ext4", "-q", "-L", "boot"), 4: ("mkfs.ext4", "-q", "-L", "root")}
MICROOS = "label: gpt\n1 : size=20480\n2 : size=20480\n"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me"
NIC = Nic("52:54:00:AA:BB:01", ipv4=Ipv4Method.STATIC, address4="192.0.2.7/24", gateway4="192.0.2.1")
ORDERED = replace(
    job(),
    hostname="web.example.com",
    nics=(NIC,),
    personality=(PersonalityFile("/etc/motd", base64.b64encode(b"hello\n").decode(), "core", "500", 0o640),),
    secrets=Secrets(password="secret", authorized_keys=KEY),
    seed="5eed" * 16,
)


@pytest.fixture(autouse=True)
def _private_mounts() -> Iterator[None]:
    with private_mounts():
        yield


@contextmanager
def flatcar(path: Path, *, first_boot: bool = True) -> Iterator[Disk]:
    with image(path, FLATCAR, FLATCAR_MADE) as disk:
        disk.reload()
        with filled(disk.partition_device(1), "ext2") as place:
            (place / "flatcar").mkdir()
            if first_boot:
                (place / "flatcar/first_boot").write_text("Flatcar Container Linux first boot!\n")
        plant(disk, 9, "phony-flatcar-root")
        yield disk


@contextmanager
def coreos(path: Path, guest: str = "phony-fedora-coreos-42", *, first_boot: bool = True) -> Iterator[Disk]:
    with image(path, COREOS, COREOS_MADE) as disk:
        disk.reload()
        if first_boot:
            with filled(disk.partition_device(3), "ext4") as place:
                (place / "ignition.firstboot").touch()
        plant(disk, 4, guest)
        yield disk


@contextmanager
def microos(path: Path, label: str) -> Iterator[Disk]:
    made = {1: ("mkfs.ext4", "-q", "-L", "ROOT"), 2: ("mkfs.ext4", "-q", "-L", label)}
    with image(path, MICROOS, made) as disk:
        disk.reload()
        plant(disk, 1, "phony-opensuse-microos")
        yield disk


def plant(disk: Disk, number: int, guest: str) -> None:
    with filled(disk.partition_device(number), "ext4") as place:
        shutil.rmtree(place / "lost+found")
        PHONY[guest].make(place)


def find(disk: Disk, **properties: str) -> System:
    return detect(disk, job(**properties), Listener().reporter)


def written(disk: Disk, ordered: Job = ORDERED) -> dict[str, Any]:
    """What Ignition would find after the task, its own document first checked."""
    TASK.run(disk, ordered, Listener().reporter)
    text = config(disk)
    outer = json.loads(text)
    ignition_schema.check(outer)
    found: dict[str, Any] = json.loads(list(ignition_schema.merged(outer))[-1])
    ignition_schema.check(found)
    return found


def config(disk: Disk) -> str:
    assert disk.system and disk.system.ignition
    name = "config.ign" if disk.system.ignition.guest is IgnitionGuest.FLATCAR else "ignition/config.ign"
    with filled(disk.partition_device(disk.system.ignition.partition), "ext4") as place:
        found = (place / name).stat()
        assert (found.st_mode & 0o7777, found.st_uid) == (0o600, 0)
        return (place / name).read_text()


def files(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["path"]: item for item in document["storage"]["files"]}


def test_flatcar_before_its_first_boot_is_set_up_by_ignition(tmp_path: Path) -> None:
    with flatcar(tmp_path / "d") as disk:
        wanted = System(OsFamily.LINUX, 9, ignition=Ignition(IgnitionGuest.FLATCAR, 6))
        assert find(disk) == wanted
        assert find(disk, OSFAMILY="linux", ROOT_PARTITION="9") == wanted


def test_flatcar_that_has_booted_is_an_unknown_guest(tmp_path: Path) -> None:
    with (
        flatcar(tmp_path / "d", first_boot=False) as disk,
        pytest.raises(UnknownGuestError, match="Flatcar that has booted"),
    ):
        find(disk)


def test_coreos_before_its_first_boot_is_set_up_by_ignition(tmp_path: Path) -> None:
    with coreos(tmp_path / "d") as disk:
        wanted = System(OsFamily.LINUX, 4, ignition=Ignition(IgnitionGuest.COREOS, 3))
        assert find(disk) == wanted
        assert find(disk, OSFAMILY="linux", ROOT_PARTITION="4") == wanted


@pytest.mark.parametrize("guest", ["phony-fedora-coreos-42", "phony-fedora-silverblue-42"])
def test_other_systems_of_ostree_are_unknown_guests(tmp_path: Path, guest: str) -> None:
    with (
        coreos(tmp_path / "d", guest, first_boot=False) as disk,
        pytest.raises(UnknownGuestError, match="deployed by ostree"),
    ):
        find(disk)


@pytest.mark.parametrize("label", ["ignition", "IGNITION"])
def test_microos_is_set_up_by_ignition_where_it_has_a_partition_for_that(tmp_path: Path, label: str) -> None:
    with microos(tmp_path / "d", label) as disk:
        assert find(disk) == System(OsFamily.LINUX, 1, ignition=Ignition(IgnitionGuest.MICROOS, 2))


def test_microos_without_such_a_partition_is_an_unknown_guest(tmp_path: Path) -> None:
    with microos(tmp_path / "d", "data") as disk, pytest.raises(UnknownGuestError, match="read-only snapshot"):
        find(disk)


@pytest.mark.parametrize("properties", [{}, {"OSFAMILY": "linux", "ROOT_PARTITION": "1"}])
def test_nixos_is_an_unknown_guest_whatever_the_properties_say(tmp_path: Path, properties: dict[str, str]) -> None:
    with image(tmp_path / "d", "label: gpt\nsize=20480\n", {1: ("mkfs.ext4", "-q")}) as disk:
        disk.reload()
        plant(disk, 1, "phony-nixos-25.05")
        with pytest.raises(UnknownGuestError, match="NixOS"):
            find(disk, **properties)


def test_a_root_that_is_protected_by_hashes_is_an_unknown_guest(tmp_path: Path) -> None:
    script = "label: gpt\nsize=20480\nsize=2048,type=2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5\n"
    with image(tmp_path / "d", script, {1: ("mkfs.ext4", "-q")}) as disk:
        disk.reload()
        with filled(disk.partition_device(1), "ext4") as place:
            plant_root(place)
        with pytest.raises(UnknownGuestError, match="dm-verity"):
            find(disk)


def test_what_is_ordered_stands_in_the_configuration_of_flatcar(tmp_path: Path) -> None:
    with flatcar(tmp_path / "d") as disk:
        find(disk)
        document = written(disk)
    found = files(document)
    assert ignition_schema.data(found["/etc/hostname"]["contents"]["source"]) == b"web.example.com\n"
    network = ignition_schema.data(found["/etc/systemd/network/05-snf-image-0.network"]["contents"]["source"]).decode()
    assert "MACAddress=52:54:00:aa:bb:01" in network and "Address=192.0.2.7/24" in network
    motd = found["/etc/motd"]
    assert ignition_schema.data(motd["contents"]["source"]) == b"hello\n"
    assert (motd["mode"], motd["user"], motd["group"]) == (0o640, {"name": "core"}, {"id": 500})
    (user,) = document["passwd"]["users"]
    assert (user["name"], user["sshAuthorizedKeys"]) == ("core", [KEY])
    _, method, salt, _ = user["passwordHash"].split("$")
    assert method == "6"
    assert sh("openssl", "passwd", "-6", "-salt", salt, "secret").strip() == user["passwordHash"]
    assert document["ignition"] == {"version": "3.0.0"}


def test_coreos_gets_profiles_of_networkmanager(tmp_path: Path) -> None:
    with coreos(tmp_path / "d") as disk:
        find(disk)
        profile = files(written(disk))["/etc/NetworkManager/system-connections/Wired connection 1"]
    assert profile["mode"] == 0o600
    assert b"mac-address=52:54:00:AA:BB:01" in ignition_schema.data(profile["contents"]["source"])


def test_time_zone_and_kernel_arguments_and_users_are_ordered(tmp_path: Path) -> None:
    asked = {"TIMEZONE": "Europe/Athens", "KERNEL_ARGS": "quiet mitigations=off", "CONSOLE": "serial", "USERS": "a b"}
    with flatcar(tmp_path / "d") as disk:
        find(disk)
        document = written(disk, replace(ORDERED, properties=asked))
    assert document["storage"]["links"] == [
        {"path": "/etc/localtime", "target": "../usr/share/zoneinfo/Europe/Athens", "overwrite": True}
    ]
    assert document["ignition"] == {"version": "3.3.0"}
    assert document["kernelArguments"]["shouldExist"] == [
        "quiet",
        "mitigations=off",
        "console=tty0",
        "console=ttyS0,115200n8",
    ]
    assert [user["name"] for user in document["passwd"]["users"]] == ["a", "b"]


def test_what_is_excluded_is_not_in_the_configuration(tmp_path: Path) -> None:
    excluded = ("ASSIGNHOSTNAME", "CONFIGURENETWORK", "CHANGEPASSWORD", "ENFORCEPERSONALITY")
    asked = {f"EXCLUDE_TASK_{name}": "yes" for name in excluded}
    with flatcar(tmp_path / "d") as disk:
        find(disk)
        assert written(disk, replace(ORDERED, properties=asked)) == {"ignition": {"version": "3.0.0"}}


def test_what_no_configuration_can_do_is_said(tmp_path: Path) -> None:
    listener = Listener()
    with flatcar(tmp_path / "d") as disk:
        find(disk)
        TASK.run(disk, replace(ORDERED, properties={"SWAP": "b", "USERS": "core"}), listener.reporter)
    assert listener.warnings == ["The property SWAP has no effect: this guest is set up by Ignition"]


def test_a_second_run_leaves_the_very_same_file(tmp_path: Path) -> None:
    with flatcar(tmp_path / "d") as disk:
        find(disk)
        written(disk)
        with filled(disk.partition_device(6), "ext4") as place:
            before = (place / "config.ign").stat()
        written(disk)
        with filled(disk.partition_device(6), "ext4") as place:
            after = (place / "config.ign").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_the_configuration_of_the_image_is_merged_before_ours_and_kept_by_another_run(tmp_path: Path) -> None:
    own = '{"ignition":{"version":"3.2.0"},"storage":{"files":[{"path":"/etc/own"}]}}'
    with flatcar(tmp_path / "d") as disk:
        find(disk)
        with filled(disk.partition_device(6), "ext4") as place:
            (place / "config.ign").write_text(own)
            (place / "config.ign").chmod(0o644)
        for password in ("secret", "another"):
            written(disk, replace(ORDERED, secrets=Secrets(password=password)))
            assert next(iter(ignition_schema.merged(json.loads(config(disk))))) == own
        assert len(list(ignition_schema.merged(json.loads(config(disk))))) == 2


@pytest.mark.parametrize("own", ['{"ignition":{"version":"2.3.0"}}', "{", "[]", '{"ignition":7}', ""])
def test_a_configuration_of_the_image_that_is_of_no_such_kind_is_refused_and_stays(tmp_path: Path, own: str) -> None:
    with flatcar(tmp_path / "d") as disk:
        find(disk)
        with filled(disk.partition_device(6), "ext4") as place:
            (place / "config.ign").write_text(own)
        with pytest.raises(GuestError, match=r"/config\.ign"):
            TASK.run(disk, ORDERED, Listener().reporter)
        with filled(disk.partition_device(6), "ext4") as place:
            assert (place / "config.ign").read_text() == own


def test_user_data_are_merged_after_ours_under_cloud_init(tmp_path: Path) -> None:
    mine = '{"ignition":{"version":"3.1.0"}}'
    secrets = replace(ORDERED.secrets, cloud_userdata=base64.b64encode(mine.encode()).decode())
    with flatcar(tmp_path / "d") as disk:
        find(disk)
        TASK.run(disk, replace(ORDERED, secrets=secrets, properties={"CLOUD_INIT": "yes"}), Listener().reporter)
        assert list(ignition_schema.merged(json.loads(config(disk))))[-1] == mine


def test_only_the_configuration_is_written_and_every_other_task_says_why_it_is_not_needed(tmp_path: Path) -> None:
    with flatcar(tmp_path / "d") as disk:
        system = find(disk)
    plan = plan_for(ORDERED, system)
    assert plan.on_ignition.names == {"WriteIgnition"}
    assert not plan.on_disk.names | plan.on_guest.names | plan.on_released_disk.names
    reasons = {task.name: (task.outcome, task.reason) for task in preview(ORDERED, system, None).tasks}
    left = (Outcome.SKIPPED, "Ignition sets this guest up at its first boot")
    assert reasons["MountImage"] == reasons["FixPartitionTable"] == reasons["AssignHostname"] == left
    assert reasons["WriteIgnition"][0] is Outcome.RUNS


def test_nothing_is_written_for_ignition_in_another_guest_or_without_mounting() -> None:
    plain, set_up = System(OsFamily.LINUX, 1), System(OsFamily.LINUX, 9, "", Ignition(IgnitionGuest.FLATCAR, 6))
    (step,) = plan_for(ORDERED, plain).on_ignition.steps
    assert (step.skipped is not None, step.quiet) == (True, True)
    (step,) = plan_for(job(EXCLUDE_MOUNTED_TASKS="yes"), set_up).on_ignition.steps
    assert (step.skipped, step.excluded) == ("EXCLUDE_MOUNTED_TASKS is set", True)


@pytest.mark.parametrize("text", ["x", "{}", '{"ignition":{"config":{"merge":[7]},"version":"3.0.0"}}'])
def test_hostile_configurations_end_in_a_sentence(text: str) -> None:
    try:
        assert ignition.without_ours(text, "/config.ign") == (text,)
    except GuestError as error:
        assert "/config.ign" in str(error)


def test_a_rename_before_the_first_boot_says_that_ignition_names_the_guest(tmp_path: Path) -> None:
    listener = Listener()
    with flatcar(tmp_path / "d") as disk:
        rename_on(disk, replace(ORDERED, old_hostname="web.example.com", hostname="db.example.com"), listener.reporter)
    assert "its first boot is still to come, and Ignition" in listener.warnings[-1]


@given(st.lists(st.text()), st.lists(st.text()))
def test_what_is_merged_before_ours_comes_back_whole(before: list[str], after: list[str]) -> None:
    text = ignition.merged({"ignition": {"version": "3.0.0"}}, before, after)
    assert ignition.without_ours(text, "/config.ign") == tuple(before)
