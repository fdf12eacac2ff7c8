# SPDX-License-Identifier: GPL-2.0-or-later
"""AssignHostname and ChangeMachineId on trees."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.tasks import assign_hostname, change_machine_id
from snf_image_shared.errors import GuestError
from unit.helper.guest_trees import JOB, guest_in, perform, put, seen, text

pytestmark = pytest.mark.root

DEBIAN = {"/etc/os-release": "ID=debian\n"}


def test_a_qualified_name_stays_one_and_the_short_one_follows_in_hosts(tmp_path: Path) -> None:
    hosts = "127.0.0.1\tlocalhost\n127.0.1.1  old.example.org old\n::1 ip6-localhost\n"
    with guest_in(tmp_path, {**DEBIAN, "/etc/hostname": "old\n", "/etc/hosts": hosts}) as guest:
        perform(assign_hostname.TASK, guest)
        assert text(guest, "/etc/hostname") == "web.example.com\n"
        assert text(guest, "/etc/hosts") == (
            "127.0.0.1\tlocalhost\n127.0.1.1\tweb.example.com web\n::1 ip6-localhost\n"
        )


def test_no_line_is_added_to_hosts(tmp_path: Path) -> None:
    hosts = "127.0.0.1 localhost\n127.0.1.10 other\n"
    with guest_in(tmp_path, {**DEBIAN, "/etc/hostname": "old\n", "/etc/hosts": hosts}) as guest:
        perform(assign_hostname.TASK, guest)
        assert text(guest, "/etc/hosts") == hosts


@pytest.mark.parametrize(
    ("release", "path", "before", "after"),
    [
        (
            "centos",
            "/etc/sysconfig/network",
            "NETWORKING=yes\nHOSTNAME=old\n",
            'NETWORKING=yes\nHOSTNAME="web.example.com"\n',
        ),
        ("gentoo", "/etc/conf.d/hostname", '# name\nhostname="old"\n', '# name\nhostname="web.example.com"\n'),
        ("arch", "/etc/rc.conf", 'HOSTNAME="old"\n', 'HOSTNAME="web.example.com"\n'),
        ("slackware", "/etc/HOSTNAME", "old\n", "web.example.com\n"),
        ("sles", "/etc/HOSTNAME", "old\n", "web.example.com\n"),
        ("coreos", "/etc/hostname", "old\n", "web.example.com\n"),
        ("plan9", "/etc/hostname", "old\n", "web.example.com\n"),
    ],
)
def test_each_family_has_its_own_file(tmp_path: Path, release: str, path: str, before: str, after: str) -> None:
    with guest_in(tmp_path, {"/etc/os-release": f"ID={release}\n", path: before}) as guest:
        perform(assign_hostname.TASK, guest)
        assert text(guest, path) == after
        perform(assign_hostname.TASK, guest)
        assert text(guest, path) == after


def test_a_debian_without_the_file_gets_one(tmp_path: Path) -> None:
    with guest_in(tmp_path, DEBIAN) as guest:
        perform(assign_hostname.TASK, guest)
        assert text(guest, "/etc/hostname") == "web.example.com\n"
        assert seen(guest, "/etc/hostname") == (0, 0, 0o644)


def test_a_guest_with_no_place_for_the_name_is_an_error(tmp_path: Path) -> None:
    with (
        guest_in(tmp_path, {"/etc/os-release": "ID=plan9\n"}) as guest,
        pytest.raises(GuestError, match="create /etc/hostname in the image"),
    ):
        perform(assign_hostname.TASK, guest)


def test_arch_names_the_host_on_the_loopback_line(tmp_path: Path) -> None:
    files = {"/etc/os-release": "ID=arch\n", "/etc/hostname": "old\n", "/etc/hosts": "127.0.0.1 localhost\n"}
    with guest_in(tmp_path, files) as guest:
        for _ in range(2):
            perform(assign_hostname.TASK, guest)
            assert text(guest, "/etc/hosts") == "127.0.0.1\tlocalhost web.example.com web\n"


@pytest.mark.parametrize("name", [";reboot", "a\nb", "x" * 300, "-x", "..", "a b", "é.example.com", "", "a..b"])
def test_what_is_no_host_name_is_refused(tmp_path: Path, name: str) -> None:
    with guest_in(tmp_path, {**DEBIAN, "/etc/hostname": "old\n"}) as guest:
        with pytest.raises(GuestError, match="is no host name"):
            perform(assign_hostname.TASK, guest, replace(JOB, hostname=name))
        assert text(guest, "/etc/hostname") == "old\n"


def test_a_name_that_linux_cannot_hold_is_shortened_with_a_warning(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**DEBIAN, "/etc/hostname": "old\n"}) as guest:
        said = perform(assign_hostname.TASK, guest, replace(JOB, hostname="web." + "sub." * 20 + "example.com"))
        assert text(guest, "/etc/hostname") == "web\n"
        assert said.warnings == ["The instance name is longer than 64 characters; the guest is called web"]


def test_cloud_init_gets_the_name_as_meta_data(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**DEBIAN, "/etc/hostname": "old\n"}) as guest:
        perform(assign_hostname.TASK, guest, CLOUD_INIT="yes")
        meta_data = "/var/lib/cloud/seed/nocloud-net/meta-data"
        assert json.loads(text(guest, meta_data)) == {"local-hostname": "web.example.com"}
        assert seen(guest, meta_data) == (0, 0, 0o600)
        assert text(guest, "/etc/hostname") == "old\n"


TEMPLATE = "0123456789abcdef0123456789abcdef\n"


def test_both_machine_ids_become_the_same_new_one(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/etc/machine-id": TEMPLATE, "/var/lib/dbus/machine-id": TEMPLATE}) as guest:
        (tmp_path / "etc/machine-id").chmod(0o444)
        perform(change_machine_id.TASK, guest)
        found = text(guest, "/etc/machine-id")
        assert found == text(guest, "/var/lib/dbus/machine-id") != TEMPLATE
        assert len(found) == 33
        assert found[12] == "4"
        assert int(found, 16)
        assert seen(guest, "/etc/machine-id") == (0, 0, 0o444)


def test_the_link_of_dbus_stays_a_link(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/etc/machine-id": TEMPLATE}) as guest:
        guest.make_directory("/var/lib/dbus")
        guest.symlink("/etc/machine-id", "/var/lib/dbus/machine-id")
        perform(change_machine_id.TASK, guest)
        assert guest.link_target("/var/lib/dbus/machine-id") == "/etc/machine-id"
        assert text(guest, "/etc/machine-id") != TEMPLATE


@pytest.mark.parametrize("content", ["", "uninitialized\n"])
def test_two_deployments_of_a_prepared_image_differ(tmp_path: Path, content: str) -> None:
    found = set()
    for name in ("one", "two"):
        with guest_in(tmp_path / name, {"/etc/machine-id": content}) as guest:
            perform(change_machine_id.TASK, guest)
            found.add(text(guest, "/etc/machine-id"))
    assert len(found) == 2


def test_a_missing_machine_id_stays_missing_with_a_warning(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        assert len(perform(change_machine_id.TASK, guest).warnings) == 1
        assert not guest.exists("/etc/machine-id")


def test_the_random_seed_of_the_image_is_not_shared(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/etc/machine-id": TEMPLATE, "/var/lib/systemd/random-seed": "seed"}) as guest:
        perform(change_machine_id.TASK, guest)
        assert not guest.exists("/var/lib/systemd/random-seed")
