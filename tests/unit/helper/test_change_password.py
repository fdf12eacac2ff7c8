# SPDX-License-Identifier: GPL-2.0-or-later
"""ChangePassword on trees: the users' lines and keys, and nothing else."""

from __future__ import annotations

import base64
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper.tasks.change_password import TASK
from snf_image_helper.users.accounts import User
from snf_image_helper.users.authorized_keys import keys_path
from snf_image_helper.users.public_keys import parse_keys, with_keys
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job, Secrets
from unit.helper.disk_images import sh
from unit.helper.guest_trees import JOB, guest_in, perform, seen, text
from unit.helper.test_passwords import verifies

pytestmark = pytest.mark.root

PASSWD = "root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1001::/home/user:/bin/sh\n"
SHADOW = "daemon:*:1:0:99999:7:::\nroot:!:1:2:3:4:5:99999:\nuser:$6$a$b:7:0:99999:7:::\n"
FILES = {"/etc/passwd": PASSWD, "/etc/shadow": SHADOW, "/etc/group": ""}
BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIHQqdXO3qBz5UZuPsHuRkYQmqAWQWyRW1rYVOTjPPUZW"
KEY = f"ssh-ed25519 {BLOB} me@home"
OTHER = (
    'from="192.0.2.1",command="echo \\"a b\\"" '
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFBW3Qw8OZQ3xN1yqF0G7q9m2YtYz7mBZ8q0nqXKkq0L you"
)
SSHD = "/etc/ssh/sshd_config"


def with_password(password: str | None = "secret", hashed: str | None = None, keys: str | None = None) -> Job:
    return replace(JOB, secrets=Secrets(password, hashed, keys))


@pytest.mark.row(148, 153)
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


@pytest.mark.row(153)
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


@pytest.mark.row(150)
@pytest.mark.parametrize("hashed", ["!", "", "*", "$y$j9T$x$y"])
def test_a_hash_is_put_verbatim(tmp_path: Path, hashed: str) -> None:
    with guest_in(tmp_path, FILES) as guest:
        perform(TASK, guest, with_password(None, hashed), USERS="root")
        assert f"\nroot:{hashed}:" in text(guest, "/etc/shadow")


def test_the_method_can_be_chosen(tmp_path: Path) -> None:
    with guest_in(tmp_path, FILES) as guest:
        perform(TASK, guest, with_password(), PASSWD_HASHING_METHOD="SHA256")
        assert "\nroot:$5$" in text(guest, "/etc/shadow")


@pytest.mark.row(152)
def test_an_unknown_user_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    with guest_in(tmp_path, FILES) as guest:
        with pytest.raises(GuestError, match="the user 'ghost' is not in /etc/shadow"):
            perform(TASK, guest, with_password(), USERS="root ghost")
        assert text(guest, "/etc/shadow") == SHADOW


