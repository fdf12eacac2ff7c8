# SPDX-License-Identifier: GPL-2.0-or-later
"""What the helper finds in images, on real disks that it may only read: whole ones, damaged ones, hostile ones."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from block_devices import loop_device
from snf_image_helper import tasks
from snf_image_helper.description import described
from snf_image_helper.disks.booting import boot_of
from snf_image_helper.disks.disk import Disk
from snf_image_helper.inspection import inspect_disk
from snf_image_helper.problems import Problems
from snf_image_helper.reporter import Reporter
from snf_image_shared import codec
from snf_image_shared.findings import (
    LARGEST,
    Findings,
    FoundFileSystem,
    FoundPartition,
    FoundSystem,
    FoundTable,
    FoundVolume,
    Outcome,
)
from snf_image_shared.job import Secrets
from snf_image_shared.report import Event
from unit.helper.disk_images import attached, filled, image, job, plant_root, private_mounts, sh, table_of
from unit.helper.guest_trees import guest_in

MIB = 1 << 20
BIOS_BOOT, ESP = "21686148-6449-6E6F-744E-656564454649", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
DISK_ID = "6D1C0B52-7B5A-4E3A-9E55-3C2B6A9D1302"
UUID = "7f3a9f7e-2c52-4d5c-9c7b-1d1f4b8f0203"
SCRIPT = (
    f"label: gpt\nlabel-id: {DISK_ID}\nstart=2048,size=2048,type={BIOS_BOOT}\nsize=32768,type={ESP},name=firmware\n"
    "size=40960\nsize=2048,type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F\n"
)
MADE = {
    # Not every kernel that the tests run on has vfat; the helper's has.
    2: ("mkfs.ext2", "-q", "-L", "ESP"),
    3: ("mkfs.ext4", "-q", "-L", "root\x1b[2J", "-U", UUID),
    4: ("mkswap", "-q"),
}
SSH_TASK = base64.b64encode(b"#!/bin/sh\n").decode()


@pytest.fixture
def mounts() -> Iterator[None]:
    with private_mounts():
        yield


@contextmanager
def read_only(path: Path) -> Iterator[Disk]:
    """The file as a disk that nobody can write to."""
    with loop_device(path, "--read-only") as device:
        yield Disk((str(device),))


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT disk with GRUB's code, a removable loader, and a root whose journal is to be replayed."""
    path = tmp_path_factory.mktemp("debian") / "disk"
    with private_mounts(), image(path, SCRIPT, MADE) as disk:
        disk.reload()
        with filled(disk.partition_device(2), "ext2") as place:
            for name in ("EFI/debian/grubx64.efi", "EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/notes.txt"):
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(b"MZ")
        with filled(disk.partition_device(3), "ext4") as place:
            plant_root(place, f"UUID={UUID} / ext4 defaults 0 1\n/dev/sdq9 /srv ext4 defaults 0 2\n")
            (place / "root/snf-image/helper").mkdir(parents=True)
            program = place / "root/snf-image/helper/overwrite_task_DeleteSSHKeys"
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
        sh("debugfs", "-w", "-R", "feature needs_recovery", disk.partition_device(3))
        with Path(disk.device).open("r+b") as file:
            file.write(b"\xeb\x63GRUB".ljust(0x5C, b"\x90") + (2048).to_bytes(8, "little"))
            file.seek(2048 * 512)
            file.write(b"core")
    return path


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    before = hashlib.file_digest(path.open("rb"), "sha256").hexdigest()
    yield
    assert hashlib.file_digest(path.open("rb"), "sha256").hexdigest() == before


