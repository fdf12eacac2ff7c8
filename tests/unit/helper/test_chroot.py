# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's own programs in its own root: bounded, with nothing of ours in sight, and nothing of theirs left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from snf_image_helper.chroot import chroot
from snf_image_helper.guest import Guest
from snf_image_shared.process import Limits, ProcessError
from unit.helper.disk_images import private_mounts, sh
from unit.helper.guest_trees import guest_in

pytestmark = pytest.mark.root


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    """A root with this machine's programs in it, so that a shell can be run there."""
    root = tmp_path / "root"
    with private_mounts(), guest_in(root) as guest:
        (root / "usr").mkdir()
        for name in ("bin", "sbin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        sh("mount", "--bind", "/usr", str(root / "usr"))
        try:
            yield guest
        finally:
            sh("umount", str(root / "usr"))


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


def test_what_a_program_mounts_is_gone_after_it(guest: Guest) -> None:
    with chroot(guest) as root:
        root.run(["sh", "-c", "mkdir /tmp/x; mount -t tmpfs x /tmp/x; : >/tmp/x/seen; test -e /tmp/x/seen"])
        assert root.run(["ls", "/tmp/x"]).stdout == ""


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
