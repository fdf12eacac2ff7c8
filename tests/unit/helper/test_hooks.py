# SPDX-License-Identifier: GPL-2.0-or-later
"""Hooks on a mounted tree, with the real name spaces: what they find, what they cannot break, and how they end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from snf_image_helper.disks.disk import Disk
from snf_image_helper.guest import Guest
from snf_image_helper.hooks.room import Packed
from snf_image_helper.hooks.running import run_unpacked
from snf_image_helper.system import OsFamily, System
from snf_image_host.vm.trees import packed
from snf_image_shared.deployment import Hooks, Input
from snf_image_shared.errors import GuestError
from snf_image_shared.job import JOB_VERSION, Job
from unit.helper.disk_images import Listener, private_mounts, sh

pytestmark = pytest.mark.root

DIRECTORY = "/etc/ganeti/instance-image/hooks"
TARGET = Path("/run/snf-image/target")
JOB = Job(JOB_VERSION, "web.example.com", "web.example.com", "tarball", ("disk-0",), seed="ab" * 32)


@dataclass
class Node:
    """A directory of hooks on a node, and the guest that they are for, mounted at TARGET."""

    path: Path
    hooks: dict[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 60.0

    def run(self, *names: str) -> Listener:
        """Pack the hooks and run these; what the helper said."""
        for name, script in self.hooks.items():
            (self.path / name).write_text(script if script.startswith("#!") else f"#!/bin/bash\n{script}\n")
            (self.path / name).chmod(0o755)
        listener = Listener()
        with packed(fill=lambda archive: archive.add_directory(self.path, DIRECTORY.strip("/"))) as fd:
            archive = Input("the hooks", "", os.fstat(fd).st_size)
            hooks = Hooks(archive, DIRECTORY, names, (), self.settings, self.environment, self.timeout)
            disk = cast(Disk, SimpleNamespace(device="/dev/vdb", devices=("/dev/vdb", "/dev/vdc")))
            with Guest(str(TARGET), disk, System(OsFamily.LINUX, 3)) as guest:
                guest.mounts |= {"/": "/dev/vdb3", "/boot": "/dev/vdb1"}
                job = replace(JOB, hooks=hooks)
                run_unpacked(names, (Packed(archive, os.dup(fd)),), guest, job, listener.reporter)
        return listener


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    (tmp_path / "hooks").mkdir()
    with private_mounts():
        TARGET.mkdir(parents=True)
        sh("mount", "-t", "tmpfs", "-o", "nodev,nosuid,size=4m", "guest", str(TARGET))
        (TARGET / "etc").mkdir()
        yield Node(tmp_path / "hooks")
        sh("umount", str(TARGET))


def found(name: str) -> str:
    return (TARGET / name).read_text()


def command_lines() -> Iterator[str]:
    """Of all processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            yield path.read_text(errors="replace")


@pytest.mark.image_row(65)
def test_a_hook_finds_where_the_guest_is_and_what_ganeti_says_of_the_instance(node: Node) -> None:
    node.environment = {
        "INSTANCE_HV_kernel_path": "",
        "NIC_0_MAC": "aa:bb",
        "IMAGE_TYPE": "tarball",
        "DISK_0_PATH": "/x",
    }
    node.hooks = {"look": 'env > "$TARGET/environment"; pwd > "$TARGET/cwd"'}
    node.run("look")
    lines = found("environment").splitlines()
    for line in (
        f"TARGET={TARGET}",
        "BLOCKDEV=/dev/vdb",
        "IMAGE_TYPE=tarball",
        "INSTANCE_HV_kernel_path=",
        "NIC_0_MAC=aa:bb",
        "DISK_0_PATH=/dev/vdb",
        "DISK_1_PATH=/dev/vdc",
    ):
        assert line in lines
    # By what stands behind the last dash, hooks find the partition's number.
    devices = dict(line.split("=", 1) for line in lines if line.startswith(("ROOT_DEV=", "BOOT_DEV=")))
    assert [name.rpartition("-")[2] for name in (devices["ROOT_DEV"], devices["BOOT_DEV"])] == ["3", "1"]
    assert found("cwd").strip().endswith("/ganeti/os/image")


