# SPDX-License-Identifier: GPL-2.0-or-later
"""ResetIdentity: what the template left goes, by words; what an image may bring on purpose stays."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.tasks.reset_identity import TASK
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import ext4, sh
from unit.helper.guest_trees import JOB, guest_in, perform, put, seen, text

pytestmark = pytest.mark.root

ID = "0123456789abcdef0123456789abcdef"
SEEDED = replace(JOB, seed="00" * 32)
# What a word removes, and beside it what it must not touch.
REMOVED = {
    "seeds": (
        *("/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret", "/var/lib/urandom/random-seed"),
        *("/var/lib/misc/random-seed", "/var/lib/random-seed", "/var/lib/seedrng/seed.credit"),
        *("/efi/loader/random-seed", "/boot/loader/random-seed", "/boot/efi/loader/random-seed"),
    ),
    "leases": (
        *("/etc/dhcpcd.duid", "/var/lib/dhcp/dhclient.leases", "/var/lib/dhcp/dhclient6.eth0.leases"),
        *("/var/lib/dhclient/dhclient--eth0.lease", "/var/lib/dhcpcd/duid", "/var/lib/dhcpcd/eth0.lease6"),
        *("/var/lib/NetworkManager/secret_key", "/var/lib/NetworkManager/internal-1-eth0.lease"),
        *("/var/lib/NetworkManager/timestamps", "/var/lib/wicked/duid.xml", "/var/lib/wicked/lease-eth0-dhcp-ipv4.xml"),
    ),
    "cloud-init": (
        *("/var/lib/cloud/instances/old/sem/config_x", "/var/lib/cloud/data/instance-id", "/var/lib/cloud/sem/x.once"),
    ),
    "journal": (f"/var/log/journal/{ID}/system.journal", f"/var/log/journal/{ID}.scope/x.journal"),
    "logins": ("/var/lib/wtmpdb/wtmp.db", "/var/lib/lastlog/lastlog2.db"),
    "storage": ("/etc/lvm/devices/system.devices",),
    "subscription": (
        *("/etc/pki/consumer/key.pem", "/etc/pki/consumer/cert.pem", "/etc/pki/entitlement/123-key.pem"),
        *("/etc/sysconfig/rhn/systemid", "/etc/insights-client/machine-id"),
    ),
    "logs": ("/var/log/syslog.1", "/var/log/apt/history.log.1.gz", "/var/log/messages-20260101"),
    "agents": (
        "/etc/salt/minion_id",
        "/etc/salt/pki/minion/minion.pem",
        "/etc/puppetlabs/puppet/ssl/private_keys/a.pem",
    ),
    "domain": ("/etc/krb5.keytab", "/var/lib/sss/db/cache_x.ldb", "/var/lib/samba/private/secrets.tdb"),
}
KEPT = (
    *("/var/lib/systemd/timesync/clock", "/efi/loader/loader.conf", "/etc/hostid", "/root/.ssh/authorized_keys"),
    *("/var/lib/NetworkManager/NetworkManager.state", "/var/lib/dhcp/README", "/etc/dhcpcd.conf"),
    # What a DHCP server of the guest has given to others.
    *("/var/lib/dhcp/dhcpd.leases", "/var/lib/dhcp/dhcpd6.leases", "/var/lib/NetworkManager/dnsmasq-eth1.leases"),
    *("/var/lib/cloud/seed/nocloud-net/meta-data", "/var/lib/cloud/scripts/per-boot/of-the-image"),
    *("/var/log/journal/remote/remote-a.journal", "/etc/pki/tls/cert.pem", "/etc/salt/minion", "/etc/lvm/lvm.conf"),
    *("/etc/pki/consumer/README", "/etc/puppetlabs/puppet/puppet.conf", "/etc/krb5.conf"),
)
EVERYTHING = dict.fromkeys((*(path for paths in REMOVED.values() for path in paths), *KEPT), "of the template\n")
DEFAULT = ("seeds", "leases", "journal", "logins", "storage", "subscription")


@pytest.mark.parametrize("word", REMOVED)
def test_a_word_removes_what_it_stands_for_and_nothing_else(tmp_path: Path, word: str) -> None:
    with guest_in(tmp_path, EVERYTHING) as guest:
        perform(TASK, guest, IDENTITY_RESET=word)
        assert {path for path in EVERYTHING if not guest.exists(path)} == set(REMOVED[word])


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({}, DEFAULT),
        ({"CLOUD_INIT": "yes"}, (*DEFAULT, "cloud-init")),
        ({"IDENTITY_RESET": "default, logs"}, (*DEFAULT, "logs")),
        ({"IDENTITY_RESET": "Journal seeds"}, ("journal", "seeds")),
        ({"IDENTITY_RESET": "all"}, tuple(REMOVED)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_the_property_says_what_goes(tmp_path: Path, properties: dict[str, str], words: tuple[str, ...]) -> None:
    with guest_in(tmp_path, EVERYTHING) as guest:
        perform(TASK, guest, JOB, **properties)
        assert {path for path in EVERYTHING if not guest.exists(path)} == {p for word in words for p in REMOVED[word]}


def test_nothing_can_be_asked_for_and_a_word_that_nobody_knows_is_refused_before_anything_is_done() -> None:
    assert TASK.skip(replace(JOB, properties={"IDENTITY_RESET": "none"})) == (
        "the property IDENTITY_RESET asks for nothing"
    )
    with pytest.raises(GuestError, match="property IDENTITY_RESET: 'sids' is none of its words: default, all, none"):
        TASK.skip(replace(JOB, properties={"IDENTITY_RESET": "default sids"}))


def test_what_was_found_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"/var/lib/systemd/random-seed": "x", f"/var/log/journal/{ID}/a": "x", "/var/log/wtmp": "x"}
    with guest_in(tmp_path, files) as guest:
        for told in ("Reset what was the template's own: seeds (1), journal (1), logins (1)\n", ""):
            perform(TASK, guest)
            assert capsys.readouterr().out == told


def test_rules_that_tie_names_to_the_templates_cards_are_put_out_of_the_way(tmp_path: Path) -> None:
    rules = "/etc/udev/rules.d/70-persistent-net.rules"
    with guest_in(tmp_path, {rules: "of the template\n"}) as guest:
        perform(TASK, guest)
        assert not guest.exists(rules)
        assert text(guest, f"{rules}.snf-image-bak") == "of the template\n"


def test_records_of_logins_are_emptied_and_keep_owner_and_mode(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/var/log/wtmp": "x" * 384, "/var/log/lastlog": ""}) as guest:
        with (tmp_path / "var/log/btmp").open("wb") as file:
            file.truncate(1 << 40)  # a lastlog of large user numbers is as sparse as this
        os.chown(tmp_path / "var/log/wtmp", 0, 43)
        (tmp_path / "var/log/wtmp").chmod(0o664)
        untouched = (tmp_path / "var/log/lastlog").stat().st_mtime_ns
        perform(TASK, guest)
        assert text(guest, "/var/log/wtmp") == text(guest, "/var/log/btmp") == ""
        assert seen(guest, "/var/log/wtmp") == (0, 43, 0o664)
        assert (tmp_path / "var/log/lastlog").stat().st_mtime_ns == untouched


def test_logs_are_emptied_and_rotated_ones_removed(tmp_path: Path) -> None:
    files = {
        "/var/log/syslog": "x",
        "/var/log/apt/history.log": "x",
        "/var/log/apt/history.log.2.gz": "x",
        "/keep": "x",
    }
    with guest_in(tmp_path, files) as guest:
        guest.symlink("/keep", "/var/log/link")
        os.mkfifo(tmp_path / "var/log/fifo")
        perform(TASK, guest, IDENTITY_RESET="logs")
        assert text(guest, "/var/log/syslog") == text(guest, "/var/log/apt/history.log") == ""
        assert not guest.exists("/var/log/apt/history.log.2.gz")
        assert text(guest, "/keep") == "x"
        assert guest.exists("/var/log/fifo")


def test_storage_knows_the_instance_by_a_name_of_its_own(tmp_path: Path) -> None:
    files = {
        "/etc/iscsi/initiatorname.iscsi": "## do not\nInitiatorName=iqn.1993-08.org.debian:01:abcdef\n",
        "/etc/nvme/hostnqn": "nqn.2014-08.org.nvmexpress:uuid:6f1b0f2e-0000-4000-8000-000000000000\n",
        "/etc/nvme/hostid": "6f1b0f2e-0000-4000-8000-000000000000\n",
    }
    found = []
    for number in range(2):
        root = tmp_path / str(number)
        with guest_in(root, files) as guest:
            perform(TASK, guest, replace(JOB, seed=f"{number:064x}"))
            iscsi, nqn, uuid = (text(guest, path) for path in files)
            assert iscsi.startswith("## do not\nInitiatorName=iqn.1993-08.org.debian:01:")
            assert len(iscsi) == len("## do not\nInitiatorName=iqn.1993-08.org.debian:01:\n") + 12
            assert nqn == f"nqn.2014-08.org.nvmexpress:uuid:{uuid}"
            found += [iscsi, uuid]
    assert len(set(found)) == 4
    assert not any("abcdef" in text or "6f1b" in text for text in found)


def test_done_again_it_changes_nothing(tmp_path: Path) -> None:
    files = {**EVERYTHING, "/var/log/wtmp": "x", "/etc/iscsi/initiatorname.iscsi": "InitiatorName=iqn.a:b\n"}
    with guest_in(tmp_path, files) as guest:
        perform(TASK, guest, SEEDED, IDENTITY_RESET="all")
        before = {path: path.lstat().st_ctime_ns for path in tmp_path.rglob("*")}
        perform(TASK, guest, SEEDED, IDENTITY_RESET="all")
        assert {path: path.lstat().st_ctime_ns for path in tmp_path.rglob("*")} == before


def test_links_of_the_guest_lead_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    put(tmp_path / "outside", {"/random-seed": "x"})
    with guest_in(tmp_path / "guest", {"/etc/hostname": "x"}) as guest:
        guest.make_directory("/var/lib")
        guest.symlink("/../outside", "/var/lib/systemd")
        guest.symlink("../../../outside", "/var/lib/cloud")
        perform(TASK, guest, IDENTITY_RESET="all")
    assert (tmp_path / "outside/random-seed").exists()


def test_cloud_inits_own_place_of_state_is_heeded(tmp_path: Path) -> None:
    files = {"/etc/cloud/cloud.cfg": "system_info:\n  paths:\n    cloud_dir: /srv/cloud/\n", "/srv/cloud/sem/x": "x"}
    with guest_in(tmp_path, files) as guest:
        perform(TASK, guest, CLOUD_INIT="yes")
        assert not guest.exists("/srv/cloud/sem")


def test_records_that_nobody_may_shorten_are_worth_a_warning(tmp_path: Path) -> None:
    with ext4(tmp_path) as root, guest_in(root, {"/var/log/wtmp": "x", "/var/lib/systemd/random-seed": "x"}) as guest:
        sh("chattr", "+a", f"{root}/var/log/wtmp")
        said = perform(TASK, guest)
        assert said.warnings[0].startswith("The template's logins stay: /var/log/wtmp: is immutable or append-only")
        assert not guest.exists("/var/lib/systemd/random-seed")
        sh("chattr", "-a", f"{root}/var/log/wtmp")


def test_a_seed_that_cannot_be_removed_fails_the_deployment(tmp_path: Path) -> None:
    path = "/var/lib/systemd/random-seed"
    with ext4(tmp_path) as root, guest_in(root, {path: "x"}) as guest:
        sh("chattr", "+i", f"{root}{path}")
        with pytest.raises(GuestError, match=f"{path}: is immutable"):
            perform(TASK, guest)
        sh("chattr", "-i", f"{root}{path}")
