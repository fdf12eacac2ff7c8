# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of a guest that were written to be slow to read: a search that goes back over them would take days."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper import fstab
from snf_image_helper.boot_loaders.initial_ram_disk import _names_other_disks as names_other_disks
from snf_image_helper.boot_loaders.install_grub_legacy import _SAYS_NO as SAYS_NO
from snf_image_helper.cloud_init.activation import activate
from snf_image_helper.guest import READ_LIMIT
from snf_image_helper.linux.distros import Distro
from snf_image_helper.linux.host_names import Renaming
from snf_image_helper.network import Renderer, decide, facts_for
from snf_image_helper.rename import rename_guest
from snf_image_helper.tasks import assign_hostname, change_password
from snf_image_helper.users.passwords import LOGIN_DEFS, Method, method_of
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Secrets
from unit.helper.disk_images import Listener
from unit.helper.guest_trees import JOB, guest_in, perform, text

pytestmark = pytest.mark.root

EMPTY_LINES = "\n" * READ_LIMIT
PACKAGE = "Package: ifupdown\n"


def test_empty_lines_say_nothing_about_passwords(tmp_path: Path) -> None:
    with guest_in(tmp_path, {LOGIN_DEFS: EMPTY_LINES}) as guest:
        assert method_of(guest, "") is Method.SHA512


