# SPDX-License-Identifier: GPL-2.0-or-later
"""SELinuxAutorelabel with Debian's real policy on a real file system: the labels are those of matchpathcon(8)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.guest import Guest
from snf_image_helper.tasks.selinux_autorelabel import TASK
from snf_image_shared.deployment import Deployment, Form, Layout
from unit.helper.disk_images import ext4
from unit.helper.guest_tools import GuestTools
from unit.helper.guest_trees import JOB, guest_in, perform, put, text
from unit.helper.selinux_policy import CONTEXTS, SELinuxPolicy, label

pytestmark = pytest.mark.root

FLAG = "/.autorelabel"
CONFIG = "/etc/selinux/config"
FEDORA = {"/etc/os-release": "ID=fedora\n"}
# Enough of a policy for what is no question of labels.
CONTEXTS_OF_ALL = "/.*    system_u:object_r:default_t:s0\n/etc(/.*)?    system_u:object_r:etc_t:s0\n"
SELINUX = {
    **FEDORA,
    CONFIG: "SELINUX=permissive\n",
    "/etc/selinux/targeted/contexts/files/file_contexts": CONTEXTS_OF_ALL,
}


@pytest.fixture(scope="module")
def policy(cache: Path) -> SELinuxPolicy:
    return SELinuxPolicy.build(cache, GuestTools.unpack(cache))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    with ext4(tmp_path) as place:
        yield place


def labelled(path: Path, context: str) -> None:
    os.setxattr(path, "security.selinux", context.encode() + b"\0")


def change_a_lot(guest: Guest) -> dict[str, str]:
    """What tasks do to a guest; the kind of each entry that they wrote, by its path."""
    guest.make_directory("/home/me/.ssh", 0o700, 1000, 1000)
    for path in ("/home/me/.ssh/authorized_keys", "/etc/shadow", "/etc/hostname", "/etc/ssh/ssh_host_rsa_key"):
        guest.make_directory(path.rpartition("/")[0])
        guest.write_text(path, "x")
    guest.make_directory("/var/lib/dbus")
    guest.symlink("/etc/machine-id", "/var/lib/dbus/machine-id")
    files = ("/etc/shadow", "/etc/hostname", "/etc/ssh/ssh_host_rsa_key", "/home/me/.ssh/authorized_keys")
    return {**dict.fromkeys(files, "file"), "/home/me/.ssh": "dir", "/var/lib/dbus/machine-id": "link"}


@pytest.mark.row(156)
def test_what_was_changed_has_the_labels_of_the_guests_policy_and_no_boot_is_spent(
    root: Path, policy: SELinuxPolicy
) -> None:
    policy.copy_to(root)
    with guest_in(root) as guest:
        kinds = change_a_lot(guest)
        assert perform(TASK, guest).warnings == []
        found = {path: label(Path(f"{root}{path}")) for path in kinds}
        assert found == {path: policy.expected(path, kind) for path, kind in kinds.items()}
        assert found["/etc/shadow"] == "system_u:object_r:shadow_t:s0"
        assert not guest.exists(FLAG)


def test_nothing_but_what_was_changed_is_labelled(root: Path) -> None:
    put(root, {**SELINUX, "/etc/other": "", "/etc/new/before": ""})
    with guest_in(root) as guest:
        guest.write_text("/etc/hostname", "x")
        perform(TASK, guest)
        assert label(root / "etc/hostname") == "system_u:object_r:etc_t:s0"
        assert label(root / "etc/other") is label(root / "etc") is None


def test_a_wrong_label_is_corrected_and_a_right_one_with_another_user_stays(root: Path) -> None:
    put(root, SELINUX)
    with guest_in(root) as guest:
        for path, context in (("/etc/a", "system_u:object_r:tmp_t:s0"), ("/etc/b", "staff_u:object_r:etc_t:s0")):
            guest.write_text(path, "x")
            labelled(Path(f"{root}{path}"), context)
        perform(TASK, guest)
        assert label(root / "etc/a") == "system_u:object_r:etc_t:s0"
        assert label(root / "etc/b") == "staff_u:object_r:etc_t:s0"


def test_names_that_glob_would_expand_and_a_link_out_of_the_guest_are_labelled_themselves(root: Path) -> None:
    put(root, {**SELINUX, "/etc/ab": "", "/etc/x1": ""})
    outside = root.parent / "outside"
    outside.write_text("x")
    with guest_in(root) as guest:
        names = ("/etc/a[b]*{c,d}?~", "/etc/x\\1", "/etc/two\nlines")
        for name in names:
            guest.write_text(name, "x")
        guest.symlink(str(outside), "/etc/link")
        perform(TASK, guest)
        for name in (*names, "/etc/link"):
            assert label(Path(f"{root}{name}")) == "system_u:object_r:etc_t:s0"
        assert label(root / "etc/ab") is label(root / "etc/x1") is label(outside) is None


def test_what_has_gone_again_is_no_trouble(root: Path) -> None:
    put(root, SELINUX)
    with guest_in(root) as guest:
        guest.write_text("/etc/gone", "x")
        guest.remove("/etc/gone")
        assert perform(TASK, guest).warnings == []
        assert not guest.exists(FLAG)


def test_a_second_run_changes_nothing(root: Path) -> None:
    put(root, SELINUX)
    for _ in range(2):
        with guest_in(root) as guest:
            guest.write_text("/etc/hostname", "x")
            perform(TASK, guest)
            changed = (root / "etc/hostname").stat().st_ctime_ns
            perform(TASK, guest)
            assert (root / "etc/hostname").stat().st_ctime_ns == changed


@pytest.mark.row(156)
@pytest.mark.parametrize(
    "broken",
    [{}, {f"{CONTEXTS}/file_contexts": "/etc/[ system_u:object_r:etc_t:s0\n"}, {f"{CONTEXTS}/file_contexts": "\0\xff"}],
    ids=["missing", "no pattern", "no text"],
)
def test_a_policy_that_cannot_be_read_leaves_the_work_to_the_guest(root: Path, broken: dict[str, str]) -> None:
    put(root, {CONFIG: "SELINUX=enforcing\nSELINUXTYPE=default\n", **broken})
    with guest_in(root) as guest:
        guest.write_text("/etc/[", "x")
        said = perform(TASK, guest)
        assert guest.exists(FLAG)
        assert "could not be labelled" in said.warnings[0]


def test_a_tenants_program_may_have_changed_anything(root: Path) -> None:
    put(root, SELINUX)
    with guest_in(root) as guest:
        guest.write_text("/etc/hostname", "x")
        guest.programs_ran = True
        perform(TASK, guest)
        assert label(root / "etc/hostname") == "system_u:object_r:etc_t:s0"
        assert guest.exists(FLAG)


def test_all_files_of_an_archive_are_labelled_by_the_guest(root: Path) -> None:
    job = replace(JOB, deployment=Deployment(Form.TARBALL, Layout(has_loader=False)))
    with guest_in(root, SELINUX) as guest:
        perform(TASK, guest, job)
        assert guest.exists(FLAG)


@pytest.mark.row(156)
@pytest.mark.parametrize(
    ("files", "flagged"),
    [
        (FEDORA, True),
        ({"/etc/os-release": "ID=debian\n"}, False),
        ({**SELINUX, CONFIG: "SELINUX=disabled\nSELINUXTYPE=targeted\n"}, False),
        (SELINUX, False),
    ],
    ids=["Red Hat without a word of SELinux", "Debian", "disabled", "nothing was changed"],
)
def test_the_flag_is_left_only_where_it_is_needed(tmp_path: Path, files: dict[str, str], flagged: bool) -> None:
    with guest_in(tmp_path, files) as guest:
        perform(TASK, guest)
        assert guest.exists(FLAG) is flagged


def test_a_flag_with_content_stays(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**SELINUX, FLAG: "-F"}) as guest:
        guest.write_text("/etc/hostname", "x")
        perform(TASK, guest)
        assert text(guest, FLAG) == "-F"
