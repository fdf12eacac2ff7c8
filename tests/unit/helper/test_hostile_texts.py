# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of a guest that were written to be slow to read: a search that goes back over them would take days."""

from __future__ import annotations

from pathlib import Path

import pytest

from snf_image_helper import fstab
from snf_image_helper.guest import READ_LIMIT
from snf_image_helper.host_names import Renaming
from snf_image_helper.network import Renderer, decide, facts_for
from snf_image_helper.passwords import LOGIN_DEFS, Method, method_of
from snf_image_helper.rename import rename_guest
from snf_image_helper.tasks import assign_hostname
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import Listener
from unit.helper.guest_trees import JOB, guest_in, perform, text

pytestmark = pytest.mark.root

EMPTY_LINES = "\n" * READ_LIMIT
PACKAGE = "Package: ifupdown\n"


def test_empty_lines_say_nothing_about_passwords(tmp_path: Path) -> None:
    with guest_in(tmp_path, {LOGIN_DEFS: EMPTY_LINES}) as guest:
        assert method_of(guest, "") is Method.SHA512


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


def test_an_fstab_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(GuestError, match="shorten it"):
        fstab.parse("a /b c\n" * 100_000)
