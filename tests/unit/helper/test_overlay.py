# SPDX-License-Identifier: GPL-2.0-or-later
"""Overlays laid over guest trees: all of the tree arrives, and no link of the guest leads it anywhere else."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from snf_image_helper.hooks.overlay import lay_over
from snf_image_helper.system import OsFamily, System
from snf_image_helper.tasks import ON_GUEST
from snf_image_host.vm.trees import packed
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import Listener, ext4, private_mounts, sh
from unit.helper.guest_trees import guest_in

pytestmark = pytest.mark.root


def lay(overlay: Path, root: Path) -> list[str]:
    """Lay the directory over the guest at `root`; the warnings."""
    listener = Listener()
    with (
        packed(fill=lambda archive: archive.add_directory(overlay)) as fd,
        os.fdopen(os.dup(fd), "rb") as file,
        tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as archive,
        guest_in(root) as guest,
    ):
        lay_over(guest, archive, listener.reporter)
    return listener.warnings


def listed(root: Path) -> str:
    form = "%y %m %U %G %Ts %n %l %P\n"
    found = subprocess.run(["find", ".", "-mindepth", "1", "-printf", form], cwd=root, capture_output=True, check=True)
    return "".join(sorted(found.stdout.decode().splitlines(True)))


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    root = tmp_path / "overlay"
    (root / "etc/ssh").mkdir(parents=True)
    (root / ".profile").write_text("mine\n")
    (root / "etc/motd").write_text("welcome\n")
    (root / "etc/link").symlink_to("/etc/motd")
    os.link(root / "etc/motd", root / "etc/motd.second")
    os.setxattr(root / "etc/motd", "user.origin", b"overlay\0\xff")
    for number, path in enumerate(sorted(root.rglob("*"))):
        os.chown(path, 700 + number, 800 + number, follow_symlinks=False)
    (root / "etc/motd").chmod(0o4750)
    (root / "etc/ssh").chmod(0o2711)
    os.utime(root / "etc/motd", (1e9, 1e9))
    os.utime(root / "etc", (1e9, 1e9))
    return root


@pytest.mark.image_row(82)
def test_all_of_the_tree_arrives_and_a_second_run_changes_nothing(tmp_path: Path, overlay: Path) -> None:
    with ext4(tmp_path) as root:
        (root / "lost+found").rmdir()
        assert lay(overlay, root) == []
        assert listed(root) == listed(overlay)
        assert (root / "etc/motd").read_text() == "welcome\n"
        assert os.getxattr(root / "etc/motd.second", "user.origin") == b"overlay\0\xff"
        lay(overlay, root)
        assert listed(root) == listed(overlay)


@pytest.mark.image_row(82)
def test_what_the_guest_has_besides_stays_and_what_both_have_is_the_overlays(tmp_path: Path, overlay: Path) -> None:
    root = tmp_path / "guest"
    (root / "etc").mkdir(parents=True)
    (root / "etc/motd").write_text("of the image\n")
    (root / "etc/other").write_text("stays\n")
    old = os.open(root / "etc/motd", os.O_RDONLY)
    lay(overlay, root)
    assert (root / "etc/motd").read_text() == "welcome\n"
    assert (root / "etc/other").read_text() == "stays\n"
    assert os.pread(old, 100, 0) == b"of the image\n", "the file itself was written to, hard links of it included"
    os.close(old)


@pytest.mark.image_row(83, 95)
def test_links_of_the_guest_lead_nowhere_but_into_the_guest(tmp_path: Path, overlay: Path) -> None:
    root, outside = tmp_path / "guest", tmp_path / "outside"
    outside.mkdir()
    (outside / "motd").write_text("of the node\n")
    root.mkdir()
    (root / "etc").symlink_to(outside)  # inside the guest this is a path like any other
    (root / str(outside).strip("/")).mkdir(parents=True)
    (root / str(outside).strip("/") / "motd").symlink_to(outside / "motd")
    before = listed(outside)
    lay(overlay, root)
    assert listed(outside) == before
    assert (root / str(outside).strip("/") / "motd").read_text() == "welcome\n"
    assert not (root / str(outside).strip("/") / "motd").is_symlink()


@pytest.mark.image_row(83)
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/nowhere", "/etc: is a directory in the overlay and something else in the guest"),
        ("loop", "/etc: is a directory in the overlay and something else in the guest"),
    ],
)
def test_a_directory_is_not_made_of_a_link_that_leads_to_none(
    tmp_path: Path, overlay: Path, target: str, message: str
) -> None:
    root = tmp_path / "guest"
    root.mkdir()
    (root / "etc").symlink_to(target)
    (root / "loop").symlink_to("loop")
    with pytest.raises(GuestError, match=message):
        lay(overlay, root)


def test_a_directory_and_a_file_do_not_take_each_others_place(tmp_path: Path, overlay: Path) -> None:
    root = tmp_path / "guest"
    (root / "etc/motd").mkdir(parents=True)
    with pytest.raises(GuestError, match="/etc/motd: is a directory in the guest, and the overlay has a file there"):
        lay(overlay, root)
    (root / "etc/motd").rmdir()
    (root / "etc/ssh").write_text("a file\n")
    with pytest.raises(GuestError, match="/etc/ssh: is a directory in the overlay and something else in the guest"):
        lay(overlay, root)


def test_a_fifo_or_a_device_of_the_guest_is_replaced_and_never_opened(tmp_path: Path, overlay: Path) -> None:
    root = tmp_path / "guest"
    (root / "etc").mkdir(parents=True)
    os.mkfifo(root / "etc/motd")
    os.mknod(root / ".profile", 0o20666, os.makedev(1, 3))
    lay(overlay, root)
    assert (root / "etc/motd").read_text() == "welcome\n"
    assert (root / ".profile").read_text() == "mine\n"


def test_a_guest_without_room_for_it_is_told(tmp_path: Path, overlay: Path) -> None:
    (overlay / "large").write_bytes(bytes(3 << 20))
    root = tmp_path / "guest"
    root.mkdir()
    with private_mounts():
        sh("mount", "-t", "tmpfs", "-o", "size=2m", "guest", str(root))
        with pytest.raises(GuestError, match="/large: the guest's file system is full"):
            lay(overlay, root)
        sh("umount", str(root))


@pytest.mark.image_row(82)
def test_hooks_and_tasks_take_turns_as_instance_images_own_hooks_do() -> None:
    linux = [task.name for task in ON_GUEST if System(OsFamily.LINUX, 1).family in task.families]
    wanted = (
        *("RunHooksBeforeInterfaces", "AssignHostname", "WriteCloudConfig", "ConfigureNetwork"),
        *("RunHooksBeforeOverlays", "ApplyOverlay", "RunHooksBeforeSSH", "DeleteSSHKeys"),
        *("RunHooksBeforeDDNS", "SendHostname", "InstallBootLoader", "ConfigureBoot", "RunHooks", "SELinuxAutorelabel"),
    )
    assert [name for name in linux if name in wanted] == list(wanted)