@pytest.mark.root
@pytest.mark.usefixtures("mounts")
def test_a_disk_is_described_from_its_table_to_its_system_and_not_a_byte_of_it_changes(debian: Path) -> None:
    with unchanged(debian), loop_device(debian) as device:  # one that could be written to
        found = inspect_disk(Disk((str(device),)), job())
    assert found.table
    assert (found.size, found.sector_size, found.table.kind, found.table.id) == (64 * MIB, 512, "gpt", DISK_ID)
    assert [(item.number, item.start, item.size, item.role) for item in found.table.partitions] == [
        (1, MIB, MIB, "BIOS boot"),
        (2, 2 * MIB, 16 * MIB, "EFI system"),
        (3, 18 * MIB, 20 * MIB, "Linux"),
        (4, 38 * MIB, MIB, "swap"),
    ]
    contents = [item.content for item in found.table.partitions]
    assert [item.type for item in contents] == ["", "ext2", "ext4", "swap"]
    assert (contents[1].label, found.table.partitions[1].name) == ("ESP", "firmware")
    assert (contents[2].label, contents[2].uuid) == ("root^[[2J", UUID)
    assert contents[2].used is not None
    assert contents[2].size == contents[2].used + (contents[2].free or 0)
    assert contents[3].size is None
    assert (found.boot.bios, found.boot.boot_code, found.boot.uefi) == (True, "GRUB", True)
    assert found.boot.loaders == ("EFI/BOOT/BOOTX64.EFI", "EFI/debian/grubx64.efi")
    assert found.system
    assert (found.system.family, found.system.root_partition, found.system.distribution) == ("linux", 3, "test")
    assert found.system.root_device == f"UUID={UUID}"


@pytest.mark.root
@pytest.mark.usefixtures("mounts")
def test_a_mount_that_a_deployment_would_fail_at_is_told_and_the_rest_is_found_all_the_same(debian: Path) -> None:
    with read_only(debian) as disk:
        found = inspect_disk(disk, job())
    assert found.plan
    assert "MountImage: /etc/fstab: /srv (/dev/sdq9): such a device is not supported" in found.plan.refusal
    assert found.plan.refusal in found.problems
    assert found.system
    assert found.system.distribution == "test"
    assert not [text for text in found.problems if "OSFAMILY" in text]


@pytest.mark.root
@pytest.mark.usefixtures("mounts")
def test_the_plan_is_that_of_a_deployment_in_its_order_with_what_the_image_overrides(debian: Path) -> None:
    asked = replace(
        job(EXCLUDE_TASK_ASSIGNHOSTNAME="yes", ALLOW_MOUNTED_TASK_OVERWRITING="yes", CUSTOM_TASK=SSH_TASK),
        secrets=Secrets(password="x"),
    )
    with read_only(debian) as disk:
        plan = inspect_disk(disk, asked).plan
    assert plan
    outcomes = {task.name: task.outcome for task in plan.tasks}
    order = [name for name in outcomes if name not in {"MountImage", "UmountImage"}]
    assert order == list(tasks.NAMES)
    assert outcomes["AssignHostname"] is Outcome.EXCLUDED
    assert outcomes["DeleteSSHKeys"] is Outcome.OVERRIDDEN
    assert outcomes["AddSwap"] is Outcome.SKIPPED
    assert outcomes["ChangePassword"] is outcomes["RunCustomTask"] is outcomes["MountImage"] is Outcome.RUNS
    reasons = {task.name: task.reason for task in plan.tasks}
    assert reasons["AssignHostname"] == "EXCLUDE_TASK_ASSIGNHOSTNAME is set"
    assert reasons["DeleteSSHKeys"] == "by /root/snf-image/helper/overwrite_task_DeleteSSHKeys of the image"
    assert reasons["SELinuxAutorelabel"].startswith("decided on the guest: ")


@pytest.mark.root
@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    ("properties", "refusal"),
    [
        ({"SWAP": "nonsense"}, "property SWAP"),
        ({"EXCLUDE_TASK_FIXPARTITIONTABLE": "yes", "SWAP": "5:1"}, "AddSwap needs FixPartitionTable"),
        ({"ROOT_PARTITION": "9"}, "property ROOT_PARTITION: '9' is not the number of a partition"),
    ],
)
def test_a_job_that_a_deployment_refuses_is_refused_with_its_words(
    debian: Path, properties: Mapping[str, str], refusal: str
) -> None:
    with read_only(debian) as disk:
        plan = inspect_disk(disk, job(**properties)).plan
    assert plan
    assert refusal in plan.refusal
    assert plan.tasks == ()


