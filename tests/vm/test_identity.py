# SPDX-License-Identifier: GPL-2.0-or-later
"""A clone through a real helper VM: what was the template's is gone, and SELinux finds its labels on what is new."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider import Instance, Provider
from unit.helper.disk_images import private_mounts, sh
from unit.helper.guest_tools import GuestTools
from unit.helper.guest_trees import put
from unit.helper.selinux_policy import SELinuxPolicy, label

pytestmark = pytest.mark.vm

NAME = "clone.example.com"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHQqdXO3qBz5UZuPsHuRkYQmqAWQWyRW1rYVOTjPPUZW me@home"
TEMPLATE = "0123456789abcdef0123456789abcdef"
OFFSET, SIZE = 1 << 20, 96 << 20  # bytes
FILES = {
    "/etc/os-release": "ID=fedora\nVERSION_ID=42\n",
    "/etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nme:x:1000:1000::/home/me:/bin/bash\n",
    "/etc/group": "root:x:0:\nme:x:1000:\n",
    "/etc/shadow": "root:!:1:0:99999:7:::\nme:!:1:0:99999:7:::\n",
    "/etc/hostname": "template\n",
    "/etc/machine-id": f"{TEMPLATE}\n",
    "/usr/lib/systemd/systemd": "",
    "/usr/sbin/sshd": "",
    "/etc/ssh/sshd_config": "",
    "/var/lib/systemd/random-seed": "x" * 512,
    f"/var/log/journal/{TEMPLATE}/system.journal": "x",
}
LABELLED = {
    "/etc/shadow": "file",
    "/etc/hostname": "file",
    "/etc/ssh/ssh_host_ed25519_key": "file",
    "/etc/ssh/ssh_host_ed25519_key.pub": "file",
    "/home/me/.ssh": "dir",
    "/home/me/.ssh/authorized_keys": "file",
    "/srv/[odd] name": "file",
}


@pytest.fixture(scope="module")
def policy(cache: Path) -> SELinuxPolicy:
    return SELinuxPolicy.build(cache, GuestTools.unpack(cache))


@pytest.fixture(autouse=True)
def settings(provider: Provider, cache: Path) -> Iterator[None]:
    provider.configure(HELPER_DIR=str(cache / "helper"))
    yield
    provider.configure(HELPER_DIR=str(cache / "helper"))


def make_image(image: Path, tree: Path, policy: SELinuxPolicy) -> None:
    """A disk with one ext4, none of whose files has a label."""
    put(tree, FILES)
    policy.copy_to(tree)
    with image.open("wb") as file:
        file.truncate(OFFSET + SIZE)
    sh("sfdisk", "--quiet", "--no-reread", str(image), stdin=f"label: dos\nstart={OFFSET // 512}, type=83\n")
    sh("mkfs.ext4", "-q", "-F", "-d", str(tree), "-E", f"offset={OFFSET}", str(image), f"{SIZE // 1024}k")


@pytest.mark.row(147, 156)
def test_a_clone_has_the_labels_of_its_policy_and_nothing_of_its_template(
    provider: Provider, policy: SELinuxPolicy, tmp_path: Path
) -> None:
    make_image(provider.images / "template.diskdump", tmp_path / "tree", policy)
    disk = tmp_path / "disk"
    subprocess.run(["truncate", "-s", str(OFFSET + SIZE), str(disk)], check=True)
    parameters = {
        "img_id": "template.diskdump",
        "img_format": "diskdump",
        "img_passwd": "secret",
        "auth_keys": KEY,
        "img_properties": {"USERS": "me"},
        "img_personality": [{"path": "/srv/[odd] name", "contents": "eA=="}],
    }
    outcome = provider.run(Instance(NAME, (disk,), parameters=parameters))
    assert outcome.code == 0, outcome.log
    place = tmp_path / "place"
    place.mkdir()
    with private_mounts():
        sh("mount", "-o", f"ro,loop,offset={OFFSET}", str(disk), str(place))
        try:
            assert {path: label(Path(f"{place}{path}")) for path in LABELLED} == {
                path: policy.expected(path, kind) for path, kind in LABELLED.items()
            }
            assert label(place / "etc/fstab") is None
            assert not (place / ".autorelabel").exists()
            assert (place / "etc/machine-id").read_text() == ""
            assert list((place / "var/log/journal").iterdir()) == []
            assert not (place / "var/lib/systemd/random-seed").exists()
        finally:
            sh("umount", str(place))
    assert re.search(r"Reset what was the template's own: seeds \(1\), journal \(1\)", outcome.log)
