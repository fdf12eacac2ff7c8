# SPDX-License-Identifier: GPL-2.0-or-later
"""A seed for cloud-init on a partition: real tables and file systems, and a real cloud-init that finds it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from snf_image_helper import planning
from snf_image_helper.cloud_init import seed_orders
from snf_image_helper.cloud_init.documents import Orders, documents
from snf_image_helper.cloud_init.seed_partition import needed, placed, put_seed
from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.partitions import MIB, Partition, PartitionTable, TableKind
from snf_image_helper.mounting import mounted
from snf_image_helper.system import OsFamily, System
from snf_image_helper.tasks import initialize_datasource
from snf_image_shared.errors import GuestError
from snf_image_shared.findings import Outcome
from snf_image_shared.job import Ipv4Method, Job, Nic, PersonalityFile, Secrets
from unit.helper.cloud_init_room import OWN, TRIXIE, CloudInit
from unit.helper.disk_images import Listener, attached, filled, image, plant_root, private_mounts, sh, table_of
from unit.helper.guest_trees import JOB, guest_in, put
from unit.helper.test_passwords import verifies

pytestmark = pytest.mark.root

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHQqdXO3qBz5UZuPsHuRkYQmqAWQWyRW1rYVOTjPPUZW me@home"
USER_DATA = b"#cloud-config\nruncmd: [[touch, /etc/user-data]]\n"
BASIC_DATA = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
GPT = "label: gpt\nstart=1MiB, size=20MiB, name=root\nstart=21MiB, size=8MiB, type=swap\n"
MBR = "label: dos\nstart=1MiB, size=20MiB, type=83\n"


@pytest.fixture(autouse=True)
def mounts() -> Iterator[None]:
    with private_mounts():
        yield


def ordered(**wishes: str) -> Job:
    """A job that orders all that a seed can say."""
    return replace(
        JOB,
        seed="00ff",
        properties={"CLOUD_INIT": "yes", "CLOUD_INIT_SEED": "partition", **wishes},
        secrets=Secrets("secret", None, KEY, base64.b64encode(USER_DATA).decode()),
        personality=(PersonalityFile("/etc/deep/er", base64.b64encode(b"\0hello").decode(), "debian", "debian"),),
        nics=(Nic("02:00:00:00:00:01", ipv4=Ipv4Method.STATIC, address4="192.0.2.7/24", gateway4="192.0.2.1"),),
    )


def write(disk: Disk, job: Job) -> list[str]:
    listener = Listener()
    seed_orders.write_seed(disk, job, listener.reporter)
    return listener.warnings


def files_on(device: str, place: Path) -> dict[str, bytes]:
    """What a FAT file system holds: this machine's kernel need not know it."""
    place.mkdir()
    sh("mcopy", "-n", "-i", device, "::/*", str(place))
    return {path.name: path.read_bytes() for path in place.iterdir()}


@pytest.mark.parametrize(("script", "number", "kind"), [(GPT, 3, BASIC_DATA), (MBR, 2, "c")], ids=["gpt", "mbr"])
def test_the_partition_stands_at_the_end_and_the_others_stay(
    tmp_path: Path, script: str, number: int, kind: str
) -> None:
    with image(tmp_path / "disk", script, {1: ("mkfs.ext4", "-q")}, mib=32, grow_to=64) as disk:
        disk.reload()
        before = disk.require_table()
        root = Path(disk.partition_device(1)).read_bytes()
        write(disk, ordered())
        table = disk.require_table()
        made = table.partition(number)
        assert made is not None
        assert [item for item in table.partitions if item.number != number] == list(before.partitions)
        assert (made.start, made.end, made.type) == (59 * 2048, 63 * 2048 - 1, kind)
        assert Path(disk.partition_device(1)).read_bytes() == root
        said = sh("blkid", "-p", "-o", "export", disk.partition_device(number)).split()
        assert {"LABEL=cidata", "TYPE=vfat"} <= set(said)
        found = files_on(disk.partition_device(number), tmp_path / "place")
        assert found.keys() == {"meta-data", "user-data", "vendor-data", "network-config"}
        assert found["user-data"] == USER_DATA
        assert b"secret" not in b"".join(found.values())
    if script == GPT:
        assert "No problems found" in sh("sgdisk", "--verify", str(tmp_path / "disk"))