@pytest.mark.root
@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(("made", "kind", "mib"), [("mkfs.xfs", "xfs", 400), ("mkfs.btrfs", "btrfs", 160)])
def test_a_root_on_another_file_system_is_measured_and_found(tmp_path: Path, made: str, kind: str, mib: int) -> None:
    with image(tmp_path / "d", f"label: dos\nsize={(mib - 20) * 2048},bootable\n", {1: (made, "-q")}, mib=mib) as disk:
        disk.reload()
        with filled(disk.partition_device(1), kind) as place:
            plant_root(place)
    with unchanged(tmp_path / "d"), read_only(tmp_path / "d") as disk:
        found = inspect_disk(disk, job())
    assert found.problems == ()
    assert found.table
    [partition] = found.table.partitions
    assert (found.table.kind, partition.type, partition.role, partition.is_bootable) == ("mbr", "83", "Linux", True)
    assert partition.content.type == kind
    assert partition.content.size is not None
    assert 0 < (partition.content.used or 0) < partition.content.size <= (mib - 20) * MIB
    assert found.system
    assert (found.system.root_partition, found.boot.bios) == (1, False)


@pytest.mark.root
@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("content", [b"", b"\xff" * 4096, b"\x55\xaa" * 256], ids=["zeros", "ones", "signatures"])
def test_a_disk_of_garbage_yields_a_report_that_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d"
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(8 * MIB)
    with unchanged(path), read_only(path) as disk:
        found = inspect_disk(disk, job())
    assert (found.size, found.system) == (8 * MIB, None)
    assert found.table is None or not any(item.content.type for item in found.table.partitions)
    assert any("partition table" in text for text in found.problems)
    assert found.plan
    assert found.plan.refusal in found.problems
    assert len(found.problems) == len(set(found.problems))


@pytest.mark.root
@pytest.mark.usefixtures("mounts")
def test_a_file_system_without_a_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d"
    with path.open("wb") as file:
        file.truncate(16 * MIB)
    sh("mkfs.ext4", "-q", "-L", "bare", str(path))
    with read_only(path) as disk:
        found = inspect_disk(disk, job())
    assert (found.table, found.content.type, found.content.label) == (None, "ext4", "bare")


