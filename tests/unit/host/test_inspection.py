# SPDX-License-Identifier: GPL-2.0-or-later
"""What the host makes of an inspection: the helper's word tamed, a page of 80 columns, and a job without secrets."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from snf_image_host.configuration.settings import Settings
from snf_image_host.inspection.document import SCHEMA, InspectedImage, Inspection, read_findings
from snf_image_host.inspection.job import Hardware, inspection_job, request_for
from snf_image_host.inspection.table import WIDTH, lines, size
from snf_image_host.parameters.schemas import published
from snf_image_shared import codec
from snf_image_shared.errors import HelperError, RequestError
from snf_image_shared.findings import (
    Findings,
    FoundBoot,
    FoundFileSystem,
    FoundPartition,
    FoundSystem,
    FoundTable,
    FoundVolume,
    Outcome,
    Plan,
    PlannedTask,
)
from snf_image_shared.job import Action, Job

GOLDEN = Path(__file__).with_name("inspection.txt")
MIB = 1 << 20
PUBLISHED = Draft202012Validator(json.loads(published()["inspection.json"]))
ROOT = FoundFileSystem("ext4", "root", "7f3a9f7e-2c52-4d5c-9c7b-1d1f4b8f0a01", 990 * MIB, 320 * MIB, 670 * MIB)
PARTITIONS = (
    FoundPartition(1, MIB, 2 * MIB, "21686148-6449-6E6F-744E-656564454649", "BIOS boot"),
    FoundPartition(2, 3 * MIB, 1000 * MIB, "F" * 36, "", "a name of thirty-six characters, too", content=ROOT),
    FoundPartition(128, 1003 * MIB, 1 << 45, "83", "Linux", is_bootable=True, content=FoundFileSystem("crypto_LUKS")),
)
SYSTEM = FoundSystem(
    family="linux",
    root_partition=2,
    name="Debian GNU/Linux 13 (trixie)",
    distribution="debian",
    release="13",
    distribution_family="debian",
    architecture="x86_64",
    kernels=("6.12.57+deb13-amd64", "6.12.48+deb13-cloud-amd64", "6.12.41+deb13-amd64", "6.12.38+deb13-amd64"),
    init="systemd",
    network="netplan",
    network_backend="networkd",
    cloud_init="25.1.4",
    boot_loader="grub",
    root_device="UUID=7f3a9f7e-2c52-4d5c-9c7b-1d1f4b8f0a01",
)
PLAN = Plan(
    (
        PlannedTask(
            "FilesystemResizeUnmounted", Outcome.RUNS, "decided on the disk: only ext2, ext3, ext4 on the last"
        ),
        PlannedTask("AddSwap", Outcome.SKIPPED, "the property SWAP is not set"),
        PlannedTask("AssignHostname", Outcome.EXCLUDED, "EXCLUDE_TASK_ASSIGNHOSTNAME is set"),
        PlannedTask("DeleteSSHKeys", Outcome.OVERRIDDEN, "by /root/snf-image/helper/overwrite_task_DeleteSSHKeys"),
        PlannedTask("UmountImage", Outcome.RUNS),
    ),
    "MountImage: /etc/fstab: /srv (/dev/sdq9): such a device is not supported, write UUID=; or give the line nofail",
)
FINDINGS = Findings(
    size=1 << 46,
    sector_size=512,
    table=FoundTable("gpt", "6D1C0B52-7B5A-4E3A-9E55-3C2B6A9D1301", PARTITIONS),
    boot=FoundBoot(True, "GRUB", True, ("EFI/BOOT/BOOTX64.EFI", "EFI/debian/grubx64.efi")),
    system=SYSTEM,
    problems=("partition 3 is of no use to anybody; " * 4 + "publish the image anew", "short"),
    plan=PLAN,
)
IMAGE = InspectedImage(name="image 'debian.qcow2'", format="auto", container="qcow2", compression="zstd", size=81320448)
TEXTS = st.text(st.characters() | st.sampled_from("\x1b\x9b\r\n\u202e\ud800\U0001f600"), max_size=500)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
SECRETS = ("sEcret-Pw", "c2VjcmV0LWZpbGU=", "c2VjcmV0LXVzZXI=", "ssh-ed25519 AAAAsEcretKey", "IyEvYmluL3NlY3JldA==")


def hostile(text: str, number: int) -> Findings:
    """Findings in which every text and every number is the tenant's."""
    content = FoundFileSystem(text, text, text, number, number, number)
    partition = FoundPartition(number, number, number, text, text, text, text, text, content=content)
    system = FoundSystem(text, number, *(text,) * 5, kernels=(text,) * 300, init=text, network=text)
    return Findings(
        number,
        number,
        FoundTable(text, text, (partition,) * 3),
        content,
        FoundBoot(True, text, True, (text,)),
        system,
        (text,),
        Plan((PlannedTask(text, Outcome.RUNS, text),), text),
        (FoundVolume(text, text, content),) * 3,
    )


