# SPDX-License-Identifier: GPL-2.0-or-later
"""DeleteSSHKeys on trees with keys that ssh-keygen made, judged by ssh-keygen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.tasks.delete_ssh_keys import TASK, KeyType, type_of_content
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import sh
from unit.helper.guest_tools import GuestTools
from unit.helper.guest_trees import JOB, guest_in, perform, put, seen, text

pytestmark = pytest.mark.root


def make_key(root: Path, path: str, *options: str) -> str:
    """A private key with its public half; its fingerprint."""
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    sh("ssh-keygen", "-q", "-N", "", "-f", str(place), *options)
    return fingerprint(root, path)


def fingerprint(root: Path, path: str) -> str:
    """Of the private key itself, after the public half has been held to it; ends with the type."""
    place = root / path.lstrip("/")
    derived = sh("ssh-keygen", "-y", "-f", str(place)).split()[:2]
    assert derived == Path(f"{place}.pub").read_text().split()[:2]
    words = sh("ssh-keygen", "-l", "-f", str(place)).split()
    return f"{words[1]} {words[-1]}"


@pytest.mark.row(155)
@pytest.mark.image_row(81)
def test_each_key_is_replaced_by_one_of_its_type(tmp_path: Path) -> None:
    old = {
        kind: make_key(tmp_path, f"/etc/ssh/ssh_host_{kind}_key", "-t", kind) for kind in ("ed25519", "ecdsa", "rsa")
    }
    with guest_in(tmp_path) as guest:
        perform(TASK, guest)
        for kind, before in old.items():
            path = f"/etc/ssh/ssh_host_{kind}_key"
            after = fingerprint(tmp_path, path)
            assert after != before
            assert after.endswith(f"({kind.upper()})")
            assert seen(guest, path) == (0, 0, 0o600)
            assert seen(guest, f"{path}.pub") == (0, 0, 0o644)
            assert text(guest, f"{path}.pub").endswith(" root@web\n")


@pytest.mark.row(198)
@pytest.mark.parametrize("path", ["/etc/ssh/ssh_host_{}_key", "/etc/ssh/named-{}"])
def test_more_host_keys_than_any_guest_has_are_refused_and_stay(tmp_path: Path, path: str) -> None:
    old = {path.format(number): "-----BEGIN RSA PRIVATE KEY-----\n" for number in range(17)}
    config = "".join(f"HostKey {name}\n" for name in old)
    with guest_in(tmp_path, {**old, "/etc/ssh/sshd_config": config}) as guest:
        with pytest.raises(GuestError, match="/etc/ssh: the guest has more than 16 SSH host keys"):
            perform(TASK, guest)
        assert len(guest.list_directory("/etc/ssh")) == 18


def test_no_type_appears_that_was_not_there(tmp_path: Path) -> None:
    make_key(tmp_path, "/etc/ssh/ssh_host_ed25519_key", "-t", "ed25519")
    with guest_in(tmp_path) as guest:
        perform(TASK, guest)
        assert guest.list_directory("/etc/ssh") == ("ssh_host_ed25519_key", "ssh_host_ed25519_key.pub")


def test_dsa_keys_and_certificates_go_for_good(tmp_path: Path) -> None:
    make_key(tmp_path, "/etc/ssh/ssh_host_ed25519_key", "-t", "ed25519")
    put(
        tmp_path,
        {
            "/etc/ssh/ssh_host_dsa_key": "-----BEGIN DSA PRIVATE KEY-----\n",
            "/etc/ssh/ssh_host_dsa_key.pub": "ssh-dss A\n",
            "/etc/ssh/ssh_host_ed25519_key-cert.pub": "ssh-ed25519-cert-v01@openssh.com A\n",
            "/etc/ssh/ssh_config": "stays\n",
        },
    )
    with guest_in(tmp_path) as guest:
        perform(TASK, guest)
        assert guest.list_directory("/etc/ssh") == ("ssh_config", "ssh_host_ed25519_key", "ssh_host_ed25519_key.pub")


@pytest.mark.parametrize(
    "options", [("-t", "ed25519"), ("-t", "ecdsa"), ("-t", "rsa", "-m", "PEM"), ("-t", "ecdsa", "-m", "PEM")]
)
def test_keys_named_by_hostkey_are_replaced_by_their_own_type(tmp_path: Path, options: tuple[str, ...]) -> None:
    before = make_key(tmp_path, "/srv/keys/odd", *options)
    with guest_in(tmp_path, {"/etc/ssh/sshd_config": "HostKey /srv/keys/odd\n"}) as guest:
        perform(TASK, guest)
        after = fingerprint(tmp_path, "/srv/keys/odd")
        assert after != before
        assert after.split()[-1] == before.split()[-1]


def test_a_hostkey_line_that_names_no_key_destroys_nothing(tmp_path: Path) -> None:
    files = {"/etc/ssh/sshd_config": "HostKey /etc/passwd\nHostKey /nope\n", "/etc/passwd": "root\n"}
    with guest_in(tmp_path, files) as guest:
        perform(TASK, guest)
        assert text(guest, "/etc/passwd") == "root\n"
        assert not guest.exists("/nope")


def test_the_group_that_red_hat_lets_in_stays(tmp_path: Path) -> None:
    make_key(tmp_path, "/etc/ssh/ssh_host_ed25519_key", "-t", "ed25519")
    with guest_in(tmp_path) as guest:
        guest.chown("/etc/ssh/ssh_host_ed25519_key", 0, 998)
        guest.chmod("/etc/ssh/ssh_host_ed25519_key", 0o640)
        perform(TASK, guest)
        assert seen(guest, "/etc/ssh/ssh_host_ed25519_key") == (0, 998, 0o640)


def test_sshd_without_any_key_gets_two(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/usr/sbin/sshd": "", "/etc/ssh/sshd_config": ""}) as guest:
        perform(TASK, guest)
        assert fingerprint(tmp_path, "/etc/ssh/ssh_host_ed25519_key")
        assert fingerprint(tmp_path, "/etc/ssh/ssh_host_ecdsa_key")


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_a_key_that_an_old_sshd_reads_stays_of_that_form(tmp_path: Path, kind: str) -> None:
    before = make_key(tmp_path, f"/etc/ssh/ssh_host_{kind}_key", "-t", kind, "-m", "PEM")
    with guest_in(tmp_path) as guest:
        perform(TASK, guest)
        assert fingerprint(tmp_path, f"/etc/ssh/ssh_host_{kind}_key") != before
        assert f"BEGIN {kind.upper().removesuffix('DSA')}" in text(guest, f"/etc/ssh/ssh_host_{kind}_key")


@pytest.mark.row(155)
def test_a_drop_in_names_keys_and_the_certificate_of_an_old_one_goes(tmp_path: Path) -> None:
    before = make_key(tmp_path, "/srv/keys/host", "-t", "ed25519")
    files = {
        "/etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\n",
        "/etc/ssh/sshd_config.d/50-site.conf": "HostKey /srv/keys/host\nHostCertificate /srv/keys/host-cert.pub\n"
        "HostCertificate /etc/passwd\n",
        "/srv/keys/host-cert.pub": "ssh-ed25519-cert-v01@openssh.com AAAA\n",
        "/etc/passwd": "root\n",
    }
    with guest_in(tmp_path, files) as guest:
        perform(TASK, guest)
        assert fingerprint(tmp_path, "/srv/keys/host") != before
        assert not guest.exists("/srv/keys/host-cert.pub")
        assert guest.exists("/etc/passwd")


def test_sshd_without_any_key_gets_those_that_its_configuration_names(tmp_path: Path) -> None:
    lines = "HostKey /etc/ssh/keys/my_rsa\nHostKey /etc/ssh/keys/my_ed25519\nHostKey /nowhere/rsa\n"
    with guest_in(tmp_path, {"/usr/sbin/sshd": "", "/etc/ssh/sshd_config": lines, "/etc/ssh/keys/x": ""}) as guest:
        perform(TASK, guest)
        assert fingerprint(tmp_path, "/etc/ssh/keys/my_rsa").endswith("(RSA)")
        assert fingerprint(tmp_path, "/etc/ssh/keys/my_ed25519").endswith("(ED25519)")
        assert not guest.exists("/etc/ssh/ssh_host_ed25519_key")
        assert not guest.exists("/nowhere")


@pytest.mark.row(155)
def test_dropbear_reads_its_new_keys_of_each_type(tmp_path: Path, cache: Path) -> None:
    tools = GuestTools.unpack(cache)
    program = f"{tools.root}/usr/bin/dropbearkey"
    paths = {kind: tmp_path / f"etc/dropbear/dropbear_{kind}_host_key" for kind in ("rsa", "ecdsa", "ed25519")}
    (tmp_path / "etc/dropbear").mkdir(parents=True)
    for kind, path in paths.items():
        tools.run(program, "-t", kind, "-f", str(path))
        path.chmod(0o600)
    put(tmp_path, {"/etc/dropbear/dropbear_dss_host_key": "old", "/etc/dropbear/authorized_keys": "kept"})
    before = {kind: tools.run(program, "-y", "-f", str(path)) for kind, path in paths.items()}
    with guest_in(tmp_path) as guest:
        perform(TASK, guest)
        after = {kind: tools.run(program, "-y", "-f", str(path)) for kind, path in paths.items()}
        assert not any(after[kind] == before[kind] for kind in paths)
        assert all(kind in after[kind] for kind in paths)
        assert {seen(guest, f"/etc/dropbear/{path.name}") for path in paths.values()} == {(0, 0, 0o600)}
        assert guest.list_directory("/etc/dropbear") == (
            "authorized_keys",
            *sorted(path.name for path in paths.values()),
        )


def test_a_guest_without_ssh_stays_as_it_is(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/etc/passwd": ""}) as guest:
        said = perform(TASK, guest)
        assert guest.list_directory("/etc") == ("passwd",)
        assert said.warnings == []


def test_sshd_without_its_configuration_is_worth_a_warning(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/usr/sbin/sshd": ""}) as guest:
        assert len(perform(TASK, guest).warnings) == 1


def test_no_private_key_is_left_in_the_helper(tmp_path: Path) -> None:
    make_key(tmp_path, "/etc/ssh/ssh_host_ed25519_key", "-t", "ed25519")
    before = set(Path("/run").iterdir())
    with guest_in(tmp_path) as guest:
        perform(TASK, guest)
    assert not {path for path in set(Path("/run").iterdir()) - before if path.name.startswith("snf-image-")}


def test_cloud_init_is_told_to_do_it(tmp_path: Path) -> None:
    before = make_key(tmp_path, "/etc/ssh/ssh_host_ed25519_key", "-t", "ed25519")
    with guest_in(tmp_path) as guest:
        guest.make_directory("/etc/cloud/cloud.cfg.d")
        perform(TASK, guest, CLOUD_INIT="yes")
        assert json.loads(text(guest, "/etc/cloud/cloud.cfg.d/98_snf-image-50DeleteSSHKeys.cfg")) == {
            "ssh_deletekeys": True
        }
        assert fingerprint(tmp_path, "/etc/ssh/ssh_host_ed25519_key") == before


@pytest.mark.parametrize("content", [b"", b"-----BEGIN OPENSSH PRIVATE KEY-----\n!!!\n", b"\x00\xff"])
def test_what_is_no_key_has_no_type(content: bytes) -> None:
    assert type_of_content(content) is None


def test_every_type_can_be_told_from_a_key_alone(tmp_path: Path) -> None:
    for kind in KeyType:
        make_key(tmp_path, f"/{kind}", "-t", kind)
        assert type_of_content((tmp_path / kind).read_bytes()) is kind


def test_the_same_deployment_done_again_leaves_its_keys_and_another_makes_its_own(tmp_path: Path) -> None:
    path = "/etc/ssh/ssh_host_ed25519_key"
    make_key(tmp_path, path, "-t", "ed25519")
    found = []
    with guest_in(tmp_path) as guest:
        for seed in ("a1" * 32, "a1" * 32, "b2" * 32):
            perform(TASK, guest, replace(JOB, seed=seed))
            found.append(fingerprint(tmp_path, path))
    assert found[0] == found[1] != found[2]
