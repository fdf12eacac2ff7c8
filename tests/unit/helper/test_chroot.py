# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's own programs in its own root: bounded, with nothing of ours in sight, and nothing of theirs left."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from block_devices import loop_device
from snf_image_helper.chroot import chroot
from snf_image_helper.guest import Guest
from snf_image_helper.system import OsFamily, System
from snf_image_shared.process import Limits, ProcessError
from unit.helper.disk_images import attached, private_mounts, sh, table_of
from unit.helper.guest_trees import guest_in

pytestmark = pytest.mark.root

# Their numbers (linux/capability.h): chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
# linux_immutable, sys_chroot, sys_nice, mknod, audit_write, setfcap.
PRIVILEGES = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 8, 9, 18, 23, 27, 29, 31))
SYS_ADMIN = 1 << 21
SECRET = "what no program of the guest may read"
# Whether the secret, which is on the block device of these numbers, can be read by a node in a directory.
TRY_NODE = """
cd "$1" && mknod secret b $2 $3 2>/dev/null && head -c 64 secret 2>/dev/null
rm -f secret
"""
# chroot(2) leaves the working directory outside: the way out of every root that is no root of its mount name space.
ESCAPE = """
import os
os.makedirs("/tmp/in")
os.chroot("/tmp/in")
for _ in range(64):
    os.chdir("..")
os.chroot(".")
print(*sorted(os.listdir("/")))
print(*sorted(os.listdir("/old")))
"""


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    """A root with this machine's programs in it, so that a shell can be run there."""
    root = tmp_path / "root"
    root.mkdir()
    with private_mounts(), mounted_root(root), guest_in(root) as guest:
        (root / "usr").mkdir()
        for name in ("bin", "sbin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        sh("mount", "--bind", "/usr", str(root / "usr"))
        try:
            yield guest
        finally:
            sh("umount", str(root / "usr"))


@contextlib.contextmanager
def mounted_root(root: Path) -> Iterator[None]:
    """As every guest's file systems are mounted."""
    sh("mount", "-t", "tmpfs", "-o", "nodev,nosuid,mode=755", "root", str(root))
    try:
        yield
    finally:
        sh("umount", str(root))


def running(mark: str) -> bool:
    return any(mark.encode() in path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())


def test_a_program_sees_its_own_root_and_nothing_of_our_environment(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "sesame")
    with chroot(guest) as root:
        said = root.run(["sh", "-c", "env; readlink /proc/self/root; cat; ls /"], env={"ASKED": "yes"}).stdout.split(
            "\n"
        )
    assert {"ASKED=yes", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "/"} <= set(said)
    assert not any("sesame" in line for line in said)
    assert "work" not in said


def test_what_a_program_leaves_running_ends_with_it(guest: Guest) -> None:
    with chroot(guest) as root:
        root.run(["sh", "-c", "setsid sleep 98765.4321 >/dev/null 2>&1 & :"])
        assert not running("98765.4321")


def test_a_daemon_that_keeps_the_output_open_holds_nobody_up(guest: Guest) -> None:
    with chroot(guest) as root:
        assert root.run(["sh", "-c", "setsid sleep 98765.4322 & echo done"], limits=Limits(20)).stdout == "done\n"


def test_a_program_mounts_nothing_and_what_is_mounted_for_it_stays_as_it_is(guest: Guest) -> None:
    tries = (
        "mount -t devtmpfs dev /tmp",
        "mount -o remount,bind,rw /proc",
        "mount -o remount,bind,dev /tmp",
        "umount /dev",
    )
    with chroot(guest) as root:
        said = root.run(
            ["sh", "-c", f"for each in {' '.join(map(repr, tries))}; do $each && echo $each; done 2>&1 || :"]
        )
    assert not any(line in tries for line in said.stdout.split("\n"))
    assert said.stdout.count("permission denied") + said.stdout.count("must be superuser") == len(tries)


def test_a_program_has_the_devices_of_every_system_and_its_disks_alone(guest: Guest, tmp_path: Path) -> None:
    table_of(tmp_path / "disk", "label: dos\n1M 1M\n", 4)
    secret = tmp_path / "input"
    secret.write_bytes(SECRET.encode().ljust(1 << 20, b"\0"))
    with attached(tmp_path / "disk") as disk, loop_device(secret) as other:
        disk.reload()
        guest.disk = disk
        name = Path(disk.device).name
        Path(disk.device).write_bytes(b"its own")
        number = other.stat().st_rdev
        with chroot(guest) as root:
            there = root.run(["sh", "-c", "cd /dev && find . ! -path './pts/*' | sort | sed 's,^./,,'"]).stdout.split()
            assert root.run(["head", "-c", "7", disk.device]).stdout == "its own"
            assert root.run(["stat", "-c", "%F %t %T", f"{disk.device}p1"]).stdout == blocks(f"{disk.device}p1")
            for place in ("/", "/dev", "/dev/shm", "/proc", "/run", "/sys", "/tmp"):
                numbers = (str(os.major(number)), str(os.minor(number)))
                assert root.run(["sh", "-c", TRY_NODE, "sh", place, *numbers]).stdout == ""
    common = "console fd full mapper null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert there == sorted([".", *common.split(), name, f"{name}p1"])


def blocks(device: str) -> str:
    number = Path(device).stat().st_rdev
    return f"block special file {os.major(number):x} {os.minor(number):x}\n"


def test_the_devices_of_every_system_do_what_they_do_anywhere(guest: Guest) -> None:
    script = """
    echo gone >/dev/null
    test "$(head -c 3 /dev/zero | wc -c)$(head -c 3 /dev/urandom | wc -c)" = 33
    ! echo x >/dev/full
    echo said >/dev/stdout
    echo warned >/dev/stderr
    echo kept >/dev/shm/file && cat /dev/shm/file
    echo through <&- | cat /dev/fd/0
    """
    with chroot(guest) as root:
        said = root.run(["bash", "-ec", script]).stdout.split("\n")
        root.run(["python3", "-c", "import pty; master, slave = pty.openpty()"])
    assert {"said", "warned", "kept", "through"} <= set(said)


def test_a_program_that_leaves_its_root_finds_programs_and_nothing_else(guest: Guest) -> None:
    with chroot(guest) as root:
        beyond = "bin etc guest lib lib64 old proc sbin usr\n"
        assert root.run(["python3", "-c", ESCAPE]).stdout == beyond + "\n"
        assert " ".join(root.run(["ls", "/proc/1/root"]).stdout.split()) + "\n" == beyond
        for each in ("/proc/1/root/usr/lib/written", "/proc/1/root/written"):
            assert root.run(["sh", "-c", f"touch {each} 2>&1 || :"]).stdout.endswith("Read-only file system\n")


def test_a_program_changes_nothing_of_the_kernel(guest: Guest) -> None:
    script = "cat /proc/sys/kernel/core_pattern >/proc/sys/kernel/core_pattern"
    with chroot(guest) as root:
        with pytest.raises(ProcessError, match="Read-only file system"):
            root.run(["sh", "-c", script])
        ours = (
            "/proc/sysrq-trigger",
            "/proc/kcore",
            "/sys/kernel/uevent_seqnum",
            "/sys/power/state",
            "/sys/bus/pci/rescan",
        )
        for each in filter(lambda path: Path(path).exists(), ours):
            assert root.run(["sh", "-c", f"test -w {each} || echo no"]).stdout == "no\n"


@pytest.mark.parametrize(
    ("volume", "privileges"), [("", PRIVILEGES), ("vg/root", PRIVILEGES | SYS_ADMIN)], ids=["plain", "lvm"]
)
def test_a_program_has_the_privileges_that_installing_a_loader_takes(
    guest: Guest, volume: str, privileges: int
) -> None:
    guest.system = System(OsFamily.LINUX, 1, volume)
    with chroot(guest) as root:
        said = root.run(["cat", "/proc/self/status"]).stdout
    found = dict(line.split(":\t") for line in said.split("\n") if line.startswith("Cap"))
    assert {name: int(value, 16) for name, value in found.items()} == {
        **{"CapInh": 0, "CapPrm": privileges, "CapEff": privileges, "CapBnd": privileges, "CapAmb": 0},
    }


def test_what_makers_of_initial_ram_disks_and_loaders_do_as_root_can_be_done(guest: Guest) -> None:
    script = """
    mkdir -p /made/dev /made/etc && cd /made
    mknod dev/null c 1 3
    cp /bin/true file && chown 12:34 file && chmod 4755 file
    setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= file
    ldconfig -r /made
    stat -c '%u %g %a' file
    """
    with chroot(guest) as root:
        assert root.run(["sh", "-ec", script]).stdout == "12 34 4755\n"


@pytest.mark.parametrize("settings", ["system.nfs4_acl permissions\n", "# no end of line", ""])
def test_copies_with_all_attributes_leave_out_labels_for_want_of_privileges(guest: Guest, settings: str) -> None:
    tree = Path(guest.root)
    (tree / "etc").mkdir()
    (tree / "etc/xattr.conf").write_text(settings)
    (tree / "file").write_text("labelled")
    os.setxattr(tree / "file", "security.selinux", b"system_u:object_r:bin_t:s0")
    os.setxattr(tree / "file", "trusted.x", b"1")
    os.setxattr(tree / "file", "security.ima", b"\1")
    os.setxattr(tree / "file", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    with chroot(guest) as root:
        root.run(["cp", "--preserve=mode,xattr,timestamps", "/file", "/copy"])
    assert os.listxattr(tree / "copy") == ["security.capability"]
    assert (tree / "etc/xattr.conf").read_text() == settings


def test_settings_of_attributes_that_are_a_link_are_left_alone(guest: Guest, tmp_path: Path) -> None:
    target = tmp_path / "ours"
    target.write_text("# ours\n")
    tree = Path(guest.root)
    (tree / "etc").mkdir()
    (tree / "etc/xattr.conf").symlink_to("../../ours")
    (tree / "ours").write_text("# the guest's\n")
    with chroot(guest):
        assert target.read_text() == "# ours\n"


def test_one_that_does_not_end_is_killed_with_all_its_children(guest: Guest) -> None:
    with chroot(guest) as root, pytest.raises(ProcessError, match="sh did not finish within 1 seconds"):
        root.run(["sh", "-c", "sleep 98765.4323 & sleep 98765.4323"], limits=Limits(timeout=1))
    for _ in range(1000):
        if not running("98765.4323"):
            break
    assert not running("98765.4323")


def test_of_what_is_said_without_end_the_last_of_it_is_kept(guest: Guest) -> None:
    with chroot(guest) as root:
        said = root.run(["sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' a; echo; echo last words"]).stdout
    assert said.endswith("\nlast words\n")
    assert len(said) <= 4 << 20


def test_the_last_lines_of_one_that_fails_are_told_and_harmless(guest: Guest) -> None:
    with chroot(guest) as root, pytest.raises(ProcessError) as failure:
        root.run(["sh", "-c", "echo to stdout; printf 'no \\033[2Jroom\\n' >&2; exit 3"])
    assert str(failure.value) == "sh failed with status 3: no ?[2Jroom"
    assert failure.value.stderr_tail == ("to stdout", "no ?[2Jroom")


def test_a_program_that_is_not_there_is_named(guest: Guest) -> None:
    assert shutil.which("grub9-install") is None
    with chroot(guest) as root, pytest.raises(ProcessError, match=r"^grub9-install failed with status 127"):
        root.run(["grub9-install"])