def test_a_second_run_changes_no_byte_and_another_deployment_reuses_the_partition(tmp_path: Path) -> None:
    with image(tmp_path / "disk", GPT, {}, mib=32, grow_to=64) as disk:
        write(disk, ordered())
        first = Path(disk.device).read_bytes()
        write(disk, ordered())
        assert Path(disk.device).read_bytes() == first
        table = disk.require_table()
        write(disk, replace(ordered(), seed="ff", instance="other", nics=()))
        disk.reload()
        assert disk.require_table() == table
        found = files_on(disk.partition_device(3), tmp_path / "place")
        assert found.keys() == {"meta-data", "user-data", "vendor-data"}
        assert json.loads(found["meta-data"])["instance-id"].startswith("other-")


def test_a_disk_without_a_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(8 * MIB))
    with attached(tmp_path / "disk") as disk, pytest.raises(GuestError, match="no partition table"):
        write(disk, ordered())


def test_a_seed_that_is_there_and_too_small_is_refused(tmp_path: Path) -> None:
    made = {1: ("mkfs.vfat", "-n", "CIDATA")}
    small = pytest.raises(GuestError, match=r"partition 1 \(cidata\) is too small")
    with image(tmp_path / "disk", MBR, made, mib=64) as disk, small:
        put_seed(disk, {"user-data": bytes(20 * MIB)})


def test_large_user_data_gets_the_room_it_needs(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096 * 20
    table_of(tmp_path / "disk", MBR, 64)
    with attached(tmp_path / "disk") as disk:
        disk.reload()
        put_seed(disk, {"meta-data": b"{}", "user-data": content})
        assert files_on(disk.partition_device(2), tmp_path / "place")["user-data"] == content


VAR = "label: gpt\nstart=1MiB, size=24MiB, name=root\nstart=25MiB, size=24MiB, name=var\n"


@pytest.mark.row(168)
def test_a_seed_in_the_root_lies_on_the_file_system_of_var(tmp_path: Path) -> None:
    with image(tmp_path / "disk", VAR, {1: ("mkfs.ext4", "-q"), 2: ("mkfs.ext4", "-q")}) as disk:
        disk.reload()
        with filled(disk.partition_device(1), "ext4") as place:
            plant_root(place, "PARTLABEL=root / ext4 defaults 0 1\nPARTLABEL=var /var ext4 nofail 0 2\n")
            (place / "var").mkdir()
            (place / "etc/cloud/cloud.cfg.d").mkdir(parents=True)
        said = Listener()
        with mounted(disk, System(OsFamily.LINUX, 1), said.reporter) as guest:
            initialize_datasource.TASK.run(guest, ordered(), said.reporter)
        assert said.warnings == []
        with filled(disk.partition_device(2), "ext4", "ro") as place:
            assert (place / "lib/cloud/seed/nocloud-net/user-data").read_bytes() == USER_DATA
        with filled(disk.partition_device(1), "ext4", "ro") as place:
            assert not list((place / "var").iterdir())


def table(kind: TableKind, *partitions: Partition) -> PartitionTable:
    return PartitionTable(kind, 512, partitions)


def test_it_takes_the_first_free_number() -> None:
    there = (Partition(1, 262144, 2048, "x"), Partition(14, 2048, 8192, "x"), Partition(15, 10240, 2048, "x"))
    assert placed(table(TableKind.GPT, *there), 1 << 20, 4) == Partition(2, 1038336, 8192, BASIC_DATA)


@pytest.mark.parametrize("size", [512, 4096])
def test_it_is_aligned_and_leaves_the_last_mib(size: int) -> None:
    found = placed(PartitionTable(TableKind.GPT, size), 64 * MIB // size + 7, 4)
    assert (found.start * size, (found.end + 1) * size) == (59 * MIB, 63 * MIB)


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (
            table(TableKind.GPT, Partition(1, 2048, 125000, "x")),
            r"needs 5 MiB behind the last partition and there are 1",
        ),
        (
            table(TableKind.DOS, *(Partition(number, 2048 * number, 2048, "83") for number in (1, 2, 3, 4))),
            "no free entry",
        ),
        (table(TableKind.DOS, Partition(1, 2048, 2048, "83"), Partition(2, 4096, 126000, "5")), "needs 5 MiB behind"),
    ],
)
def test_without_room_it_is_an_error(there: PartitionTable, message: str) -> None:
    with pytest.raises(GuestError, match=message):
        placed(there, 131072, 4)


