# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's users and groups."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper.users.accounts import User, find_user, owner_ids, parse_group, parse_passwd
from snf_image_shared.errors import GuestError
from unit.helper.guest_trees import guest_in

PASSWD = "root:x:0:0:root:/root:/bin/bash\n# note\n+::::::\nbroken\nuser:x:1000:1001:U,,,:/home/user:/bin/sh"
GROUP = "root:x:0:\nadmins:x:99:\nadm:x:4:user\n"
WORDS = st.text(st.characters(codec="utf-8", exclude_characters=":\n"), max_size=12)


@given(WORDS.filter(lambda name: name and name[0] not in "#+-"), st.integers(0, 0xFFFF_FFFE), WORDS)
def test_a_well_formed_line_reads_as_it_was_written(name: str, number: int, home: str) -> None:
    assert parse_passwd(f"{name}:x:{number}:{number}::{home}:\n") == (User(name, number, number, home),)
    assert parse_group(f"{name}:x:{number}:\n") == ((name, number),)


@given(st.text())
def test_no_text_breaks_the_parsers(content: str) -> None:
    parse_passwd(content)
    parse_group(content)


def test_lines_that_are_no_account_are_passed_over() -> None:
    assert [user.name for user in parse_passwd(PASSWD)] == ["root", "user"]


def test_the_first_of_two_equal_names_counts(tmp_path: Path) -> None:
    with guest_in(tmp_path, {"/etc/passwd": "u:x:1:1::/a:\nu:x:2:2::/b:\n"}) as guest:
        assert find_user(guest, "u").uid == 1


@pytest.mark.parametrize(
    ("owner", "group", "ids"),
    [(None, None, (0, 0)), ("user", "adm", (1000, 4)), ("1234", "0", (1234, 0)), ("", "", (0, 0))],
)
def test_names_and_numbers_are_those_of_the_guest(
    tmp_path: Path, owner: str | None, group: str | None, ids: tuple[int, int]
) -> None:
    with guest_in(tmp_path, {"/etc/passwd": PASSWD, "/etc/group": GROUP}) as guest:
        assert owner_ids(guest, owner, group) == ids


@pytest.mark.parametrize(
    ("owner", "group", "message"),
    [
        ("ghost", None, "the user 'ghost' is not in /etc/passwd"),
        (None, "ghost", "the group 'ghost' is not in /etc/group"),
        ("0; rm", None, "the user '0; rm' is not in"),
        ("4294967295", None, "is no user or group number"),
        ("root:x:0", None, "is not in /etc/passwd"),
    ],
)
def test_an_unknown_name_is_an_error_that_names_it(
    tmp_path: Path, owner: str | None, group: str | None, message: str
) -> None:
    with (
        guest_in(tmp_path, {"/etc/passwd": PASSWD, "/etc/group": GROUP}) as guest,
        pytest.raises(GuestError, match=message),
    ):
        owner_ids(guest, owner, group)
