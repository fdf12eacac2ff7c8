# SPDX-License-Identifier: GPL-2.0-or-later
"""Hooks, overlays and networks of one instance in the real helper VM, from files as instance-image has them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from images.inspection import Tree, read_file
from images.layouts import LAYOUTS, layout
from provider import Instance, Outcome, Provider
from sparse_disks import copy_disk

pytestmark = pytest.mark.vm

NAME = "web.example.com"
SECRET = "what no hook may see"
_LAYOUT = "ext4-mbr-primary"
# Notes what the tasks and the hooks before it have left.
_NOTE = r"""#!/bin/bash
set -eu
. common.sh
is() { grep -qrs -- "$1" $TARGET/$2 && echo "$3" || :; }
echo ${0##*/} $(is web etc/hostname named) $(is 192.0.2.9 etc/network static) $(is welcome etc/motd.overlay overlay) \
    $(is FROM-THE-OVERLAY etc/ssh/ssh_host_rsa_key key) $(is 'send host-name "web"' etc/dhcp/dhclient.conf ddns) \
    >> $TARGET/etc/notes
"""
_LOOK = r"""#!/bin/bash
set -e
. common.sh
get_os
{
    cat "$NETWORKS_DIR/instances/$INSTANCE_NAME" "$NETWORKS_DIR"/subnets/*
    for place in "$NETWORKS_DIR/instances" "$OVERLAYS_DIR" "$CUSTOMIZE_DIR/lib"; do ls "$place"; done
    echo "$OPERATING_SYSTEM $INSTANCE_HV_serial_speed $NIC_0_MAC $IMAGE_TYPE $DISK_0_PATH $KERNEL_ARGS"
    $VOL_TYPE "$ROOT_DEV"
    ls /sys/class/net | wc -l
    found=$(find /etc /run/snf-image/hooks /tmp "$(dirname "$NETWORKS_DIR")" -xdev -type f \
        -exec grep -l "what no hook ma[y] see" {} + || :)
    echo "${found:-no secret}"
} > "$TARGET/etc/look"
"""


def put(root: Path, files: Mapping[str, str], mode: int = 0o644) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        (root / name).chmod(mode)


@pytest.fixture
def node(provider: Provider, tmp_path: Path) -> Iterator[Path]:
    """/etc/ganeti/instance-image of a node by which `image` goes until the test is over."""
    etc = provider.root / "etc/ganeti/instance-image"
    shutil.copytree(etc, tmp_path / "before", symlinks=True)
    yield etc
    shutil.rmtree(etc)
    shutil.copytree(tmp_path / "before", etc, symlinks=True)


@pytest.fixture
def image(provider: Provider, cache: Path, tmp_path: Path) -> tuple[Provider, Instance]:
    """The OS definition with a raw image, and an instance of it."""
    definition = provider.as_image()
    source = layout(_LAYOUT, cache)
    copy_disk(source, definition.images / "small-x86_64.raw")
    definition.configure(IMAGE_NAME="small", IMAGE_TYPE="raw", ARCH="x86_64", OVERLAY="web", KERNEL_ARGS="a=/b&c")
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(source.stat().st_size)
    return definition, Instance(NAME, (disk,), ({"MAC": "aa:00:00:12:34:56"},))


def deploy(image: tuple[Provider, Instance]) -> Outcome:
    definition, instance = image
    return definition.run(instance, OS_NAME="image", INSTANCE_HV_serial_speed="38400")


def text(image: tuple[Provider, Instance], path: str) -> str:
    return read_file(Tree(image[1].disks[0], LAYOUTS[_LAYOUT].root_place), path).decode()


@pytest.mark.image_row(62, 64, 65, 66, 69, 71, 82, 85, 99)
def test_hooks_take_turns_with_our_tasks_and_see_what_is_theirs(node: Path, image: tuple[Provider, Instance]) -> None:
    put(node, {f"hooks/{name}": _NOTE for name in ("10-first", "network", "password", "users", "zzz")}, 0o755)
    put(node, {"hooks/ignored.sh": _NOTE, "hooks/zzzz": _LOOK}, 0o755)
    put(node, {"hooks/lib/data": "", "hooks/not-executable": _NOTE})
    for name in ("interfaces", "overlays", "ssh", "zz_ddns"):
        (node / "hooks" / name).chmod(0o755)
    key = "-----BEGIN RSA PRIVATE KEY-----\nFROM-THE-OVERLAY\n"
    put(node, {"overlays/web/etc/motd.overlay": "welcome\n", "overlays/web/.dot": "", "overlays/other/secret": SECRET})
    put(
        node, {"overlays/web/etc/ssh/ssh_host_rsa_key": key, "overlays/web/etc/dhcp/dhclient.conf": "retry 1;\n"}, 0o600
    )
    put(node, {f"networks/instances/{NAME}": "ADDRESS=192.0.2.9\nSUBNET=lan\n"})
    put(node, {"networks/subnets/lan": "NETMASK=255.255.255.0\nGATEWAY=192.0.2.1\n"})
    put(node, {"networks/instances/other.example.com": SECRET, "networks/subnets/other": SECRET})
    outcome = deploy(image)
    assert outcome.code == 0, outcome.log
    assert text(image, "/etc/notes").splitlines() == [
        "10-first",
        "network named static",
        "password named static overlay key",
        "users named static overlay",
        "zzz named static overlay ddns",
    ]
    assert text(image, "/etc/look").splitlines() == [
        "ADDRESS=192.0.2.9",
        "SUBNET=lan",
        "NETMASK=255.255.255.0",
        "GATEWAY=192.0.2.1",
        NAME,
        "web",
        "data",
        "debian 38400 aa:00:00:12:34:56 raw /dev/vdb a=/b&c",
        "ext4",
        "1",
        "no secret",
    ]
    assert text(image, "/.dot") == ""
    put(node, {"hooks/zz_ddns": '#!/bin/sh\necho "renamed $* $INSTANCE_NAME" >> $TARGET/etc/notes\n'}, 0o755)
    renamed = replace(image[1], name="mail.example.com")
    outcome = image[0].run(renamed, "rename", OS_NAME="image", OLD_INSTANCE_NAME=NAME)
    assert outcome.code == 0, outcome.log
    assert text(image, "/etc/notes").splitlines()[5:] == ["renamed -r mail.example.com"]


@pytest.mark.image_row(67, 69)
def test_hooks_that_fail_hang_or_stay_are_told_and_the_deployment_fails(
    node: Path, image: tuple[Provider, Instance]
) -> None:
    put(
        node,
        {
            "hooks/10-fails": "#!/bin/sh\necho the reason\nexit 5\n",
            "hooks/20-stays": '#!/bin/sh\n(exec >/dev/null 2>&1; cd "$TARGET"; sleep 10000) &\numount -l "$TARGET"\n',
            "hooks/zzz-last": "#!/bin/sh\necho the last hook has run\n",
        },
        0o755,
    )
    put(node, {"overlays/web/etc/motd": ""})
    outcome = deploy(image)
    assert outcome.code != 0
    assert "the hook 10-fails failed with status 5 (the reason)" in outcome.last_line
    assert "the last hook has run" in outcome.log
    assert "20-stays" not in outcome.last_line
    with image[1].disks[0].open("rb") as disk:
        assert disk.read(1 << 20) == bytes(1 << 20), "what failed must not boot"