@pytest.mark.parametrize(("size", "mib"), [(0, 4), (100_000, 4), (20 * MIB, 24)])
def test_the_size_follows_the_content(size: int, mib: int) -> None:
    assert needed({"user-data": bytes(size)}) == mib


def configuration(job: Job) -> dict[str, object]:
    """The cloud-config in the vendor-data of a job's seed."""
    found = documents(job, seed_orders.orders_of(job, Listener().reporter))["vendor-data"].decode()
    assert found.startswith("#cloud-config-archive\n")
    archive = yaml.safe_load(found)
    assert archive[0]["type"] == "text/cloud-config"
    config = yaml.safe_load(archive[0]["content"])
    assert isinstance(config, dict)
    return config


def test_excluded_tasks_are_left_out() -> None:
    job = ordered(
        SWAP="2:64",
        TIMEZONE="UTC",
        EXCLUDE_TASK_CHANGEPASSWORD="yes",
        EXCLUDE_TASK_ENFORCEPERSONALITY="yes",
        EXCLUDE_TASK_ADDSWAP="yes",
        EXCLUDE_TASK_CONFIGURENETWORK="yes",
        EXCLUDE_TASK_CONFIGURELOCALE="yes",
    )
    assert configuration(job) == {"ssh_deletekeys": True, "preserve_hostname": False}
    assert seed_orders.orders_of(job, Listener().reporter) == Orders("web.example.com", user_data=USER_DATA)


def test_swap_time_zone_and_locale_are_told() -> None:
    found = configuration(ordered(SWAP="2:64", TIMEZONE="Europe/Athens", LOCALE="de_DE.UTF-8"))
    assert (found["timezone"], found["locale"]) == ("Europe/Athens", "de_DE.UTF-8")
    swap = found["swap"]
    assert isinstance(swap, dict)
    assert (swap["size"], swap["maxsize"]) == ("auto", 64 * MIB)


def test_a_hash_that_older_ones_would_take_for_a_password_waits_for_a_newer_one() -> None:
    job = ordered(USERS="root debian")
    hashed = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"
    found = configuration(replace(job, secrets=Secrets(None, hashed)))["chpasswd"]
    assert isinstance(found, dict)
    assert found["users"] == [{"name": name, "password": hashed, "type": "hash"} for name in ("root", "debian")]
    assert "list" not in found


def test_debugging_keeps_what_would_be_emptied() -> None:
    job = replace(ordered(), cloud_init_debug=True)
    found = documents(job, Orders("web"))["vendor-data"].decode()
    assert len(yaml.safe_load(found)) == 1


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"CLOUD_INIT": "yes", "CLOUD_INIT_SEED": "floppy"}, "'floppy' is none of root, partition"),
        ({"CLOUD_INIT_SEED": "partition"}, "set CLOUD_INIT=yes as well"),
    ],
)
def test_a_place_that_makes_no_sense_is_refused(wishes: dict[str, str], message: str) -> None:
    with pytest.raises(GuestError, match=message):
        seed_orders.is_asked_for(replace(JOB, properties=wishes))


@pytest.mark.parametrize(
    ("wishes", "asked"), [({}, False), ({"CLOUD_INIT": "yes"}, False), (ordered().properties, True)]
)
def test_the_root_is_the_place_unless_another_is_asked_for(wishes: dict[str, str], asked: bool) -> None:
    assert seed_orders.is_asked_for(replace(JOB, properties=wishes)) is asked


@pytest.mark.parametrize(("family", "is_refused"), [({}, True), ({"OSFAMILY": "linux"}, False)])
def test_what_may_be_a_windows_gets_no_seed_that_cloudbase_init_would_misread(
    tmp_path: Path, family: dict[str, str], is_refused: bool
) -> None:
    script = f"label: gpt\nstart=1MiB, size=20MiB, type={BASIC_DATA}\n"
    with image(tmp_path / "disk", script, {1: ("mkntfs", "-Q", "-F", "-q")}, mib=32, grow_to=64) as disk:
        before = sh("sha256sum", disk.device)
        if is_refused:
            with pytest.raises(GuestError, match="set the property OSFAMILY to windows"):
                write(disk, ordered(**family))
        else:
            write(disk, ordered(**family))
        assert (sh("sha256sum", disk.device) == before) is is_refused


