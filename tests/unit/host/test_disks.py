# SPDX-License-Identifier: GPL-2.0-or-later
"""The disks that Ganeti names in its environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from snf_image_host.configuration.settings import Settings
from snf_image_host.disks.instance_disks import MAX_DISKS, InstanceDisk, Transfer, disks_from_environment
from snf_image_host.disks.storage import data_disks, open_disks
from snf_image_shared.errors import RequestError


@pytest.mark.parametrize("verb", ["EXPORT", "IMPORT"])
def test_a_disk_to_move_is_the_one_that_ganeti_names(verb: str) -> None:
    env = {"OS_API_VERSION": "20", f"{verb}_DEVICE": "/a,b c", f"{verb}_DISK_PATH": "/other", "EXP_SIZE_FD": "11"}
    found = Transfer.from_environment(env, "EXPORT" if verb == "EXPORT" else "IMPORT")
    assert found == Transfer(InstanceDisk(Path("/a,b c"), variable=f"{verb}_DISK_URI"), 11)
    assert (
        Transfer.from_environment(dict(env, EXP_SIZE_FD=""), "EXPORT" if verb == "EXPORT" else "IMPORT").size_fd is None
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OS_API_VERSION", "15"),
        ("EXPORT_DEVICE", ""),
        ("EXPORT_DEVICE", "rbd:x"),
        *(("EXP_SIZE_FD", fd) for fd in ("x", "-1", "²", "9" * 5000, "1 ")),
    ],
)
def test_a_transfer_that_cannot_be_is_refused_by_its_variable(variable: str, value: str) -> None:
    env = {"OS_API_VERSION": "20", "EXPORT_DEVICE": "/a", variable: value}
    with pytest.raises(RequestError, match=f"^{variable}: "):
        Transfer.from_environment(env, "EXPORT")


CANARY = "Canary-2c9d-key"
FIRMWARE = b"GNTOVMF\0"  # ganeti lib/hypervisor/hv_kvm/firmware.py


def environment(count: int, **extra: str) -> dict[str, str]:
    return {"DISK_COUNT": str(count), **{f"DISK_{index}_PATH": f"/dev/{index}" for index in range(count)}, **extra}


@pytest.mark.row(22)
@pytest.mark.parametrize("verb", ["EXPORT", "IMPORT"])
def test_a_disk_to_move_may_be_a_uri_alone_and_has_a_declared_size(verb: str) -> None:
    env = {
        "OS_API_VERSION": "20",
        f"{verb}_DISK_URI": f"rbd:pool/x:key={CANARY}",
        f"{verb}_INDEX": "3",
        "DISK_3_SIZE": "17",
    }
    found = Transfer.from_environment(env, "EXPORT" if verb == "EXPORT" else "IMPORT")
    assert (found.disk.path, found.declared) == (None, 17 << 20)
    assert found.disk.uri.startswith("rbd:pool/x")
    assert CANARY not in repr(found)


@pytest.mark.parametrize(("index", "size"), [("", "17"), ("x", "17"), ("3", ""), ("3", "1.5"), ("3", "9" * 4301)])
def test_a_size_that_ganeti_does_not_tell_is_unknown(index: str, size: str) -> None:
    env = {"OS_API_VERSION": "20", "IMPORT_DEVICE": "/a", "IMPORT_INDEX": index, "DISK_3_SIZE": size}
    assert Transfer.from_environment(env, "IMPORT").declared is None


def test_an_instance_may_have_disks_of_every_kind() -> None:
    env = environment(
        3, DISK_1_PATH="", DISK_1_URI=f"rbd:pool/x:key={CANARY}", DISK_2_URI="anything", DISK_2_ACCESS="ro"
    )
    disks = disks_from_environment(env)
    assert [disk.path for disk in disks] == [Path("/dev/0"), None, Path("/dev/2")]
    assert [disk.access for disk in disks] == ["rw", "rw", "ro"]
    assert CANARY not in repr(disks)


def test_a_uri_that_is_needed_and_wrong_is_refused_by_its_variable_without_its_secrets() -> None:
    with pytest.raises(RequestError, match=r"^DISK_1_URI: 'rbd:\.\.\.' has another option") as caught:
        disks_from_environment(environment(2, DISK_1_PATH="", DISK_1_URI=f"rbd:pool/x:keyring={CANARY}"))
    assert CANARY not in str(caught.value)


@pytest.mark.row(94)
@pytest.mark.parametrize(
    "kind", ["paravirtual", "scsi", "scsi-hd", "scsi-block", "scsi-generic", "ide", "sata", "ioemu", "mtd", "sd", "new"]
)
def test_how_the_instance_sees_its_disks_does_not_matter(kind: str) -> None:
    env = environment(2, INSTANCE_HV_disk_type=kind, DISK_0_FRONTEND_TYPE=kind, DISK_0_BACKEND_TYPE="file:blktap2")
    assert disks_from_environment(env) == disks_from_environment(environment(2))


def test_a_disk_of_another_role_is_not_counted() -> None:
    env = environment(MAX_DISKS + 1, DISK_7_ROLE="firmware", DISK_8_ROLE="data")
    assert [str(disk.path) for disk in disks_from_environment(env)] == [
        f"/dev/{index}" for index in range(MAX_DISKS + 1) if index != 7
    ]
    with pytest.raises(RequestError, match=r"^DISK_COUNT: "):
        disks_from_environment(environment(1, DISK_0_ROLE="firmware"))
    with pytest.raises(RequestError, match=r"^DISK_COUNT: "):
        disks_from_environment(environment(MAX_DISKS + 1))


def test_ganetis_firmware_disk_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    disks = []
    for name, content in (("system", b"x"), ("data", FIRMWARE[:7] + b"x"), ("firmware", FIRMWARE), ("more", b"")):
        (tmp_path / name).write_bytes(content.ljust(4096, b"\0"))
        disks.append(InstanceDisk(tmp_path / name))
    none, directory = InstanceDisk(tmp_path / "none"), InstanceDisk(tmp_path)
    remote = InstanceDisk(None, uri="rbd:a/b")
    assert data_disks([*disks, none, directory, remote]) == (*disks[:2], disks[3], none, directory, remote)


def test_what_a_tenant_writes_on_his_first_disk_hides_it_from_nobody(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(FIRMWARE.ljust(4096, b"\0"))
    settings = Settings(helper_dir=tmp_path, image_dir=tmp_path, run_dir=tmp_path)
    with open_disks(data_disks([InstanceDisk(disk)]), settings) as (first, *others):
        assert (first.size, others) == (4096, [])