def test_what_a_guests_own_programs_say_is_looked_through_once() -> None:
    assert SAYS_NO.search(EMPTY_LINES) is None
    assert SAYS_NO.search(f"{EMPTY_LINES}  Error 17: Cannot mount\n")
    assert not names_other_disks("-rw-r--r-- etc/cmdline.d/" + "lvm.con" * (READ_LIMIT // 7))
    assert names_other_disks("-rw-r--r--   1 root root   40 Jan  1  1970 etc/cmdline.d/90lvm.conf")
    assert not names_other_disks("-rw-r--r--   1 root root   40 Jan  1  1970 etc/cmdline.d/00-btrfs.conf")


def test_empty_lines_are_no_place_for_a_host_name(tmp_path: Path) -> None:
    files = {"/etc/gentoo-release": "", "/etc/conf.d/hostname": EMPTY_LINES, "/etc/hostname": "old\n"}
    with guest_in(tmp_path, files) as guest:
        perform(assign_hostname.TASK, guest)
        assert text(guest, "/etc/hostname") == "web.example.com\n"
        assert text(guest, "/etc/conf.d/hostname") == EMPTY_LINES


@pytest.mark.parametrize("content", [EMPTY_LINES, " " * READ_LIMIT, "#\n" * (READ_LIMIT // 2)])
def test_a_long_file_without_a_name_is_no_name(tmp_path: Path, content: str) -> None:
    files = {
        "/etc/gentoo-release": "",
        "/etc/conf.d/hostname": content,
        "/etc/hostname": "old\n",
        "/etc/hosts": content,
    }
    with guest_in(tmp_path, files) as guest:
        assert rename_guest(guest, Renaming("old.example.com", "new.example.com"), Listener().reporter) is None
        assert text(guest, "/etc/hostname") == "new\n"
        assert text(guest, "/etc/conf.d/hostname") == content


def test_a_line_of_hosts_may_be_very_long(tmp_path: Path) -> None:
    hosts = "192.0.2.1 " + "old " * 100_000
    with guest_in(tmp_path, {"/etc/hostname": "old\n", "/etc/hosts": hosts}) as guest:
        assert rename_guest(guest, Renaming("old.example.com", "new.example.com"), Listener().reporter) is None
        assert text(guest, "/etc/hosts") == "192.0.2.1 new "


def test_empty_lines_configure_no_card(tmp_path: Path) -> None:
    files = {"/usr/lib/systemd/systemd": "", "/sbin/ifup": "", "/etc/network/interfaces": EMPTY_LINES}
    with guest_in(tmp_path, files) as guest:
        assert decide(guest, JOB.wishes).owner is Renderer.IFUPDOWN


def test_a_package_without_version_is_no_new_one_however_often_it_is_there(tmp_path: Path) -> None:
    status = PACKAGE * (READ_LIMIT // len(PACKAGE))
    with guest_in(tmp_path, {"/var/lib/dpkg/status": status}) as guest:
        assert not facts_for(Renderer.IFUPDOWN, guest, ()).matches_mac


def test_a_version_of_thousands_of_digits_is_no_new_one(tmp_path: Path) -> None:
    status = f"{PACKAGE}Version: {'9' * 5000}.8.41\n"
    with guest_in(tmp_path, {"/var/lib/dpkg/status": status}) as guest:
        assert not facts_for(Renderer.IFUPDOWN, guest, ()).matches_mac


@pytest.mark.parametrize(
    ("renderer", "path", "content"),
    [
        (Renderer.NETWORKMANAGER, "/etc/sysconfig/network-scripts/ifcfg-eth0", EMPTY_LINES),
        (Renderer.IFUPDOWN, "/var/lib/dpkg/status", PACKAGE + "a\n" * (READ_LIMIT // 4)),
    ],
)
def test_a_file_of_many_lines_is_read_in_the_memory_of_the_smallest_helper(
    tmp_path: Path, renderer: Renderer, path: str, content: str
) -> None:
    with guest_in(tmp_path, {path: content}) as guest:
        tracemalloc.start()
        try:
            facts_for(renderer, guest, ())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 8 * READ_LIMIT


def test_long_settings_of_cloud_init_are_looked_at_one_by_one(tmp_path: Path) -> None:
    files = {f"/etc/cloud/cloud.cfg.d/{number}.cfg": "#" * READ_LIMIT for number in range(16)}
    with guest_in(tmp_path, files) as guest:
        tracemalloc.start()
        try:
            activate(guest, Listener().reporter)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 8 * READ_LIMIT


def test_an_fstab_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(GuestError, match="shorten it"):
        fstab.parse("a /b c\n" * 100_000)


MANY = 1_000_000
ROOT = "root:x:0:0:root:/root:/bin/sh\n"
SHADOW = "root:*:19000:0:99999:7:::\n"
# What is odd, and what is in its place afterwards; the account that is asked for is in each of them.
ODD_PASSWD = {
    "no newline": ROOT.rstrip("\n"),
    "NULs": f"a\0b:x:1:1::/:/bin/sh\n\0\n{ROOT}",
    "a second root": f"{ROOT}root:x:1:1:second:/elsewhere:/bin/sh\n",
    "many lines": ROOT + "x" * 3 + ("\n" * MANY),
    "no UTF-8": f"caf\udce9:x:1:1:\udcff:/:/bin/sh\n{ROOT}",
    "carriage returns": ROOT + "dos:x:1:1::/:/bin/sh\r\n",
}


@pytest.mark.row(198)
@pytest.mark.parametrize("kind", ODD_PASSWD)
def test_an_odd_passwd_still_has_its_root_and_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    passwd = ODD_PASSWD[kind]
    with guest_in(tmp_path, {"/etc/passwd": passwd, "/etc/shadow": SHADOW}) as guest:
        job = replace(JOB, secrets=Secrets(password="secret"))
        perform(change_password.TASK, guest, job)
        assert (tmp_path / "etc/passwd").read_bytes() == passwd.encode("utf-8", "surrogateescape")
        assert text(guest, "/etc/shadow").startswith("root:$")
        assert not guest.exists("/elsewhere")


@pytest.mark.row(198)
@pytest.mark.parametrize(
    ("shadow", "rest"),
    [
        (SHADOW.rstrip("\n"), ""),
        (SHADOW + "\0:\0\n", "\0:\0\n"),
        (SHADOW + "\n" * MANY, "\n" * MANY),
        (SHADOW + "caf\udce9:*:1::::::\n", "caf\udce9:*:1::::::\n"),
    ],
)
def test_an_odd_shadow_keeps_what_is_not_the_users_own(tmp_path: Path, shadow: str, rest: str) -> None:
    with guest_in(tmp_path, {"/etc/passwd": ROOT, "/etc/shadow": shadow}) as guest:
        perform(change_password.TASK, guest, replace(JOB, secrets=Secrets(password_hash="$6$salt$hash")))
        changed = text(guest, "/etc/shadow")
        assert changed.startswith("root:$6$salt$hash:")
        assert changed.partition("\n")[2] == rest


@pytest.mark.row(197, 198)
@pytest.mark.parametrize(
    "release",
    [
        "ID=$(reboot)\nPRETTY_NAME=`reboot`\n",
        'ID="\x1b]0;owned\x07\x1b[2J"\nNAME=\x9b31m\n',
        'NAME="' + "x" * 1_000_000 + '"\nID=' + "y" * 1_000_000 + "\n",
        "ID=debian\0; reboot\n",
        "\n" * MANY,
        "ID=\nID_LIKE=" + "debian " * 100_000 + "\n",
    ],
)
def test_an_os_release_is_only_text_and_little_of_it_is_shown(tmp_path: Path, release: str) -> None:
    with guest_in(tmp_path, {"/etc/os-release": release}) as guest:
        found = Distro.of(guest)
        for shown in (found.name, found.version):
            assert len(shown) <= 128
            assert shown.isascii()
            assert shown == "" or shown.isprintable()