def test_a_plan_says_that_only_the_seed_is_written() -> None:
    found = {task.name: task.outcome for task in planning.seed_planned().tasks}
    assert found.pop("InitializeDatasource") is Outcome.RUNS
    assert len(found) > 12
    assert set(found.values()) == {Outcome.SKIPPED}


BOOT = """
ip link add lan address 02:00:00:00:00:01 type veth peer name far
ci init --local > /run/log
for stage in "init" "modules --mode config" "modules --mode final"; do ci $stage >> /run/log; done
cat /var/lib/cloud/data/result.json; hostname
echo ---
getent shadow root debian
echo ---
cat /root/.ssh/authorized_keys /home/debian/.ssh/authorized_keys
echo ---
stat -c '%n %U %a' /etc/deep/er /etc/user-data
"""


@pytest.mark.parametrize("release", [OWN, TRIXIE])
def test_a_first_boot_takes_what_such_a_seed_says(tmp_path: Path, cache: Path, release: str) -> None:
    cloud_init = CloudInit.of(release, cache)
    modules = {
        "init": ["write-files", "set_hostname", "users-groups", "ssh"],
        "config": ["set-passwords", "runcmd"],
        "final": ["write-files-deferred", "scripts-vendor", "scripts-user"],
    }
    accounts = {path: Path(path).read_text() for path in ("/etc/passwd", "/etc/shadow", "/etc/group")}
    # In a directory of the guest: no kernel is sure to mount FAT. What empties the partition is shown apart.
    job = replace(ordered(USERS="root debian"), cloud_init_debug=True)
    seed = documents(job, seed_orders.orders_of(job, Listener().reporter))
    places = {f"/var/lib/cloud/seed/nocloud/{name}": content for name, content in seed.items()}
    with guest_in(tmp_path / "guest", {**accounts, **places, "/etc/ssh/sshd_config": ""}):
        cloud_init.give(tmp_path / "guest", modules)
    put(tmp_path / "guest", {"/etc/cloud/cloud.cfg.d/20_list.cfg": "datasource_list: [ NoCloud, None ]\n"})
    state, shadow, keys, files = cloud_init.run(BOOT, tmp_path / "guest", tmp_path / "room").split("---\n")
    assert ("DataSourceNoCloud" in state, '"errors": []' in state, state.split()[-1]) == (True, True, "web")
    hashes = [line.split(":")[1] for line in shadow.splitlines()]
    assert len(hashes) == 2
    assert all(verifies("secret", hashed) for hashed in hashes)
    assert keys.splitlines() == [KEY, KEY]
    assert files.splitlines() == ["/etc/deep/er debian 440", "/etc/user-data root 644"]


def test_the_script_of_the_first_boot_leaves_no_secret_on_the_partition(tmp_path: Path) -> None:
    found = documents(ordered(), Orders("web", {"root": "$6$salt$hash"}, user_data=USER_DATA))
    script = yaml.safe_load(found["vendor-data"])[1]
    assert script["type"] == "text/x-shellscript"
    seed, commands = tmp_path / "seed", tmp_path / "commands"
    seed.mkdir()
    for name, content in found.items():
        (seed / name).write_bytes(content)
    put(commands, {"blkid": '#!/bin/sh\n[ "$*" = "-L cidata" ] && echo /dev/seed\n'})
    put(commands, {"mount": f'#!/bin/sh\n[ "$1 $2 $3" = "-t vfat /dev/seed" ] && rmdir "$4" && ln -s {seed} "$4"\n'})
    put(commands, {"umount": '#!/bin/sh\nrm "$1" && mkdir "$1"\n'})
    put(commands, {"dd": f'#!/bin/sh\necho "$@" >> {tmp_path}/zeroed\nexec /bin/dd "$@"\n'})
    for command in commands.iterdir():
        command.chmod(0o755)
    sh("env", f"PATH={commands}:/usr/bin:/bin", "sh", stdin=script["content"])
    assert {path.name: path.read_bytes() for path in seed.iterdir()} == {
        "meta-data": found["meta-data"],
        "user-data": b"",
        "vendor-data": b"",
    }
    zeroed = (tmp_path / "zeroed").read_text()
    assert f"bs={len(found['user-data'])} count=1 conv=notrunc,fsync" in zeroed
    assert f"bs={len(found['vendor-data'])} count=1 conv=notrunc,fsync" in zeroed
