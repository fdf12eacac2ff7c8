# SPDX-License-Identifier: GPL-2.0-or-later
"""Phony BSDs through a real helper VM: all their tasks on disks as the projects publish them. None of them is booted.

Each is deployed once. What the guest has afterwards comes out on a second disk, as a tar archive that the last task of
the deployment writes: no kernel of ours reads UFS.
"""

from __future__ import annotations

import base64
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from images.bsd_disks import BSD_LAYOUTS, BsdLayout, make_bsd_disk, read_label
from images.bsd_labels import System
from images.inspection import check_table, partition_table
from images.partitions import SECTOR, SECTORS_PER_MIB
from phony_guests import bsd
from phony_guests.tree import named
from provider import Instance, Outcome, Provider
from snf_image_helper.disks.ufs_check import faults_of
from snf_image_helper.system import OsFamily
from snf_image_shared.job import JOB_VERSION, Ipv4Method, Job, Nic, PersonalityFile, Secrets
from unit.helper.customised_phony import customise, picture

pytestmark = pytest.mark.vm

NAME = "phony-bsd.example.com"
GROWN_MIB = 128
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHQqdXO3qBz5UZuPsHuRkYQmqAWQWyRW1rYVOTjPPUZW me@home"
PASSWORD = "canary-7d1f"
# Layout -> the phony guest that lies there.
GUESTS = {
    "freebsd-gpt-data": "phony-freebsd-14.3",
    "netbsd-mbr": "phony-netbsd-9.4",
    "openbsd-mbr": "phony-openbsd-7.6",
}
# Letters that are no partition of their own.
WHOLE = {System.NETBSD: "cd", System.OPENBSD: "c", System.FREEBSD: "c"}
# What orders the growth at the first boot, which tasks over a mere directory do not.
GROWTH = {
    "freebsd-gpt-data": set[str](),
    "netbsd-mbr": {"/etc/rc.conf.d/resize_root", "/etc/rc.d/snf_image_growth"},
    "openbsd-mbr": {"/etc/rc.firsttime"},
}
TELL = """\
#!/bin/sh
set -e
dmesg | grep ' vdb'
grep " $SNF_IMAGE_TARGET" /proc/mounts
tar --numeric-owner -C "$SNF_IMAGE_TARGET" -cf "$SNF_IMAGE_DEV_1" .
"""
MAC = "aa:00:00:11:22:33"
NETWORK = {"NETWORK_SUBNET": "192.0.2.0/24", "NETWORK_GATEWAY": "192.0.2.1"}
# The same as deploy() orders.
JOB = Job(
    JOB_VERSION,
    NAME,
    NAME,
    "diskdump",
    ("disk-0",),
    personality=(PersonalityFile("/root/personality", "eA==", "root", "wheel"),),
    nics=(Nic(MAC, ipv4=Ipv4Method.STATIC, address4="192.0.2.10/24", gateway4="192.0.2.1"),),
    secrets=Secrets(password=PASSWORD, authorized_keys=KEY),
)


@dataclass(frozen=True)
class Deployed:
    """A layout after create. `before` and `after` are the guest's trees, with owners and modes."""

    name: str
    layout: BsdLayout
    image: Path
    disk: Path
    outcome: Outcome
    before: Path
    after: Path

    @property
    def warnings(self) -> list[str]:
        """What was warned of, but for properties that had to be found out."""
        lines = [line for line in self.outcome.log.splitlines() if line.startswith("[WARNING]")]
        return [line for line in lines if "Property " not in line]


def deploy(provider: Provider, image: Path, disk: Path, out: Path) -> Outcome:
    """Deploy the image, an existing file of the provider's directory, with everything ordered that can be."""
    for path, size in ((disk, image.stat().st_size + (GROWN_MIB << 20)), (out, 32 << 20)):
        if not path.exists():
            with path.open("wb") as file:
                file.truncate(size)
    parameters = {
        "img_id": image.name,
        "img_format": "diskdump",
        "img_passwd": PASSWORD,
        "auth_keys": KEY,
        "img_properties": {"CUSTOM_TASK": base64.b64encode(TELL.encode()).decode()},
        "img_personality": [{"path": "/root/personality", "contents": "eA==", "owner": "root", "group": "wheel"}],
    }
    nic = {"MAC": MAC, "MODE": "bridged", "IP": "192.0.2.10", **NETWORK}
    return provider.run(Instance(NAME, (disk, out), (nic,), parameters))