def test_a_guest_without_shadow_file_is_an_error(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/etc/passwd": PASSWD}) as guest, pytest.raises(GuestError, match="no /etc/shadow"):
        perform(TASK, guest, with_password())


@pytest.mark.row(151)
def test_without_password_and_keys_it_has_a_reason_to_do_nothing() -> None:
    assert TASK.skip(JOB) == "neither a password, nor a hash, nor SSH keys are given"
    assert TASK.skip(with_password(None, None, " \n")) is not None


@pytest.mark.row(154)
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


@pytest.mark.row(154)
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


@pytest.mark.row(154)
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


@pytest.mark.row(154)
@pytest.mark.parametrize(
    "line",
    [
        "nokey",
        "ssh-ed25519",
        "ssh-rsa A\x1bB",
        "ssh-rsa " + "A" * 65536,
        f"ssh-rsa {BLOB}",  # the type is another
        f"ssh-ed25519 {BLOB[:-4]}",  # cut off
        f"ssh-ed25519 {BLOB[:-1]}",  # no base64
        f"ssh-ed25519{BLOB}",
        f'command="x ssh-ed25519 {BLOB}',  # the quotation has no end
        f"from=a b ssh-ed25519 {BLOB}",
        "ssh-rsa AAAAB3NzaC1yc2E=",  # a type, and no numbers
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_what_is_no_key_is_refused_by_its_line_and_nothing_is_written(tmp_path: Path, line: str) -> None:
    with guest_in(tmp_path, FILES) as guest:
        with pytest.raises(GuestError, match="OS parameter auth_keys: line 3 is no public key"):
            perform(TASK, guest, with_password("secret", None, f"# mine\n{KEY}\n{line}\n"), USERS="user")
        assert guest.changed == set()


@pytest.mark.parametrize(
    "kind", [("ed25519",), ("ecdsa",), ("ecdsa", "-b", "521"), ("rsa", "-b", "1024")], ids="-".join
)
def test_every_key_that_ssh_keygen_makes_is_one(tmp_path: Path, kind: tuple[str, ...]) -> None:
    sh("ssh-keygen", "-q", "-N", "", "-C", "a comment", "-f", str(tmp_path / "key"), "-t", *kind)
    line = (tmp_path / "key.pub").read_text().strip()
    (key,) = parse_keys(f'no-pty,command="a b" {line}\n')
    assert key.options == 'no-pty,command="a b"'
    assert key.blob == base64.b64decode(line.split()[1])


LINES = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"))


@given(LINES, st.lists(st.sampled_from((KEY, OTHER))))
def test_adding_keys_keeps_what_was_there_and_is_done_once(old: str, keys: list[str]) -> None:
    wanted = parse_keys("\n".join(keys))
    added = with_keys(old, wanted)
    assert added.startswith(old)
    assert [line for line in added.removeprefix(old).split("\n") if line] == list(dict.fromkeys(keys))
    assert with_keys(added, wanted) == added


@given(st.text())
def test_no_text_breaks_the_parser_of_keys(text: str) -> None:
    with suppress(GuestError):
        parse_keys(text)


@pytest.mark.row(154)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"ssh-ed25519 {BLOB} of old\n", f"ssh-ed25519 {BLOB} of old\n"),
        (f"x\n ssh-ed25519 {BLOB}\ny", f"x\n ssh-ed25519 {BLOB}\ny"),
        (f'command="echo no" ssh-ed25519 {BLOB} of old\ny\n', f"{KEY}\ny\n"),
        (f"# ssh-ed25519 {BLOB}", f"# ssh-ed25519 {BLOB}\n{KEY}\n"),
    ],
    ids=["another comment", "in the middle", "other options", "commented out"],
)
def test_a_key_stands_once_whatever_its_comment_with_the_options_that_are_asked_for(
    tmp_path: Path, before: str, after: str
) -> None:
    path = "/home/user/.ssh/authorized_keys"
    with guest_in(tmp_path, {**FILES, path: before}) as guest:
        perform(TASK, guest, with_password(None, None, KEY), USERS="user")
        assert text(guest, path) == after


def test_a_key_in_another_file_that_sshd_reads_is_not_added_again(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**FILES, "/home/user/.ssh/authorized_keys2": f"{KEY}\n"}) as guest:
        perform(TASK, guest, with_password(None, None, f"{KEY}\n{OTHER}"), USERS="user")
        assert text(guest, "/home/user/.ssh/authorized_keys") == f"{OTHER}\n"


def test_keys_go_into_the_users_own_file_rather_than_into_everybodys(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**FILES, SSHD: "AuthorizedKeysFile /etc/ssh/all /etc/ssh/keys/%U\n"}) as guest:
        said = perform(TASK, guest, with_password(None, None, KEY), USERS="user")
        assert text(guest, "/etc/ssh/keys/1000") == f"{KEY}\n"
        assert not guest.exists("/etc/ssh/all")
        assert said.warnings == []


def test_a_file_that_opens_all_accounts_is_worth_a_warning_and_stays_roots(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**FILES, SSHD: "AuthorizedKeysFile /etc/ssh/all\n"}) as guest:
        said = perform(TASK, guest, with_password(None, None, KEY), USERS="user")
        assert said.warnings == ["The guest's sshd reads /etc/ssh/all for every user: the keys open all accounts"]
        assert seen(guest, "/etc/ssh/all") == (0, 0, 0o644)


def test_a_drop_in_that_comes_first_counts(tmp_path: Path) -> None:
    files = {
        SSHD: "Include /etc/ssh/sshd_config.d/*.conf\nAuthorizedKeysFile .ssh/authorized_keys\n",
        "/etc/ssh/sshd_config.d/50-site.conf": "AuthorizedKeysFile /etc/ssh/keys/%u\n",
    }
    with guest_in(tmp_path, {**FILES, **files}) as guest:
        perform(TASK, guest, with_password(None, None, KEY), USERS="user")
        assert text(guest, "/etc/ssh/keys/user") == f"{KEY}\n"


