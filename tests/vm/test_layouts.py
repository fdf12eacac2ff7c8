# SPDX-License-Identifier: GPL-2.0-or-later
"""Every way a guest can lie on a disk, deployed through a real helper VM, read back with others' programs."""

from __future__ import annotations

import base64
import ctypes
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from images.inspection import (
    Tree,
    check_table,
    exists,
    filesystem_size,
    fsck,
    list_directory,
    partition_table,
    probe,
    read_file,
    stat_file,
)
from images.layouts import HOSTNAME, LAYOUTS, WITH_RSA_KEY, layout
from images.partitions import SECTORS_PER_MIB
from provider import Instance, Outcome, Provider
from sparse_disks import copy_disk

pytestmark = pytest.mark.vm

NAME = "matrix.example.com"
PASSWORD = "-starts with a dash: $HOME \"quotes' Ωμέγα"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFBW3Qw8OZQ3xN1yqF0G7q9m2YtYz7mBZ8q0nqXKkq0L somebody@example.com"
TENANTS_FILE = b"a tenant's file\0with any bytes\xff\n"
SWAP_MIB = 64
NIC = {
    "MAC": "aa:00:00:af:2b:34",
    "IP": "198.51.100.3",
    "NETWORK_SUBNET": "198.51.100.0/24",
    "NETWORK_GATEWAY": "198.51.100.1",
    "MODE": "bridged",
}


@dataclass(frozen=True)
class Deployed:
    """A layout after create; `swap` is the number of the swap partition that it was given."""

    name: str
    disk: Path
    image: Path
    swap: int
    outcome: Outcome

    @property
    def root(self) -> Tree:
        """The guest's root file system."""
        return Tree(self.disk, LAYOUTS[self.name].root, LAYOUTS[self.name].subvolume)

    def text(self, path: str) -> str:
        """A file of the guest's root file system."""
        return read_file(self.root, path).decode()