@pytest.fixture(scope="module", params=GUESTS)
def deployed(request: pytest.FixtureRequest, provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """Each layout once, found without a property."""
    scratch = tmp_path_factory.mktemp(request.param)
    layout = BSD_LAYOUTS[request.param]
    before, after = named(bsd.GUESTS)[GUESTS[request.param]].make(scratch / "before"), scratch / "after"
    (before / "etc/fstab").write_text(layout.fstab())
    for volume in layout.volumes:
        (before / volume.mount_point.lstrip("/")).mkdir(parents=True, exist_ok=True)
    image = provider.images / f"{request.param}.diskdump"
    make_bsd_disk(layout, before, image)
    disk, out = scratch / "disk", scratch / "out"
    outcome = deploy(provider, image, disk, out)
    assert outcome.code == 0, outcome.log
    after.mkdir()
    subprocess.run(["tar", "--numeric-owner", "-C", str(after), "-xpf", str(out)], check=True)
    return Deployed(request.param, layout, image, disk, outcome, before, after)


@pytest.mark.row(114, 135)
def test_the_last_partition_fills_the_disk(deployed: Deployed) -> None:
    check_table(deployed.disk)
    before, after = partition_table(deployed.image), partition_table(deployed.disk)
    total = (deployed.layout.mib + GROWN_MIB) * SECTORS_PER_MIB
    assert after.partitions[:-1] == before.partitions[:-1]
    assert after.partitions[-1].start == before.partitions[-1].start
    if deployed.layout.label is None:
        assert after.partitions[-1].end == total - 2049
        return
    assert after.partitions[-1].end == total - 1
    label = read_label(deployed.disk, deployed.layout.labelled, deployed.layout.system)
    assert label.total == total
    own = [item for letter, item in label.slices.items() if letter not in WHOLE[deployed.layout.system]]
    last = max(own, key=lambda item: item.start)
    assert total - 32 < last.start + last.size <= total


@pytest.mark.row(135)
def test_the_kernel_of_the_helper_reads_the_label_as_we_do(deployed: Deployed) -> None:
    told = {
        "freebsd-gpt-data": " vdb: vdb1 vdb2 vdb3 vdb4 vdb5",
        "netbsd-mbr": " vdb1: <netbsd: vdb5 vdb6 >",
        "openbsd-mbr": " vdb4: <openbsd: vdb5 vdb6 vdb7 >",
    }
    assert told[deployed.name] in deployed.outcome.log


def test_every_file_system_is_sound(deployed: Deployed, tmp_path: Path) -> None:
    for volume in deployed.layout.volumes:
        piece = tmp_path / "piece"
        with deployed.disk.open("rb") as disk:
            disk.seek(volume.start * SECTOR)
            piece.write_bytes(disk.read(volume.size * SECTOR))
        assert faults_of(str(piece)) == ()


def test_all_that_fstab_names_was_mounted(deployed: Deployed) -> None:
    for volume in deployed.layout.volumes:
        assert f" /run/snf-image/target{volume.mount_point.rstrip('/')} ufs rw," in deployed.outcome.log


@pytest.mark.row(146, 157)
def test_the_guest_is_what_the_same_tasks_make_of_its_tree_in_a_directory(deployed: Deployed, tmp_path: Path) -> None:
    pictures = []
    for seed in ("5eed", "cafe"):
        tree = tmp_path / seed
        subprocess.run(["cp", "--archive", str(deployed.before), str(tree)], check=True)
        customise(tree, replace(JOB, seed=seed * 16), family=OsFamily(deployed.layout.system))
        pictures.append(picture(tree))
    found, expected = picture(deployed.after), pictures[0]
    random = {path for path, entry in expected.items() if entry != pictures[1][path]}
    assert found.keys() - expected.keys() == GROWTH[deployed.name]
    assert expected.keys() - found.keys() == set()
    assert {path: found[path][0] for path in expected} == {path: entry[0] for path, entry in expected.items()}
    assert {path: found[path] for path in expected.keys() - random} == {
        path: expected[path] for path in expected.keys() - random
    }
    before = picture(deployed.before)
    assert [path for path in random if found[path] == before.get(path)] == []


def test_the_password_is_nowhere(deployed: Deployed) -> None:
    assert PASSWORD not in deployed.outcome.log
    assert PASSWORD.encode() not in deployed.disk.read_bytes()
