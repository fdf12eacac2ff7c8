# SPDX-License-Identifier: GPL-2.0-or-later
"""Hashes are what crypt(3) verifies, and shadow(5) changes in nothing but the user's hash and day."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper.users.passwords import (
    ENTROPY,
    Method,
    change_shadow,
    check_hash,
    hash_password,
    method_of,
    parse_method,
)
from snf_image_shared.errors import GuestError
from unit.helper.guest_trees import guest_in

FIELDS = st.text(st.characters(codec="utf-8", exclude_characters=":\n"), max_size=8)
LINES = st.lists(FIELDS, min_size=1, max_size=10).map(":".join)
# Perl's crypt is the C library's: another program judges what we made.
VERIFY = "chomp(my $p = <STDIN>); chomp(my $h = <STDIN>); exit(crypt($p, $h) eq $h ? 0 : 1)"


def verifies(password: str, hashed: str) -> bool:
    lines = f"{password}\n{hashed}\n".encode()
    return subprocess.run(["perl", "-e", VERIFY], input=lines, check=False).returncode == 0


@pytest.mark.row(148, 149)
@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize("password", ["", "secret", "-x 'y\" $(z):\\", "κωδικός", "p" * 72])
def test_crypt_verifies_the_hash(method: Method, password: str) -> None:
    hashed = hash_password(password, method)
    assert verifies(password, hashed)
    assert not verifies(password[1:] + "no", hashed)
    assert check_hash(hashed) == hashed


def test_two_hashes_of_one_password_differ() -> None:
    assert hash_password("secret", Method.SHA512) != hash_password("secret", Method.SHA512)


@pytest.mark.parametrize("password", ["a\0b", "a\nb", "a\rb", "x" * 512])
def test_what_crypt_would_cut_or_nobody_can_type_is_refused(password: str) -> None:
    with pytest.raises(GuestError, match="OS parameter img_passwd") as caught:
        hash_password(password, Method.SHA512)
    assert password not in str(caught.value)


@pytest.mark.parametrize("hashed", ["", "!", "*", "!!", "$y$j9T$salt$hash", "$6$rounds=5000$a$b"])
def test_a_hash_is_taken_verbatim(hashed: str) -> None:
    assert check_hash(hashed) == hashed


@pytest.mark.parametrize("hashed", ["a:b", "a\nroot::0:0:::::", "a b", "\x1b", "é", "x" * 513])
def test_a_hash_that_would_break_the_file_is_refused(hashed: str) -> None:
    with pytest.raises(GuestError, match="OS parameter img_passwd_hash"):
        check_hash(hashed)


@pytest.mark.parametrize("name", ["sha1", "des", "", "$6$"])
def test_methods_that_linux_does_not_know_are_refused(name: str) -> None:
    with pytest.raises(GuestError, match="PASSWD_HASHING_METHOD"):
        parse_method(name)


@pytest.mark.parametrize(
    ("login_defs", "shadow", "method"),
    [
        (None, "root:*:1::::::\n", Method.SHA512),
        (None, "root:*:1::::::\nu:$y$j9T$a$b:1::::::\n", Method.YESCRYPT),
        ("ENCRYPT_METHOD YESCRYPT\n", "", Method.YESCRYPT),
        ("# ENCRYPT_METHOD YESCRYPT\nENCRYPT_METHOD SHA512\n", "u:$y$j9T$a$b:1::::::\n", Method.SHA512),
    ],
)
def test_the_method_is_the_one_the_guest_uses(
    tmp_path: Path, login_defs: str | None, shadow: str, method: Method
) -> None:
    with guest_in(tmp_path, {} if login_defs is None else {"/etc/login.defs": login_defs}) as guest:
        assert method_of(guest, shadow) is method


YESCRYPT = {"/etc/login.defs": "ENCRYPT_METHOD YESCRYPT\n"}


@pytest.mark.parametrize(
    ("files", "method"),
    [
        ({"/usr/lib64/libcrypt.so.1": "glibc: $1$ $5$ $6$"}, Method.SHA512),
        ({"/usr/lib/x86_64-linux-gnu/libcrypt.so.1": "libxcrypt: $gy$\0$y$\0$6$"}, Method.YESCRYPT),
        ({"/usr/lib/libcrypt.so.2": "libxcrypt: $y$", "/usr/lib/libcrypt.so.2.0.0.hmac": ""}, Method.YESCRYPT),
        ({"/lib/ld-musl-x86_64.so.1": ""}, Method.SHA512),
        ({}, Method.YESCRYPT),
    ],
    ids=["glibc", "Debian", "Arch", "musl", "nothing to look into"],
)
def test_what_the_guests_library_cannot_verify_is_not_used(
    tmp_path: Path, files: dict[str, str], method: Method
) -> None:
    with guest_in(tmp_path, {**YESCRYPT, **files}) as guest:
        assert method_of(guest, "") is method


def test_this_machines_own_library_is_told_from_one_that_lacks_yescrypt(tmp_path: Path) -> None:
    library = next(Path("/usr/lib").glob("*-linux-gnu/libcrypt.so.1"))
    with guest_in(tmp_path, {**YESCRYPT, "/lib64/libcrypt.so.1": library.read_bytes()}) as guest:
        assert method_of(guest, "") is Method.YESCRYPT


def test_suse_has_its_default_elsewhere(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/usr/etc/login.defs": "ENCRYPT_METHOD yescrypt\n"}) as guest:
        assert method_of(guest, "") is Method.YESCRYPT


def test_pam_says_it_where_login_defs_does_not(tmp_path: Path) -> None:
    lines = "# password x pam_unix.so yescrypt\npassword\t[success=1 default=ignore]\tpam_unix.so obscure yescrypt\n"
    with guest_in(tmp_path, {"/etc/pam.d/common-password": lines}) as guest:
        assert method_of(guest, "") is Method.YESCRYPT


def test_one_entropy_makes_one_salt() -> None:
    assert hash_password("secret", Method.SHA512, b"x" * ENTROPY) == hash_password(
        "secret", Method.SHA512, b"x" * ENTROPY
    )


@given(st.lists(LINES), st.integers(0, 8), st.integers(0, 30000))
def test_nothing_but_the_users_line_changes(others: list[str], position: int, today: int) -> None:
    kept = [line for line in others if line.split(":")[0] != "root"]
    lines = [*kept[:position], "root:old:1:2:3:4:5:6:7", *kept[position:]]
    changed = change_shadow("\n".join(lines), "root", "new", today)
    lines[lines.index("root:old:1:2:3:4:5:6:7")] = f"root:new:{max(today, 1)}:2:3:4:5:6:7"
    assert changed == "\n".join(lines)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("root:x", "root:H:20000::::::"),
        ("root:x:1:0:99999:7:::", "root:H:20000:0:99999:7:::"),
        ("root:x:1:0:99999:7:::\n", "root:H:20000:0:99999:7:::\n"),
        ("root:x:", "root:H:20000::::::"),
        ("root::0:0:::::\nroot:y:1::::::", "root:H:20000:0:::::\nroot:H:20000::::::"),
    ],
)
def test_damaged_short_and_doubled_lines_still_end_with_the_new_hash(before: str, after: str) -> None:
    assert change_shadow(before, "root", "H", 20000) == after


def test_a_user_without_a_line_is_not_added() -> None:
    assert change_shadow("rooty:x:1::::::\nxroot:x:1::::::\n", "root", "H", 1) is None
