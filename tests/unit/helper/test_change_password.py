# SPDX-License-Identifier: GPL-2.0-or-later
"""ChangePassword on trees: the users' lines and keys, and nothing else."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper.accounts import User
from snf_image_helper.tasks.change_password import TASK, add_missing_keys, keys_path, parse_keys
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job, Secrets
from unit.helper.guest_trees import JOB, guest_in, perform, seen, text
from unit.helper.test_passwords import verifies

pytestmark = pytest.mark.root

PASSWD = "root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1001::/home/user:/bin/sh\n"
SHADOW = "daemon:*:1:0:99999:7:::\nroot:!:1:2:3:4:5:6:\nuser:$6$a$b:7:0:99999:7:::\n"
FILES = {"/etc/passwd": PASSWD, "/etc/shadow": SHADOW, "/etc/group": ""}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHQ me@home"
OTHER = 'from="192.0.2.1" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOt you'
SSHD = "/etc/ssh/sshd_config"


def with_password(password: str | None = "secret", hashed: str | None = None, keys: str | None = None) -> Job:
    return replace(JOB, secrets=Secrets(password, hashed, keys))


def test_only_the_hash_and_the_day_of_roots_line_change(tmp_path: Path) -> None:
    with guest_in(tmp_path, FILES) as guest:
        (tmp_path / "etc/shadow").chmod(0o640)
        said = perform(TASK, guest, with_password())
        lines = text(guest, "/etc/shadow").split("\n")
        fields = lines[1].split(":")
        assert verifies("secret", fields[1])
        assert abs(int(fields[2]) - time.time() / 86400) < 2
        lines[1] = ":".join(("root", "!", "1", *fields[3:]))
        assert "\n".join(lines) == SHADOW
        assert seen(guest, "/etc/shadow")[2] == 0o640
        assert said.warnings == ["The property USERS is not set: root is taken"]


def test_every_user_named_gets_the_password_with_a_salt_of_its_own(tmp_path: Path) -> None:
    with guest_in(tmp_path, FILES) as guest:
        perform(TASK, guest, with_password(), USERS="user root user")
        hashes = [line.split(":")[1] for line in text(guest, "/etc/shadow").split("\n")[1:3]]
        assert all(verifies("secret", hashed) for hashed in hashes)
        assert hashes[0] != hashes[1]


def test_an_empty_password_is_a_password(tmp_path: Path) -> None:
    with guest_in(tmp_path, FILES) as guest:
        assert TASK.skip(with_password("")) is None
        perform(TASK, guest, with_password(""), USERS="root")
        assert verifies("", text(guest, "/etc/shadow").split("\n")[1].split(":")[1])


@pytest.mark.parametrize("hashed", ["!", "", "*", "$y$j9T$x$y"])
def test_a_hash_is_put_verbatim(tmp_path: Path, hashed: str) -> None:
    with guest_in(tmp_path, FILES) as guest:
        perform(TASK, guest, with_password(None, hashed), USERS="root")
        assert f"\nroot:{hashed}:" in text(guest, "/etc/shadow")


def test_the_method_can_be_chosen(tmp_path: Path) -> None:
    with guest_in(tmp_path, FILES) as guest:
        perform(TASK, guest, with_password(), PASSWD_HASHING_METHOD="SHA256")
        assert "\nroot:$5$" in text(guest, "/etc/shadow")


def test_an_unknown_user_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    with guest_in(tmp_path, FILES) as guest:
        with pytest.raises(GuestError, match="the user 'ghost' is not in /etc/shadow"):
            perform(TASK, guest, with_password(), USERS="root ghost")
        assert text(guest, "/etc/shadow") == SHADOW


def test_a_guest_without_shadow_file_is_an_error(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/etc/passwd": PASSWD}) as guest, pytest.raises(GuestError, match="no /etc/shadow"):
        perform(TASK, guest, with_password())


def test_without_password_and_keys_it_has_a_reason_to_do_nothing() -> None:
    assert TASK.skip(JOB) == "neither a password, nor a hash, nor SSH keys are given"
    assert TASK.skip(with_password(None, None, " \n")) is not None


def test_keys_are_added_once_and_belong_to_the_user(tmp_path: Path) -> None:
    path = "/home/user/.ssh/authorized_keys"
    with guest_in(tmp_path, {**FILES, path: OTHER}) as guest:
        for _ in range(2):
            perform(TASK, guest, with_password(None, None, f"{KEY}\r\n\n# me\n{OTHER}\n"), USERS="user")
            assert text(guest, path) == f"{OTHER}\n{KEY}\n"
        assert seen(guest, path) == (1000, 1001, 0o600)
        assert seen(guest, "/home/user/.ssh") == (1000, 1001, 0o700)
        assert text(guest, "/etc/shadow") == SHADOW


def test_a_home_that_is_missing_is_made_without_giving_its_parents_away(tmp_path: Path) -> None:
    with guest_in(tmp_path, FILES) as guest:
        perform(TASK, guest, with_password(None, None, KEY), USERS="user")
        assert seen(guest, "/home") == (0, 0, 0o755)
        assert seen(guest, "/home/user") == (1000, 1001, 0o700)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("AuthorizedKeysFile .ssh/first .ssh/second", "/home/user/.ssh/first"),
        ("AuthorizedKeysFile %h/keys/%u", "/home/user/keys/user"),
        ("AuthorizedKeysFile /etc/ssh/keys/%u", "/etc/ssh/keys/user"),
        ("Match User user\nAuthorizedKeysFile /never", "/home/user/.ssh/authorized_keys"),
        ("", "/home/user/.ssh/authorized_keys"),
    ],
)
def test_keys_go_where_sshd_looks(tmp_path: Path, line: str, path: str) -> None:
    with guest_in(tmp_path, {**FILES, SSHD: f"{line}\n"}) as guest:
        perform(TASK, guest, with_password(None, None, KEY), USERS="user")
        assert text(guest, path) == f"{KEY}\n"


def test_a_shared_directory_of_keys_stays_roots(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**FILES, SSHD: "AuthorizedKeysFile /etc/ssh/keys/%u\n"}) as guest:
        perform(TASK, guest, with_password(None, None, KEY), USERS="user")
        assert seen(guest, "/etc/ssh/keys") == (0, 0, 0o755)
        assert seen(guest, "/etc/ssh/keys/user") == (1000, 1001, 0o600)


def test_keys_that_sshd_would_not_read_are_left_out_with_a_warning(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**FILES, SSHD: "AuthorizedKeysFile none\n"}) as guest:
        said = perform(TASK, guest, with_password(None, None, KEY), USERS="user")
        assert said.warnings == ["The guest's sshd_config says AuthorizedKeysFile none: no SSH key is added"]
        assert not guest.exists("/home")


def test_a_key_directory_that_is_a_link_stays_inside_and_its_target_keeps_its_owner(tmp_path: Path) -> None:
    with guest_in(tmp_path / "guest", FILES) as guest:
        guest.make_directory("/home/user")
        guest.symlink("/../..", "/home/user/.ssh")
        perform(TASK, guest, with_password(None, None, KEY), USERS="user")
        assert text(guest, "/authorized_keys") == f"{KEY}\n"
        assert seen(guest, "/")[:2] == (0, 0)
        assert [entry.name for entry in tmp_path.iterdir()] == ["guest"]


@pytest.mark.parametrize("keys", ["nokey", "ssh-rsa A\x1bB", "ssh-rsa " + "A" * 65536])
def test_what_is_no_key_is_refused(tmp_path: Path, keys: str) -> None:
    with guest_in(tmp_path, FILES) as guest, pytest.raises(GuestError, match="OS parameter auth_keys"):
        perform(TASK, guest, with_password(None, None, keys), USERS="user")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\r")), st.lists(st.sampled_from((KEY, OTHER))))
def test_adding_keys_keeps_what_was_there_and_is_done_once(old: str, keys: list[str]) -> None:
    added = add_missing_keys(old, parse_keys("\n".join(keys)))
    assert added.startswith(old)
    assert add_missing_keys(added, tuple(keys)) == added


def test_tokens_of_the_path_are_expanded_and_unknown_ones_refused() -> None:
    user = User("me", 7, 8, "/home/%u")
    assert keys_path("%h/%%%u-%U", user) == "/home/%u/%me-7"
    with pytest.raises(GuestError, match="uses %x"):
        keys_path("%x", user)