@pytest.mark.root
@pytest.mark.usefixtures("mounts")
def test_partitions_of_a_table_that_cannot_be_true_are_told_but_not_looked_into(tmp_path: Path) -> None:
    table_of(tmp_path / "d", "label: dos\nsize=8192\nsize=8192\n", 16)
    with (tmp_path / "d").open("r+b") as file:
        file.seek(446 + 16 + 8)
        file.write((4096).to_bytes(4, "little"))  # the second begins in the middle of the first
    with read_only(tmp_path / "d") as disk:
        found = inspect_disk(disk, job())
    assert found.table
    assert [item.start // 512 for item in found.table.partitions] == [2048, 4096]
    assert "partitions 1 and 2 overlap; repair the image's partition table" in found.problems
    assert found.system is None


@pytest.mark.root
@pytest.mark.usefixtures("mounts")
def test_a_damaged_file_system_costs_no_more_than_itself(debian: Path, tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.write_bytes(debian.read_bytes())
    with path.open("r+b") as file:
        file.seek(18 * MIB + 2048)  # the root's group descriptors, behind its superblock
        file.write(bytes(6144))
    with read_only(path) as disk:
        found = inspect_disk(disk, job())
    assert found.table
    assert found.table.partitions[1].content.size
    assert found.table.partitions[2].content.size is None
    assert any("cannot be mounted as ext4" in text for text in found.problems)
    assert found.system is None


@pytest.mark.root
@pytest.mark.usefixtures("mounts")
def test_boot_code_of_grub_without_the_rest_of_it_does_not_boot(debian: Path, tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.write_bytes(debian.read_bytes())
    with path.open("r+b") as file:
        file.seek(2048 * 512)
        file.write(bytes(512))
    problems = Problems()
    with read_only(path) as disk:
        found = boot_of(disk, (), problems)
    assert (found.bios, found.boot_code) == (False, "GRUB")
    assert problems.texts == ("GRUB's boot code looks for the rest of GRUB in sector 2048, where there is nothing",)


ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00" + bytes(12 << 20)  # larger than what is read as a whole
FEDORA: Mapping[str, str | bytes] = {
    "/etc/os-release": 'ID=fedora\nVERSION_ID=41\nPRETTY_NAME="Fedora Linux 41 (Cloud Edition)"\n',
    "/usr/lib/systemd/systemd": ELF,
    "/usr/lib/modules/6.11.4-301.fc41.x86_64/modules.dep": "",
    "/usr/lib/modules/extra": "",
    "/etc/selinux/config": "# SELINUX= can be one of\n SELINUX=enforcing\nSELINUXTYPE=targeted\n",
    "/usr/sbin/NetworkManager": "",
    "/etc/systemd/system/multi-user.target.wants/NetworkManager.service": "",
    "/usr/bin/cloud-init": "",
    "/usr/lib/python3.13/site-packages/cloudinit/version.py": "__VERSION__ = '24.2'\n",
    "/boot/grub2/grub.cfg": "",
    "/etc/fstab": "LABEL=fedora / btrfs subvol=root 0 0\n",
}
ALPINE: Mapping[str, str | bytes] = {
    "/etc/os-release": "ID=alpine\nVERSION_ID=3.20.3\n",
    "/sbin/openrc": "",
    "/boot/extlinux.conf": "",
}


def description(root: Path, files: Mapping[str, str | bytes], problems: Problems | None = None) -> FoundSystem:
    with guest_in(root, files) as guest:
        return described(FoundSystem("linux", 1), guest, job(), problems or Problems())


def test_a_guest_is_described_by_its_files(tmp_path: Path) -> None:
    assert description(tmp_path / "guest", FEDORA) == FoundSystem(
        family="linux",
        root_partition=1,
        name="Fedora Linux 41 (Cloud Edition)",
        distribution="fedora",
        release="41",
        distribution_family="redhat",
        architecture="x86_64",
        kernels=("6.11.4-301.fc41.x86_64",),
        init="systemd",
        network="networkmanager",
        cloud_init="24.2",
        selinux="enforcing",
        boot_loader="grub",
        root_device="LABEL=fedora",
    )


def test_a_guest_without_most_of_it_leaves_the_rest_empty(tmp_path: Path) -> None:
    found = description(tmp_path / "guest", ALPINE)
    assert (found.init, found.boot_loader, found.architecture, found.cloud_init) == ("openrc", "extlinux", "", "")


@pytest.mark.parametrize("name", ["debian-ifupdown", "ubuntu-netplan", "arch-networkd", "rocky-networkmanager"])
def test_the_network_software_is_the_one_that_configure_network_writes_for(name: str) -> None:
    golden = Path(__file__).parents[2] / "golden" / name / "before"
    with guest_in(golden) as guest:
        found = described(FoundSystem("linux", 1), guest, job(), Problems())
        asked = described(FoundSystem("linux", 1), guest, job(NM_NETWORKING="yes"), Problems())
    assert found.network == name.rpartition("-")[2]
    assert bool(found.network_backend) == (name == "ubuntu-netplan")
    assert asked.network == "networkmanager"


def test_hostile_files_become_problems_one_by_one(tmp_path: Path) -> None:
    hostile = {
        **FEDORA,
        "/etc/fstab": b"#" * (5 << 20),
        "/etc/os-release": b"ID=x\xff\nPRETTY_NAME='\x1b]0;owned\x07'\n",
    }
    root = tmp_path / "guest"
    problems = Problems()
    description(root, hostile)
    (root / "etc/selinux/config").unlink()
    (root / "etc/selinux/config").symlink_to("/etc/selinux/config")
    found = description(root, {}, problems)
    assert (found.root_device, found.selinux, found.architecture) == ("", "", "x86_64")
    assert found.name.isprintable()
    assert [text.partition(":")[0] for text in problems.texts] == ["/etc/selinux/config", "/etc/fstab"]


def test_findings_are_never_more_than_the_host_takes() -> None:
    partition = FoundPartition(
        1, 0, 1 << 60, "X" * 36, name="é" * 200, uuid="u" * 36, content=FoundFileSystem("x" * 200)
    )
    found = Findings(1, 512, FoundTable("gpt", "", (partition,) * 128), problems=("\x1b" * 400,) * 40)
    text = found.dump()
    assert LARGEST // 3 < len(text) <= LARGEST
    arrived = codec.load(Findings, text)
    assert arrived.table
    assert any(text.startswith("there are 128 partitions: those after the first") for text in arrived.problems)
    small = Findings(1, 512, problems=("é",), plan=None)
    assert codec.load(Findings, small.dump()) == small


def test_findings_arrive_in_pieces_as_they_were_said() -> None:
    document = Findings(1, 512, problems=tuple(f'"\\\u2028{number}' * 40 for number in range(40))).dump()
    lines: list[bytes] = []
    Reporter(lines.append).findings(document)
    assert len(lines) > 10
    assert "".join(Event.decode(line[:-1]).text for line in lines).encode() == document


def test_problems_are_told_once_on_one_line_and_not_without_end() -> None:
    problems = Problems()
    for number in (*range(100), 1, 2):
        problems.report.warning(f"{number}\n\x1b[2J" + "x" * 1000)
    problems.report.stderr("not shown")
    assert len(problems.texts) == 41
    assert problems.texts[-1] == "and 60 more"
    assert all(text.isprintable() and len(text) <= 400 for text in problems.texts)


def test_a_disk_that_a_file_system_has_for_itself_is_shown_with_its_system(tmp_path: Path, mounts: None) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(32 * MIB))
    sh("mkfs.ext4", "-q", "-L", "all", str(path))
    with attached(path) as disk, filled(disk.device, "ext4") as place:
        plant_root(place, "/dev/vda / ext4 defaults 0 1\n")
    with read_only(path) as disk:
        found = inspect_disk(disk, job())
    assert (found.table, found.content.type, found.content.label) == (None, "ext4", "all")
    assert found.content.used
    assert found.system
    assert (found.system.root_partition, found.system.volume, found.system.distribution) == (0, "", "test")
    assert found.plan
    assert found.plan.refusal == ""


def test_an_encrypted_disk_is_shown_as_what_it_is(tmp_path: Path, mounts: None) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"LUKS\xba\xbe\0\1" + bytes(4 * MIB))
    with read_only(path) as disk:
        found = inspect_disk(disk, job())
    assert (found.content.type, found.system) == ("crypto_LUKS", None)
    assert "encrypted with LUKS" in found.problems[-1]


def test_more_logical_volumes_than_can_be_sent_are_cut_and_that_is_said() -> None:
    volumes = tuple(FoundVolume(f"{'g' * 120}/{number:0127}", "linear") for number in range(1024))
    text = Findings(1, 512, volumes=volumes, problems=("a", "b")).dump()
    assert LARGEST // 3 < len(text) <= LARGEST
    arrived = codec.load(Findings, text)
    assert arrived.volumes == volumes[: len(arrived.volumes)]
    assert arrived.problems[-2:] == ("a", "b")
    assert any(text.startswith("there are 1024 logical volumes: those after the first") for text in arrived.problems)