@pytest.mark.image_row(66)
def test_common_sh_gives_settings_and_functions_whatever_is_in_them(node: Node) -> None:
    node.settings = {
        "KERNEL_ARGS": "a=/dev/x&y 'q' $(touch /tmp/evaluated) \"",
        "FILESYSTEM": "xfs",
        "IMAGE_DEBUG": "no",
    }
    (TARGET / "etc/debian_version").write_text("12.1\n")
    (TARGET / "etc/os-release").write_text('ID="Debian"\nVERSION_ID="12"\n')
    node.hooks = {
        "use": """
set -eu
. common.sh
trap cleanup EXIT
CLEANUP+=("touch $TARGET/cleaned")
debug echo not shown
log_error told
get_os_type; get_os "$TARGET"; get_os_release "$TARGET"
printf '%s\\n' "$KERNEL_ARGS" "$FILESYSTEM" "$OS_TYPE" "$OPERATING_SYSTEM" "$OS_RELEASE" > "$TARGET/told"
$MKDIR_P "$TARGET/a/b"
case "$VOL_ID $VOL_TYPE" in *UUID*TYPE*) ;; *) exit 3 ;; esac
"""
    }
    node.run("use")
    assert found("told").splitlines() == [node.settings["KERNEL_ARGS"], "xfs", "debian", "debian", "12"]
    assert (TARGET / "a/b").is_dir()
    assert (TARGET / "cleaned").exists()
    assert not Path("/tmp/evaluated").exists()


def test_no_program_of_the_guest_is_run_to_tell_what_it_is(node: Node) -> None:
    (TARGET / "etc/redhat-release").write_text("CentOS release 6.5\n")
    lsb_release = TARGET / "usr/bin/lsb_release"
    lsb_release.parent.mkdir(parents=True)
    lsb_release.write_text(f"#!/bin/sh\ntouch {TARGET}/executed\necho other\n")
    lsb_release.chmod(0o755)
    look = '. common.sh; get_os "$TARGET"; get_os_release "$TARGET"'
    node.hooks = {"use": f'{look}; echo $OPERATING_SYSTEM $OS_RELEASE > "$TARGET/told"'}
    node.run("use")
    assert found("told") == "centos 6.5\n"
    assert not (TARGET / "executed").exists()


@pytest.mark.image_row(67)
def test_a_hook_that_fails_stops_none_and_is_told_with_its_last_words(node: Node) -> None:
    node.hooks = {"a": "echo the reason >&2; exit 5", "b": 'touch "$TARGET/b"', "c": "kill -9 $$"}
    with pytest.raises(GuestError) as failure:
        node.run("a", "b", "c")
    assert "the hook a failed with status 5 (the reason)" in str(failure.value)
    assert "the hook c failed with status 137" in str(failure.value)
    assert (TARGET / "b").exists()


def test_what_a_hook_unmounts_mounts_and_leaves_running_ends_with_it(node: Node) -> None:
    mark = f"hook-of-{os.getpid()}"
    node.hooks = {
        "rude": f"""
umount -l "$TARGET"
mount -t tmpfs none {TARGET.parent}
setsid sh -c 'sleep 60; : {mark}' > /dev/null 2>&1 &
"""
    }
    before = Path("/proc/self/mounts").read_text()
    node.run("rude")
    assert Path("/proc/self/mounts").read_text() == before
    assert os.path.ismount(TARGET)
    assert not [line for line in command_lines() if mark in line]


def test_a_hook_that_hangs_is_ended_at_its_deadline(node: Node) -> None:
    node.timeout = 3.0
    node.hooks = {"hang": "sleep 1000"}
    with pytest.raises(GuestError, match="the hook hang did not finish within 3 seconds"):
        node.run("hang")


def test_a_hook_that_talks_without_end_or_fills_the_disk_fails_with_its_last_words(node: Node) -> None:
    node.hooks = {"fill": 'yes noise | head -c 30000000; cat /dev/zero > "$TARGET/full"'}
    with pytest.raises(GuestError, match=r"the hook fill failed with status 1 .*No space left on device"):
        node.run("fill")


def test_a_hook_that_deletes_the_guest_fails(node: Node) -> None:
    node.hooks = {"delete": 'rm -rf "$TARGET"/*'}
    with pytest.raises(GuestError, match="the hook delete has left a guest without the directory /etc"):
        node.run("delete")


def test_a_hook_may_write_in_its_root_and_nothing_of_it_stays(node: Node) -> None:
    node.hooks = {"write": f"echo x > /etc/of-a-hook && test -f {DIRECTORY}/write && touch $TARGET/done"}
    node.run("write")
    assert (TARGET / "done").exists()
    assert not Path("/etc/of-a-hook").exists()
    assert not Path(DIRECTORY).exists()


def test_a_hook_makes_device_nodes_that_work_as_they_did_on_a_node(node: Node) -> None:
    node.hooks = {"node": "mkdir $TARGET/dev; mknod $TARGET/dev/zero c 1 5; head -c 3 $TARGET/dev/zero > $TARGET/three"}
    node.run("node")
    assert found("three") == "\0\0\0"