def test_a_report_is_readable_on_eighty_columns() -> None:
    text = "\n".join(lines(Inspection(image=IMAGE, disk=FINDINGS))) + "\n"
    assert text == GOLDEN.read_text()
    assert max(map(len, text.splitlines())) <= WIDTH


def test_a_report_of_nothing_says_so() -> None:
    found = "\n".join(lines(Inspection(image=IMAGE, disk=Findings(8 << 20, 512))))
    assert "8.0 MiB, no partition table, sectors of 512 B" in found
    assert "nothing to boot from was found" in found
    assert "none was recognised" in found
    assert "Task" not in found


def test_a_root_on_lvm_and_one_that_has_the_disk_for_itself_are_said_to_be_that() -> None:
    volumes = (
        FoundVolume("vg/root", "linear", FoundFileSystem("xfs", "system")),
        FoundVolume("vg/pool", "thin,pool"),
    )
    found = Findings(8 << 30, 512, system=FoundSystem("linux", 2, "vg/root"), volumes=volumes)
    text = "\n".join(lines(Inspection(image=IMAGE, disk=found)))
    assert "partition 2, logical volume vg/root" in text
    assert "  * vg/root: linear, xfs 'system'" in text
    assert "  * vg/pool: thin,pool, -" in text
    bare = Findings(8 << 30, 512, content=FoundFileSystem("ext4"), system=FoundSystem("linux", 0))
    assert "the whole disk" in "\n".join(lines(Inspection(image=IMAGE, disk=bare)))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        *(
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KiB"),
            (1024, "1.0 KiB"),
            (MIB - 1, "1.0 MiB"),
            (120 * MIB, "120 MiB"),
        ),
        *((1000 * MIB, "1.0 GiB"), (1 << 45, "32.0 TiB"), (2**63 - 1, "8192 PiB")),
    ],
)
def test_a_size_has_no_more_digits_than_a_person_wants(count: int, text: str) -> None:
    assert size(count) == text


@given(TEXTS, st.integers(-(2**70), 2**70))
@settings(max_examples=40)
def test_whatever_a_hostile_image_is_called_nothing_of_it_reaches_a_terminal(text: str, number: int) -> None:
    found = read_findings(codec.dump(hostile(text, number)).decode())
    assert 0 <= found.size < 2**63
    assert found.system
    assert len(found.system.kernels) == 256
    shown = list(lines(Inspection(image=IMAGE, disk=found)))
    assert all(line.isprintable() for line in shown)
    assert max(map(len, shown)) <= WIDTH
    assert max(len(part) for part in (found.system.name, *found.problems)) <= 400
    document = json.loads(Inspection(image=IMAGE, disk=found).model_dump_json())
    PUBLISHED.validate(document)


@given(JSON.map(json.dumps) | st.text(max_size=50) | st.binary(max_size=50).map(lambda raw: raw.decode("latin-1")))
def test_what_is_no_finding_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(HelperError, match="findings cannot be read"):
        read_findings(text)


