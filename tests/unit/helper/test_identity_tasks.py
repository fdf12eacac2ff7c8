# SPDX-License-Identifier: GPL-2.0-or-later
"""AssignHostname and ChangeMachineId on trees."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.tasks import assign_hostname, change_machine_id
from snf_image_shared.errors import GuestError
from unit.helper.guest_trees import JOB, guest_in, perform, seen, text

pytestmark = pytest.mark.root

DEBIAN = {"/etc/os-release": "ID=debian\n"}


@pytest.mark.row(145)
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


@pytest.mark.row(145)
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


@pytest.mark.parametrize(
    ("release", "place"),
    [
        ("arch", {"/etc/hostname": "old\n"}),
        ("alpine", {"/etc/hostname": "localhost\n"}),
        ("gentoo", {"/etc/conf.d/hostname": 'hostname="localhost"\n'}),
        ("slackware", {"/etc/HOSTNAME": "darkstar.example.net\n"}),
        ("void", {"/etc/hostname": "void\n"}),
    ],
)
def test_where_only_hosts_knows_the_guests_own_name_it_stands_on_the_loopback_line(
    tmp_path: Path, release: str, place: dict[str, str]
) -> None:
    files = {"/etc/os-release": f"ID={release}\n", **place, "/etc/hosts": "127.0.0.1 localhost\n"}
    with guest_in(tmp_path, files) as guest:
        for _ in range(2):
            perform(assign_hostname.TASK, guest)
            assert text(guest, "/etc/hosts") == "127.0.0.1\tlocalhost web.example.com web\n"


def test_slackwares_template_is_not_named_beside_the_instance(tmp_path: Path) -> None:
    hosts = "127.0.0.1 localhost\n127.0.0.1 darkstar.example.net darkstar\n"
    files = {"/etc/os-release": "ID=slackware\n", "/etc/HOSTNAME": "darkstar.example.net\n", "/etc/hosts": hosts}
    with guest_in(tmp_path, files) as guest:
        perform(assign_hostname.TASK, guest)
        assert text(guest, "/etc/hosts") == "127.0.0.1 localhost\n127.0.0.1 web.example.com web\n"


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


CLOUD = {**DEBIAN, "/etc/hostname": "old\n", "/etc/cloud/cloud.cfg.d/05_logging.cfg": ""}
DROP_IN = "/etc/cloud/cloud.cfg.d/98_snf-image-50AssignHostname.cfg"


def test_cloud_init_gets_the_name_as_meta_data(tmp_path: Path) -> None:
    with guest_in(tmp_path, CLOUD) as guest:
        perform(assign_hostname.TASK, guest, CLOUD_INIT="yes")
        meta_data = "/var/lib/cloud/seed/nocloud-net/meta-data"
        assert json.loads(text(guest, meta_data)) == {"local-hostname": "web.example.com"}
        assert seen(guest, meta_data) == (0, 0, 0o600)
        assert text(guest, "/etc/hostname") == "old\n"
        assert json.loads(text(guest, DROP_IN)) == {"preserve_hostname": False}


@pytest.mark.parametrize(("policy", "qualified"), [("fqdn", True), ("short", False)])
def test_cloud_init_is_told_of_the_policy(tmp_path: Path, policy: str, qualified: bool) -> None:
    with guest_in(tmp_path, CLOUD) as guest:
        perform(assign_hostname.TASK, guest, CLOUD_INIT="yes", HOSTNAME_POLICY=policy)
        assert json.loads(text(guest, DROP_IN))["prefer_fqdn_over_hostname"] is qualified


def test_cloud_init_that_nobody_feeds_leaves_the_name_alone(tmp_path: Path) -> None:
    with guest_in(tmp_path, CLOUD) as guest:
        perform(assign_hostname.TASK, guest)
        assert text(guest, "/etc/hostname") == "web.example.com\n"
        assert json.loads(text(guest, DROP_IN)) == {"preserve_hostname": True}


def test_a_short_name_can_be_asked_for_and_hosts_still_tells_both(tmp_path: Path) -> None:
    files = {**DEBIAN, "/etc/hostname": "old\n", "/etc/hosts": "127.0.1.1 old\n"}
    with guest_in(tmp_path, files) as guest:
        perform(assign_hostname.TASK, guest, HOSTNAME_POLICY="Short")
        assert text(guest, "/etc/hostname") == "web\n"
        assert text(guest, "/etc/hosts") == "127.0.1.1\tweb.example.com web\n"


@pytest.mark.image_row(71)
@pytest.mark.parametrize(("id_", "name"), [("debian", "web"), ("gentoo", "web"), ("fedora", "web.example.com")])
def test_by_family_the_name_is_as_long_as_instance_image_made_it(tmp_path: Path, id_: str, name: str) -> None:
    with guest_in(tmp_path, {"/etc/os-release": f"ID={id_}\n", "/etc/hostname": "old\n"}) as guest:
        perform(assign_hostname.TASK, guest, HOSTNAME_POLICY="family")
        assert text(guest, "/etc/hostname") == f"{name}\n"


def test_a_policy_that_nobody_knows_is_refused_before_anything_is_done() -> None:
    with pytest.raises(GuestError, match="property HOSTNAME_POLICY: 'long' is none of fqdn, short"):
        assign_hostname.TASK.skip(replace(JOB, properties={"HOSTNAME_POLICY": "long"}))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("127.0.0.1 old.example.org old localhost\n", "127.0.0.1 web.example.com web localhost\n"),
        ("::1 localhost old # me\n", "::1 localhost web # me\n"),
        ("192.0.2.1 old.example.org old\n10.0.0.1 bold\n", "10.0.0.1 bold\n"),
        ("192.0.2.1 old.example.org www.example.org\n", "192.0.2.1 www.example.org\n"),
        ("# old\n127.0.0.1 localhost\n", "# old\n127.0.0.1 localhost\n"),
    ],
)
def test_the_templates_name_goes_from_hosts_and_its_address_with_it(tmp_path: Path, before: str, after: str) -> None:
    files = {"/etc/os-release": "ID=fedora\n", "/etc/hostname": "old.example.org\n", "/etc/hosts": before}
    with guest_in(tmp_path, files) as guest:
        perform(assign_hostname.TASK, guest)
        assert text(guest, "/etc/hosts") == after


def test_what_else_tells_the_templates_name_is_corrected(tmp_path: Path) -> None:
    files = {
        **DEBIAN,
        "/etc/hostname": "old\n",
        "/etc/mailname": "old.example.org\n",
        "/etc/machine-info": 'PRETTY_HOSTNAME="The old one"\nDEPLOYMENT=production\n',
    }
    with guest_in(tmp_path, files) as guest:
        perform(assign_hostname.TASK, guest)
        assert text(guest, "/etc/machine-info") == "DEPLOYMENT=production\n"
        assert text(guest, "/etc/mailname") == "old.example.org\n"
    with guest_in(tmp_path, {**files, "/etc/hostname": "old.example.org\n"}) as guest:
        perform(assign_hostname.TASK, guest)
        assert text(guest, "/etc/mailname") == "web.example.com\n"


def test_done_again_it_writes_nothing(tmp_path: Path) -> None:
    files = {
        **CLOUD,
        "/etc/hosts": "127.0.1.1 old\n",
        "/etc/mailname": "old\n",
        "/etc/machine-info": "PRETTY_HOSTNAME=x\n",
    }
    with guest_in(tmp_path, files) as guest:
        perform(assign_hostname.TASK, guest)
        before = {path: path.lstat().st_ctime_ns for path in tmp_path.rglob("*")}
        perform(assign_hostname.TASK, guest)
        assert {path: path.lstat().st_ctime_ns for path in tmp_path.rglob("*")} == before


def test_nixos_is_left_alone(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/etc/os-release": "ID=nixos\n", "/nix/store/a/hostname": "nixos\n"}) as guest:
        guest.symlink("/nix/store/a/hostname", "/etc/hostname")
        assert "networking.hostName" in perform(assign_hostname.TASK, guest).warnings[0]
        assert text(guest, "/nix/store/a/hostname") == "nixos\n"


TEMPLATE = "0123456789abcdef0123456789abcdef\n"
IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")
SYSTEMD = {"/usr/lib/systemd/systemd": ""}


@pytest.mark.row(147)
def test_without_systemd_both_machine_ids_become_the_same_new_one(tmp_path: Path) -> None:
    with guest_in(tmp_path, dict.fromkeys(IDS, TEMPLATE)) as guest:
        (tmp_path / "etc/machine-id").chmod(0o444)
        perform(change_machine_id.TASK, guest)
        found = text(guest, "/etc/machine-id")
        assert found == text(guest, "/var/lib/dbus/machine-id") != TEMPLATE
        assert len(found) == 33
        assert found[12] == "4"
        assert int(found, 16)
        assert seen(guest, "/etc/machine-id") == (0, 0, 0o444)


@pytest.mark.row(147)
@pytest.mark.parametrize("content", [TEMPLATE, "uninitialized\n", ""])
def test_systemd_makes_the_machine_id_at_boot_and_takes_none_that_dbus_kept(tmp_path: Path, content: str) -> None:
    with guest_in(tmp_path, {**SYSTEMD, IDS[0]: content, IDS[1]: TEMPLATE}) as guest:
        (tmp_path / "etc/machine-id").chmod(0o444)
        for _ in range(2):
            perform(change_machine_id.TASK, guest)
            assert text(guest, "/etc/machine-id") == ""
            assert guest.link_target("/var/lib/dbus/machine-id") == "/etc/machine-id"
            assert seen(guest, "/etc/machine-id") == (0, 0, 0o444)


@pytest.mark.parametrize("commits", [False, True])
def test_a_systemd_that_would_forget_its_machine_id_gets_one(tmp_path: Path, commits: bool) -> None:
    units = ["systemd-journald", "systemd-machine-id-commit"][: 2 if commits else 1]
    files = {"/lib/systemd/systemd": "", **{f"/lib/systemd/system/{unit}.service": "" for unit in units}}
    with guest_in(tmp_path, {**files, "/etc/machine-id": "a\n"}) as guest:
        perform(change_machine_id.TASK, guest)
        assert len(text(guest, "/etc/machine-id")) == (0 if commits else 33)


def test_a_link_that_cannot_be_made_leaves_the_machine_id_as_it_was(tmp_path: Path) -> None:
    dbus = "/var/lib/dbus/machine-id"
    files = {"/usr/lib/systemd/systemd": "", "/etc/machine-id": "a\n", dbus: "a\n"}
    in_the_way = "/var/lib/dbus/.snf-image-link-machine-id/x"
    with guest_in(tmp_path, {**files, in_the_way: ""}) as guest:
        with pytest.raises(GuestError, match="snf-image-link-machine-id"):
            perform(change_machine_id.TASK, guest)
        assert [text(guest, path) for path in ("/etc/machine-id", dbus)] == ["a\n", "a\n"]


def test_a_machine_id_can_be_had_before_the_first_boot(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**SYSTEMD, **dict.fromkeys(IDS, TEMPLATE)}) as guest:
        perform(change_machine_id.TASK, guest, MACHINE_ID="random")
        assert text(guest, IDS[0]) == text(guest, IDS[1]) != TEMPLATE
        assert int(text(guest, IDS[0]), 16)


def test_what_is_no_way_to_a_machine_id_is_refused_before_anything_is_done() -> None:
    with pytest.raises(GuestError, match="property MACHINE_ID: 'never' is none of boot, random"):
        change_machine_id.TASK.skip(replace(JOB, properties={"MACHINE_ID": "never"}))


@pytest.mark.parametrize("files", [{}, SYSTEMD], ids=["random", "systemd"])
def test_the_link_of_dbus_stays_a_link(tmp_path: Path, files: dict[str, str]) -> None:
    with guest_in(tmp_path, {**files, "/etc/machine-id": TEMPLATE}) as guest:
        guest.make_directory("/var/lib/dbus")
        guest.symlink("../../../etc/machine-id", "/var/lib/dbus/machine-id")
        perform(change_machine_id.TASK, guest)
        assert guest.link_target("/var/lib/dbus/machine-id") == "../../../etc/machine-id"
        assert text(guest, "/etc/machine-id") != TEMPLATE


@pytest.mark.parametrize("content", ["", "uninitialized\n"])
def test_two_deployments_of_a_prepared_image_differ(tmp_path: Path, content: str) -> None:
    found = set()
    for name in ("one", "two"):
        with guest_in(tmp_path / name, {"/etc/machine-id": content}) as guest:
            perform(change_machine_id.TASK, guest)
            found.add(text(guest, "/etc/machine-id"))
    assert len(found) == 2


def test_one_deployment_done_again_changes_nothing(tmp_path: Path) -> None:
    with guest_in(tmp_path, dict.fromkeys(IDS, TEMPLATE)) as guest:
        job = replace(JOB, seed="5a" * 32)
        perform(change_machine_id.TASK, guest, job)
        before = [(tmp_path / path.lstrip("/")).stat().st_ctime_ns for path in IDS]
        perform(change_machine_id.TASK, guest, job)
        assert [(tmp_path / path.lstrip("/")).stat().st_ctime_ns for path in IDS] == before


@pytest.mark.row(147)
def test_a_missing_machine_id_stays_missing_with_a_warning(tmp_path: Path) -> None:
    with guest_in(tmp_path) as guest:
        assert len(perform(change_machine_id.TASK, guest).warnings) == 1
        assert not guest.exists("/etc/machine-id")