@pytest.mark.row(152)
@pytest.mark.parametrize(
    ("job", "users", "complaint"),
    [
        ((None, None, KEY), "user ghost", "the user 'ghost' is not in /etc/passwd"),
        (("secret", None, KEY), "user daemon", "the user 'daemon' is not in /etc/passwd"),
        (("secret", None, None), "user nobody", "the user 'nobody' is not in /etc/shadow"),
        (("secret", None, None), "root:x:0", "property USERS: 'root:x:0' is no user name"),
        (("secret", None, None), "../../x", "property USERS: '../../x' is no user name"),
    ],
)
def test_whoever_is_missing_is_told_before_anything_is_written_for_anybody(
    tmp_path: Path, job: tuple[str | None, str | None, str | None], users: str, complaint: str
) -> None:
    with guest_in(tmp_path, FILES) as guest:
        with pytest.raises(GuestError, match=complaint):
            perform(TASK, guest, with_password(*job), USERS=users)
        assert guest.changed == set()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("user:x:1000:1001::/home/user:/usr/sbin/nologin", "its shell /usr/sbin/nologin lets nobody in"),
        ("", "it has no account in /etc/passwd"),
        (
            "user::1000:1001::/home/user:/bin/sh",
            "its line in /etc/passwd has no x, so that PAM does not look into /etc/shadow",
        ),
    ],
)
def test_an_account_that_lets_nobody_in_is_worth_a_warning(tmp_path: Path, line: str, problem: str) -> None:
    with guest_in(tmp_path, {**FILES, "/etc/passwd": f"root:x:0:0::/root:/bin/sh\n{line}\n"}) as guest:
        said = perform(TASK, guest, with_password(), USERS="user")
        assert [warning.partition(";")[0] for warning in said.warnings] == [
            f"The password of 'user' is set, but {problem}"
        ]


@pytest.mark.parametrize(
    ("config", "hashed", "warns"),
    [
        ("#UsePAM no\n", None, True),
        ("UsePAM=Yes\nUsePAM no\n", None, False),
        ("", "*", False),
        ("", "!", True),
    ],
)
def test_keys_of_a_locked_account_open_nothing_without_pam(
    tmp_path: Path, config: str, hashed: str | None, warns: bool
) -> None:
    with guest_in(tmp_path, {**FILES, SSHD: config}) as guest:
        said = perform(TASK, guest, with_password(None, hashed, KEY), USERS="root user")
        told = [warning for warning in said.warnings if "locked in /etc/shadow" in warning]
        assert ["'root'" in warning for warning in told] == [True][:warns] + [False][: hashed == "!"]


def test_an_account_that_has_expired_is_worth_a_warning(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**FILES, "/etc/shadow": "user:!:1:0:99999:7::15000:\n"}) as guest:
        assert "the account has expired (day 15000" in perform(TASK, guest, with_password(), USERS="user").warnings[0]


def test_a_hash_that_the_guests_library_does_not_know_is_worth_a_warning(tmp_path: Path) -> None:
    with guest_in(tmp_path, {**FILES, "/lib/ld-musl-x86_64.so.1": ""}) as guest:
        said = perform(TASK, guest, with_password(None, "$y$j9T$a$b"), USERS="root")
        assert "knows no yescrypt" in said.warnings[0]


def test_done_again_for_one_deployment_it_writes_nothing(tmp_path: Path) -> None:
    job = replace(with_password("secret", None, KEY), seed="a5" * 32)
    with guest_in(tmp_path, FILES) as guest:
        perform(TASK, guest, job, USERS="root user")
        before = {path: path.lstat().st_ctime_ns for path in tmp_path.rglob("*")}
        perform(TASK, guest, job, USERS="root user")
        assert {path: path.lstat().st_ctime_ns for path in tmp_path.rglob("*")} == before


def test_tokens_of_the_path_are_expanded_and_unknown_ones_refused() -> None:
    user = User("me", 7, 8, "/home/%u")
    assert keys_path("%h/%%%u-%U", user) == "/home/%u/%me-7"
    with pytest.raises(GuestError, match="uses %x"):
        keys_path("%x", user)


@pytest.mark.parametrize(
    ("job", "users", "complaint"),
    [
        ((None, None, "ssh-rsa x"), "root", "OS parameter auth_keys: line 1 is no public key"),
        ((None, "a:b", None), "root", "OS parameter img_passwd_hash"),
        (("secret", None, None), "a/b", "property USERS: 'a/b' is no user name"),
    ],
)
def test_what_no_guest_could_take_is_refused_in_the_plan(
    job: tuple[str | None, str | None, str | None], users: str, complaint: str
) -> None:
    with pytest.raises(GuestError, match=complaint):
        TASK.skip(replace(with_password(*job), properties={"USERS": users}))
