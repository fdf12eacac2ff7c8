# SPDX-License-Identifier: GPL-2.0-or-later
"""Names, keys, files, time zone, console and what an image remembers, of BSD guests."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from phony_guests import BSD
from snf_image_helper.bsd import template_state
from snf_image_helper.linux.host_names import Renaming
from snf_image_helper.linux.template_state import Word
from snf_image_helper.rename import rename_guest
from snf_image_helper.system import OsFamily
from snf_image_helper.tasks import enforce_personality, reset_identity
from snf_image_helper.tasks.bsd import assign_hostname, configure_boot, configure_locale, delete_ssh_keys
from snf_image_shared.errors import GuestError
from snf_image_shared.job import PersonalityFile
from unit.helper.bsd_trees import FAMILIES, bsd_with, phony_bsd
from unit.helper.disk_images import Listener
from unit.helper.guest_trees import JOB, perform, seen, text

LONG = f"{'a' * 60}.{'b' * 60}.example.com"
SEEDED = replace(JOB, seed="5eed" * 16)


@pytest.mark.row(146)
@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("phony-freebsd-14.3", "/etc/rc.conf", 'hostname="web.example.com"\n'),
        ("phony-netbsd-10.1", "/etc/rc.conf", 'hostname="web.example.com"\n'),
        ("phony-netbsd-10.1", "/etc/myname", "web.example.com\n"),
        ("phony-openbsd-7.6", "/etc/myname", "web.example.com\n"),
    ],
)
def test_the_name_is_where_the_family_reads_it(tmp_path: Path, name: str, path: str, said: str) -> None:
    with phony_bsd(tmp_path, name) as guest:
        perform(assign_hostname.TASK, guest)
        assert said in text(guest, path)


def test_netbsd_without_a_name_in_rc_conf_has_it_in_myname_alone(tmp_path: Path) -> None:
    with bsd_with(tmp_path / "guest", OsFamily.NETBSD, {"/etc/rc.conf": "sshd=YES\n"}) as guest:
        perform(assign_hostname.TASK, guest)
        assert text(guest, "/etc/rc.conf") == "sshd=YES\n"
        assert text(guest, "/etc/myname") == "web.example.com\n"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_name_that_linux_could_not_hold_is_no_matter_and_a_short_one_is_taken_where_asked(
    tmp_path: Path, family: OsFamily
) -> None:
    path = "/etc/rc.conf" if family is OsFamily.FREEBSD else "/etc/myname"
    with bsd_with(tmp_path / "guest", family) as guest:
        guest.make_directory("/etc")
        assert perform(assign_hostname.TASK, guest, replace(JOB, hostname=LONG)).warnings == []
        assert LONG in text(guest, path)
        perform(assign_hostname.TASK, guest, HOSTNAME_POLICY="short")
        assert text(guest, path) in {"web\n", 'hostname="web"\n'}


def test_every_name_of_the_template_leaves_hosts(tmp_path: Path) -> None:
    with phony_bsd(tmp_path, "phony-freebsd-lived-14.3") as guest:
        perform(assign_hostname.TASK, guest)
        hosts = text(guest, "/etc/hosts")
    assert "template" not in hosts
    assert "10.9.8.1\t\trouter" in hosts


@pytest.mark.parametrize("name", sorted(BSD))
def test_a_guest_with_the_old_name_is_renamed_and_one_with_another_is_left_alone(tmp_path: Path, name: str) -> None:
    with phony_bsd(tmp_path, name) as guest:
        perform(assign_hostname.TASK, guest)
        renaming = Renaming("web.example.com", "shop.example.org")
        assert rename_guest(guest, renaming, Listener().reporter) is None
        told = {path: text(guest, path) for path in ("/etc/rc.conf", "/etc/myname") if guest.is_file(path)}
        assert any("shop.example.org" in content for content in told.values())
        assert not any("web" in content for content in told.values())
        assert "somebody has changed that" in str(rename_guest(guest, renaming_of_another, Listener().reporter))
        assert rename_guest(guest, renaming, Listener().reporter) is None, "done again"


renaming_of_another = Renaming("other.example.com", "third.example.com")


def test_a_guest_without_a_name_is_not_renamed(tmp_path: Path) -> None:
    with bsd_with(tmp_path / "guest", OsFamily.OPENBSD, {"/etc/myname": "# none\n"}) as guest:
        said = rename_guest(guest, Renaming("a", "b"), Listener().reporter)
    assert said == "it has no name of its own (nothing in /etc/myname)"


@pytest.mark.row(155)
def test_the_template_s_host_keys_become_the_instance_s_and_are_made_once(tmp_path: Path) -> None:
    with phony_bsd(tmp_path, "phony-openbsd-7.6") as guest:
        perform(delete_ssh_keys.TASK, guest, SEEDED)
        keys = {path.name: path.read_text() for path in Path(guest.root, "etc/ssh").glob("ssh_host_*_key")}
        assert set(keys) == {f"ssh_host_{kind}_key" for kind in ("rsa", "ecdsa", "ed25519")}
        assert all("BEGIN OPENSSH PRIVATE KEY" in key for key in keys.values())
        perform(delete_ssh_keys.TASK, guest, SEEDED)
        assert keys == {path.name: path.read_text() for path in Path(guest.root, "etc/ssh").glob("ssh_host_*_key")}


def test_a_key_that_only_sshd_config_names_is_replaced_too(tmp_path: Path) -> None:
    files = {"/etc/ssh/sshd_config": "HostKey /etc/keys/own_ed25519\n", "/etc/keys/own_ed25519": OLD_KEY}
    with bsd_with(tmp_path / "guest", OsFamily.FREEBSD, files) as guest:
        perform(delete_ssh_keys.TASK, guest, SEEDED)
        assert "BEGIN OPENSSH PRIVATE KEY" in text(guest, "/etc/keys/own_ed25519")
        assert text(guest, "/etc/keys/own_ed25519") != OLD_KEY


OLD_KEY = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    + base64.b64encode(b"openssh-key-v1\0...ssh-ed25519...").decode()
    + "\n-----END OPENSSH PRIVATE KEY-----\n"
)


def test_a_guest_without_host_keys_is_left_to_make_them(tmp_path: Path) -> None:
    with phony_bsd(tmp_path, "phony-freebsd-14.3") as guest:
        perform(delete_ssh_keys.TASK, guest, SEEDED)
        assert guest.list_directory("/etc/ssh") == ("sshd_config",)


@pytest.mark.row(161)
@pytest.mark.root
def test_files_belong_to_the_guest_s_own_users_and_groups(tmp_path: Path) -> None:
    content = base64.b64encode(b"x").decode()
    files = (
        PersonalityFile("/home/admin/deep/file", content, "admin", "admin", 0o600),
        PersonalityFile("/etc/one", content, "root", "root", 0o644),
        PersonalityFile("/etc/two", content, "operator", "wheel", 0o440),
    )
    with phony_bsd(tmp_path, "phony-freebsd-lived-14.3") as guest:
        perform(enforce_personality.TASK, guest, replace(JOB, personality=files), CLOUD_INIT="yes")
        assert seen(guest, "/home/admin/deep/file") == (1001, 1001, 0o600)
        assert seen(guest, "/home/admin/deep") == (1001, 1001, 0o750)
        assert seen(guest, "/etc/one") == (0, 0, 0o644), "what Linux calls root is wheel there"
        assert seen(guest, "/etc/two") == (2, 0, 0o440)


@pytest.mark.row(162)
@pytest.mark.parametrize(("owner", "group"), [("nobody_there", "wheel"), ("root", "nogroup_there")])
def test_who_is_not_in_the_guest_is_named_with_the_file(tmp_path: Path, owner: str, group: str) -> None:
    file = PersonalityFile("/etc/one", "", owner, group)
    with (
        phony_bsd(tmp_path, "phony-openbsd-7.6") as guest,
        pytest.raises(
            GuestError, match=r"/etc/one: the (user|group) '\w+_there' is not in /etc/(master\.passwd|group)"
        ),
    ):
        perform(enforce_personality.TASK, guest, replace(JOB, personality=(file,)))


@pytest.mark.parametrize("name", ["phony-freebsd-14.3", "phony-netbsd-9.4", "phony-openbsd-7.7"])
def test_the_time_zone_is_a_link_and_freebsd_remembers_its_name(tmp_path: Path, name: str) -> None:
    with phony_bsd(tmp_path, name) as guest:
        said = perform(configure_locale.TASK, guest, TIMEZONE="Europe/Athens", LOCALE="el_GR.UTF-8")
        assert guest.link_target("/etc/localtime") == "../usr/share/zoneinfo/Europe/Athens"
        assert guest.is_file("/var/db/zoneinfo") is name.startswith("phony-freebsd")
    assert len(said.warnings) == 1
    assert said.warnings[0].startswith("The property LOCALE has no effect on ")


def test_a_serial_console_that_is_there_is_left(tmp_path: Path) -> None:
    files = {
        "/boot/loader.conf": 'boot_multicons="YES"\nboot_serial="YES"\ncomconsole_speed="115200"\n'
        'console="comconsole,vidconsole"\nkern.vty=vt\n',
        "/etc/ttys": 'ttyu0\t"/usr/libexec/getty 3wire"\tvt100\ton secure\n',
    }
    with bsd_with(tmp_path / "guest", OsFamily.FREEBSD, files) as guest:
        perform(configure_boot.TASK, guest, CONSOLE="serial")
        assert {path: text(guest, path) for path in files} == files


def test_seeds_are_the_host_s_randomness_and_differ_between_two_instances(tmp_path: Path) -> None:
    seeds = {}
    for number in ("1", "2"):
        with phony_bsd(tmp_path / number, "phony-openbsd-7.6") as guest:
            perform(reset_identity.TASK, guest, replace(JOB, seed=number * 64))
            paths = ("etc/random.seed", "var/db/host.random")
            seeds[number] = [Path(guest.root, path).read_bytes() for path in paths]
            assert not guest.exists("/etc/soii.key")
            assert not guest.exists("/etc/iked/private/local.key")
    assert [len(seed) for seed in seeds["1"]] == [512, 65536]
    assert len({hashlib.sha256(seed[:64]).digest() for found in seeds.values() for seed in found}) == 4


def test_netbsd_s_seed_is_one_that_rndctl_would_load(tmp_path: Path) -> None:
    with phony_bsd(tmp_path, "phony-netbsd-10.1") as guest:
        perform(reset_identity.TASK, guest, SEEDED)
        seed = Path(guest.root, "var/db/entropy-file").read_bytes()
    assert len(seed) == 4 + 512 + 20
    assert int.from_bytes(seed[:4], "little") <= 512 * 8
    assert hashlib.sha1(seed[:-20]).digest() == seed[-20:]


def test_what_two_freebsds_must_not_share_is_gone(tmp_path: Path) -> None:
    with phony_bsd(tmp_path, "phony-freebsd-lived-14.3") as guest:
        perform(reset_identity.TASK, guest, SEEDED)
        for path in ("/etc/hostid", "/etc/machine-id", "/var/db/dhclient.leases.vtnet0"):
            assert not guest.exists(path)
        assert guest.list_directory("/var/db/entropy") == ()
        assert len(Path(guest.root, "boot/entropy").read_bytes()) == 4096
        assert text(guest, "/var/log/utx.log") == ""


def test_a_word_that_says_nothing_to_a_bsd_finds_nothing(tmp_path: Path) -> None:
    with phony_bsd(tmp_path, "phony-openbsd-7.6") as guest:
        assert template_state.reset(Word.SUBSCRIPTION, guest, SEEDED) == 0