@pytest.mark.parametrize("text", ["[" * 60_000, "9" * 60_000, '{"size":NaN}', "", '{"size":true,"sector_size":512}'])
def test_what_would_harm_a_reader_is_the_same_error(text: str) -> None:
    with pytest.raises(HelperError, match="findings cannot be read"):
        read_findings(text)


def test_good_findings_arrive_as_they_were_said() -> None:
    assert read_findings(FINDINGS.dump().decode()) == FINDINGS


def test_the_published_document_is_the_model_and_every_member_is_described() -> None:
    schema = json.loads(published()["inspection.json"])
    document = SCHEMA.dump_python(Inspection(image=IMAGE, disk=FINDINGS), mode="json")
    Draft202012Validator(schema).validate(document)
    assert set(document) == set(schema["properties"]) == {"version", "image", "disk"}
    partition = schema["properties"]["disk"]["properties"]["table"]["anyOf"][0]["properties"]["partitions"]["items"]
    assert partition["properties"]["start"]["description"] == "Where it begins, in bytes"


def planned(parameters: dict[str, str], hardware: Hardware | None = None) -> Job:
    given = {"IMG_ID": "x", "IMG_FORMAT": "diskdump", **parameters}
    return inspection_job(request_for(given, hardware or Hardware(), Settings()), Settings())


def test_the_job_of_a_plan_holds_what_decides_and_not_one_secret() -> None:
    personality = json.dumps([{"path": "/etc/motd", "contents": SECRETS[1]}])
    job = planned(
        {
            "IMG_PASSWD": SECRETS[0],
            "IMG_PERSONALITY": personality,
            "CLOUD_USERDATA": SECRETS[2],
            "AUTH_KEYS": SECRETS[3],
            "IMG_PROPERTIES": json.dumps({"CUSTOM_TASK": SECRETS[4], "SWAP": "2:64"}),
            "OS_PRODUCT_KEY": "",
        }
    )
    text = job.dump().decode()
    assert [secret for secret in SECRETS if secret in text] == []
    assert base64.b64decode(SECRETS[1]).decode() not in text
    assert (job.action, job.secrets.password, job.secrets.product_key, job.secrets.password_hash) == (
        Action.INSPECT,
        "x",
        "",
        None,
    )
    assert [file.path for file in job.personality] == ["/etc/motd"]
    assert dict(job.properties) == {"CUSTOM_TASK": "x", "SWAP": "2:64"}


def test_the_instance_of_a_plan_has_the_cards_that_its_network_speaks_of_and_the_disks_that_are_asked_for() -> None:
    network = {"nics": [{"mac": "aa:00:00:12:34:56", "ipv4": "dhcp"}, {"index": 2, "addresses": ["192.0.2.7/24"]}]}
    job = planned({"NETWORK": json.dumps(network)}, Hardware(disks=3))
    assert len(job.disks) == 3
    assert job.nics[0].mac == "aa:00:00:12:34:56"
    assert job.nics[2].address4 == "192.0.2.7/24"
    assert planned({}, Hardware(nics=0)).nics == ()
    assert len(planned({}, Hardware(nics=2)).nics) == 2


def test_a_dump_has_the_properties_that_a_create_gives_it() -> None:
    job = planned({"IMG_FORMAT": "extdump", "IMG_PROPERTIES": '{"OSFAMILY": "freebsd"}'})
    assert dict(job.properties) == {"OSFAMILY": "freebsd", "ROOT_PARTITION": "1"}


def test_os_parameters_that_create_refuses_are_refused_with_its_words() -> None:
    with pytest.raises(RequestError, match="img_passwd and img_passwd_hash exclude each other"):
        planned({"IMG_PASSWD": "a", "IMG_PASSWD_HASH": "b"})


def test_a_plan_is_told_when_it_was_asked_for_alone() -> None:
    without = Inspection(image=IMAGE, disk=replace(FINDINGS, plan=None))
    assert not [line for line in lines(without) if "AddSwap" in line]