@pytest.fixture(scope="module", params=LAYOUTS)
def deployed(
    request: pytest.FixtureRequest, provider: Provider, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Deployed:
    """Each layout once, on a disk 700 MiB larger than its image, with swap at the end of it."""
    return deploy(request.param, provider, cache, tmp_path_factory.mktemp(request.param))


def deploy(name: str, provider: Provider, cache: Path, directory: Path) -> Deployed:
    """Deploy a layout with everything that this version can do to a guest."""
    image = layout(name, cache)
    copy_disk(image, provider.images / f"{name}.diskdump")
    disk = directory / "disk"
    with disk.open("wb") as file:
        file.truncate(image.stat().st_size + (700 << 20))
    logical = name.startswith("ext4-mbr-logical")
    swap = 6 if logical else max(part.number for part in LAYOUTS[name].table.partitions if part.number < 5) + 1
    personality = [
        {
            "path": "/srv/new/deep/file",
            "contents": base64.b64encode(TENANTS_FILE).decode(),
            "owner": "debian",
            "group": "debian",
            "mode": 0o640,
        }
    ]
    parameters = {
        "img_id": f"{name}.diskdump",
        "img_format": "diskdump",
        "img_passwd": PASSWORD,
        "auth_keys": KEY,
        "img_properties": {"SWAP": f"{swap}:{SWAP_MIB}", "users": "root"},
        "inst_properties": {"USERS": "root debian"},
        "img_personality": personality,
    }
    outcome = provider.run(Instance(NAME, (disk,), (NIC,), parameters))
    assert outcome.code == 0, outcome.log
    return Deployed(name, disk, image, swap, outcome)


@pytest.mark.image_row(24)
@pytest.mark.row(119, 120, 121, 122, 123)
def test_the_partition_table_is_sound_and_the_last_partition_reaches_the_swap(deployed: Deployed) -> None:
    check_table(deployed.disk)
    before, after = partition_table(deployed.image), partition_table(deployed.disk)
    sectors = deployed.disk.stat().st_size // 512
    swap = after.partition(deployed.swap)
    assert swap.start + swap.size == sectors - 2048
    assert swap.size == SWAP_MIB * SECTORS_PER_MIB
    grown = after.partition(LAYOUTS[deployed.name].root)
    assert swap.start - 4096 <= grown.start + grown.size <= swap.start
    for partition in before.partitions:
        now = after.partition(partition.number)
        assert (now.start, now.type, now.name, now.uuid) == (
            partition.start,
            partition.type,
            partition.name,
            partition.uuid,
        )


@pytest.mark.image_row(24)
@pytest.mark.row(105)
def test_every_file_system_is_clean_and_the_root_fills_its_partition(deployed: Deployed) -> None:
    for volume in LAYOUTS[deployed.name].volumes:
        fsck(deployed.disk, volume.partition)
    root = partition_table(deployed.disk).partition(LAYOUTS[deployed.name].root)
    size = filesystem_size(deployed.disk, root.number)
    # Whole blocks, allocation groups or chunks; the rest is less than a MiB, or than XFS' smallest last group.
    assert root.length - (16 << 20) < size <= root.length
    before = probe(deployed.image, root.number)
    assert probe(deployed.disk, root.number) == before


def test_the_swap_is_formatted_and_in_fstab_once(deployed: Deployed) -> None:
    swap = probe(deployed.disk, deployed.swap)
    assert swap.type == "swap"
    lines = [line.split() for line in deployed.text("/etc/fstab").splitlines()]
    assert [line for line in lines if line[2:3] == ["swap"]] == [[f"UUID={swap.uuid}", "none", "swap", "sw", "0", "0"]]


def test_the_host_has_its_name(deployed: Deployed) -> None:
    assert deployed.text("/etc/hostname") == NAME + "\n"
    hosts = deployed.text("/etc/hosts")
    assert re.search(rf"^127\.0\.1\.1\s+{re.escape(NAME)}\b", hosts, re.MULTILINE)
    assert HOSTNAME not in hosts


def test_the_machine_id_is_left_for_systemd_to_make(deployed: Deployed) -> None:
    assert deployed.text("/etc/machine-id") == ""


def test_the_password_opens_both_accounts_and_nothing_else_of_shadow_changed(deployed: Deployed) -> None:
    before = read_file(Tree(deployed.image, deployed.root.partition, deployed.root.subvolume), "/etc/shadow").decode()
    rows = zip(before.splitlines(), deployed.text("/etc/shadow").splitlines(), strict=True)
    for old, new in ((old.split(":"), new.split(":")) for old, new in rows):
        if old[0] in {"root", "debian"}:
            assert crypt(PASSWORD, new[1]) == new[1]
            assert (old[0], *old[3:]) == (new[0], *new[3:])
        else:
            assert old == new
    status = stat_file(deployed.root, "/etc/shadow")
    image = stat_file(Tree(deployed.image, deployed.root.partition, deployed.root.subvolume), "/etc/shadow")
    assert (status.uid, status.gid, status.mode) == (image.uid, image.gid, image.mode)


def test_the_key_is_authorized_for_root(deployed: Deployed) -> None:
    assert KEY in deployed.text("/root/.ssh/authorized_keys").splitlines()
    status = stat_file(deployed.root, "/root/.ssh/authorized_keys")
    assert (status.uid, status.gid, status.mode & 0o7777) == (0, 0, 0o600)
    assert stat_file(deployed.root, "/root/.ssh").mode & 0o7777 == 0o700


def test_the_network_is_configured_for_the_card(deployed: Deployed) -> None:
    interfaces = "".join(
        deployed.text(path) for path in ("/etc/network/interfaces", *_below(deployed.root, "/etc/network/interfaces.d"))
    )
    assert "inet static" in interfaces
    assert "198.51.100.3" in interfaces
    assert "198.51.100.1" in interfaces


def test_the_ssh_host_keys_are_new_pairs(deployed: Deployed) -> None:
    image = Tree(deployed.image, deployed.root.partition, deployed.root.subvolume)
    names = [name for name in list_directory(image, "/etc/ssh") if name.startswith("ssh_host_")]
    types = ["ecdsa", "ed25519", *(["rsa"] if deployed.name == WITH_RSA_KEY else [])]
    assert names == [f"ssh_host_{kind}_key{public}" for kind in types for public in ("", ".pub")]
    assert [name for name in list_directory(deployed.root, "/etc/ssh") if name.startswith("ssh_host_")] == names
    for name in names:
        assert read_file(image, f"/etc/ssh/{name}") != read_file(deployed.root, f"/etc/ssh/{name}")
        if not name.endswith(".pub"):
            assert stat_file(deployed.root, f"/etc/ssh/{name}").mode & 0o7777 == 0o600


def test_the_tenants_file_lies_where_the_guest_will_see_it(deployed: Deployed) -> None:
    volumes = {volume.mount_point: volume.partition for volume in LAYOUTS[deployed.name].volumes}
    tree = Tree(deployed.disk, volumes["/srv"]) if "/srv" in volumes else deployed.root
    path = "/new/deep/file" if "/srv" in volumes else "/srv/new/deep/file"
    assert read_file(tree, path) == TENANTS_FILE
    status = stat_file(tree, path)
    assert (status.uid, status.gid, status.mode & 0o7777) == (1000, 1000, 0o640)
    parent = stat_file(tree, path.removesuffix("/file"))
    assert (parent.uid, parent.gid, parent.mode & 0o7777) == (1000, 1000, 0o750)


def test_nothing_of_the_helper_stays_in_the_guest(deployed: Deployed) -> None:
    image = Tree(deployed.image, deployed.root.partition, deployed.root.subvolume)
    for place in ("/", "/etc", "/tmp", "/run"):
        assert set(list_directory(deployed.root, place)) == set(list_directory(image, place))
    assert not exists(deployed.root, "/etc/shadow-snf-image")


@pytest.mark.row(82)
def test_each_task_is_reported_from_start_to_end(deployed: Deployed) -> None:
    messages = [message for message in deployed.outcome.messages if message["type"] == "image-helper"]
    tasks = [(message["subtype"], message["task"]) for message in messages if "task" in message]
    assert tasks == [(subtype, task) for _, task in tasks[::2] for subtype in ("task-start", "task-end")]
    assert [task for subtype, task in tasks if subtype == "task-start"][:3] == [
        "FixPartitionTable",
        "FilesystemResizeUnmounted",
        "MountImage",
    ]
    texts = [message["messages"] for message in deployed.outcome.messages if message["type"] == "image-info"]
    assert texts == [
        ["Starting image copy..."],
        ["Image copy finished."],
        ["Starting customization VM..."],
        ["Customization VM exited normally."],
        ["Checking customization status..."],
        ["Customization status is: SUCCESS"],
        ["Image customization finished successfully."],
    ]


@pytest.mark.parametrize("deployed", ["ext4-gpt"], indirect=True)
def test_two_deployments_of_one_image_share_no_identity(
    deployed: Deployed, provider: Provider, cache: Path, tmp_path: Path
) -> None:
    again = deploy(deployed.name, provider, cache, tmp_path)
    for path in ("/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ecdsa_key.pub", "/etc/shadow"):
        assert deployed.text(path) != again.text(path)


def crypt(password: str, setting: str) -> str:
    """crypt(3) of the C library's own libcrypt: Python has had none since 3.13."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    result = library.crypt(password.encode(), setting.encode())
    return result.decode() if result else "*"


def _below(tree: Tree, directory: str) -> list[str]:
    return [f"{directory}/{name}" for name in list_directory(tree, directory)] if exists(tree, directory) else []
