# SPDX-License-Identifier: GPL-2.0-or-later
"""Configuration files against the real bash: what is accepted means the same there, and nothing ever runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from snf_image_host.configuration.assignments import Assignment, parse_assignments, read_assignments
from snf_image_shared.errors import ConfigurationError

CHARACTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from("\n\r\t '\"\\$`#~:;é!")
VALUES = st.text(CHARACTERS, max_size=30)
SNIPPETS = st.sampled_from(
    [
        *(
            "a",
            "Z9",
            " ",
            "\t",
            "\n",
            "\\",
            "'",
            '"',
            "$'",
            "#",
            "~",
            ":",
            ";",
            "=",
            "é",
            "\\\n",
            "\\'",
            '\\"',
            "\\\\",
            "$",
        ),
        *(
            "\\x41",
            "\\303\\251",
            "\\u00e9",
            "\\U1f600",
            "\\n",
            "\\q",
            "\\e",
            "\\?",
            "\\x",
            "\\777",
            "*",
            "{a,b}",
            "[",
            "!",
        ),
        *("&", "|", "<", ">", "(", ")", "`", "\r", "\x85", "\xa0", "export ", "A=", "\\c", "$(id)", "${B}", "-", "/"),
    ]
)
slow = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None, max_examples=100
)


def parse(text: str) -> dict[str, str]:
    return {found.name: found.value for found in parse_assignments(text, "snf-image.conf")}


def bash(text: str, *, locale: str = "C.UTF-8") -> str | None:
    """What a real shell makes of A; None when it does not assign it. It may not run, read or write anything."""
    script = 'unset A; eval "$1"; [ "${A+x}" ] && printf "%s." "$A"'
    done = subprocess.run(
        ["/bin/bash", "-r", "-c", script, "bash", text],
        capture_output=True,
        env={"LC_ALL": locale, "PATH": "/nonexistent", "HOME": "/home/somebody"},
        check=False,
        cwd="/",
    )
    found = done.stdout.decode("utf-8", "surrogateescape")
    return found[:-1] if found else None


def quoted_by_bash(how: str, value: str, locale: str) -> str:
    script = {
        "%q": 'printf "A=%q\\n" "$1"',
        "set": 'A=$1; set -- ""; set | grep -a -A1000000 "^A=" | sed "/^BASH=/,\\$d"',
    }[how]
    done = subprocess.run(
        ["/bin/bash", "-c", script, "bash", value],
        capture_output=True,
        env={"LC_ALL": locale, "PATH": os.defpath},
        check=True,
    )
    return done.stdout.decode("utf-8", "surrogateescape")


def double_quoted(value: str) -> str:
    return '"' + "".join(f"\\{letter}" if letter in '$`"\\' else letter for letter in value) + '"'


@given(VALUES)
def test_any_text_in_single_quotes_is_itself(value: str) -> None:
    quoted = value.replace("'", "'\\''")
    assert parse(f"A='{quoted}'\nB=1") == {"A": value, "B": "1"}


@slow
@given(VALUES)
def test_any_text_in_double_quotes_is_what_bash_makes_of_it(value: str) -> None:
    text = f"A={double_quoted(value)}"
    assert parse(text) == {"A": value}
    assert bash(text) == value


@pytest.mark.row(18, 34)
@slow
@pytest.mark.parametrize("how", ["%q", "set"])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@given(value=VALUES)
def test_what_bash_prints_of_a_variable_is_read_back(how: str, locale: str, value: str) -> None:
    assert parse(quoted_by_bash(how, value, locale))["A"] == value


@pytest.mark.row(34)
@slow
@given(st.lists(SNIPPETS, max_size=8).map("".join))
def test_what_is_accepted_means_the_same_to_bash(words: str) -> None:
    text = f"A={words}\n"
    try:
        mine = parse(text)
    except ConfigurationError:
        assume(False)
    assert mine.get("A") == bash(text)


@given(st.lists(st.characters(exclude_categories=[]) | SNIPPETS, max_size=60).map("".join))
def test_any_text_is_assignments_or_one_kind_of_error(text: str) -> None:
    try:
        parse(text)
    except ConfigurationError as error:
        assert str(error).startswith("snf-image.conf, line ")


@pytest.mark.row(34)
@pytest.mark.parametrize(
    "value",
    [
        *(
            "$(touch {0})",
            "`touch {0}`",
            '"$(touch {0})"',
            '"`touch {0}`"',
            "<(touch {0})",
            "x; touch {0}",
            "x && touch {0}",
        ),
        *("x | touch {0}", "x > {0}", "x\ntouch {0}", "(touch {0})", "$((a[$(touch {0})]))", "${{B:=$(touch {0})}}"),
        *('"${{B}}"', "$B", '"$B"', "x touch {0}", "x & touch {0}", "~/x", "x:~root", '$"x"', "(1 2)"),
    ],
)
def test_what_a_shell_would_run_or_expand_is_refused_and_never_run(value: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(ConfigurationError, match=r"^snf-image.conf, line [12]: "):
        parse(f"A={value.format(mark)}\n")
    assert not mark.exists()


@pytest.mark.row(34)
@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("# only\n  # comments\n\n", {}),
        ("A=1", {"A": "1"}),
        ("A=\nB=", {"A": "", "B": ""}),
        ("  A=1  # why\n\texport B=2\t\n", {"A": "1", "B": "2"}),
        ("A=1;B=2 ; C=3;# end\n", {"A": "1", "B": "2", "C": "3"}),
        ("A=1\nA=2", {"A": "2"}),
        ("A=a#b\nB=#c", {"A": "a#b", "B": "#c"}),
        ("A='a b'\"c d\"\\ e$'\\tf'g", {"A": "a bc d e\tfg"}),
        ("A='one\ntwo'\nB=3", {"A": "one\ntwo", "B": "3"}),
        ('A="a\\\nb"', {"A": "ab"}),
        ('A="a\\\\\nb"', {"A": "a\\\nb"}),
        ("A=a\\\nb", {"A": "ab"}),
        (r"A=$'\303\251\xc3\xa9\u00e9'", {"A": "ééé"}),
        (r"A=$'\501\7\x4z'", {"A": "A\7\4z"}),
        ("A=a~b:c", {"A": "a~b:c"}),
        ('DHCP_TAGS="auto dhcp"', {"DHCP_TAGS": "auto dhcp"}),
        (
            """IMG_PROPERTIES=$'{"OSFAMILY": "linux", "D": "it\\'s"}'""",
            {"IMG_PROPERTIES": '{"OSFAMILY": "linux", "D": "it\'s"}'},
        ),
    ],
)
def test_a_file_reads_as_a_shell_reads_it(text: str, values: dict[str, str]) -> None:
    assert parse(text) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=1\nB='x\n", r"line 2: .* in the value of B is an unfinished quote; write B='value'"),
        ("A=1\r\nB=2\r\n", "line 1: .* in the value of A is a Windows line end"),
        ("\n\nif true; then", "line 3: not an assignment"),
        ("A =1", "line 1: not an assignment"),
        ("A+=1", "line 1: not an assignment"),
        ("A=1;;", "line 1: not an assignment"),
        ("1A=1", "not an assignment"),
        (". /etc/other.conf", "not an assignment"),
        ("A='a\0b'", "A contains a NUL character"),
        (r"A=$'a\0b'", "A contains a NUL character"),
        (r"A=$'\ud800'", "is no character"),
        (r"A=$'\Uffffffff'", "is no character"),
        (r"A=$'\xg'", "is an escape that is not understood"),
    ],
)
def test_what_is_not_understood_is_refused_by_file_and_line(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "IMG_PASSWD = c4n4ry",
        "IMG_PASSWD_HASH=$6$c4n4ry$c4n4ry",
        'IMG_PASSWD_HASH="$6$c4n4ry$c4n4ry"',
        "IMG_PASSWD=c4n4ry c4n4ry",
        "IMG_PASSWD='a'c4n4ry'",
        "IMG_PASSWD='a'\nc4n4ry",
        "IMG_PASSWD=~c4n4ry",
        "IMG_PASSWD='c4n4ry\0'",
        "IMG_PASSWD=$'c4n4ry\\ud800'",
    ],
)
def test_a_mistake_does_not_show_the_password_that_it_is_made_in(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    assert "c4n4ry" not in str(caught.value)


def test_a_file_that_is_not_there_is_for_the_caller_to_judge(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_assignments(tmp_path / "none.conf")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"{tmp_path}: cannot be read: Is a directory"):
        read_assignments(tmp_path)


def test_a_file_of_another_kind_is_refused_by_its_size(tmp_path: Path) -> None:
    big = tmp_path / "big.conf"
    with big.open("wb") as file:
        file.truncate(5 << 20)
    with pytest.raises(ConfigurationError, match="is this a configuration file"):
        read_assignments(big)


def test_a_value_of_megabytes_is_read(tmp_path: Path) -> None:
    big = tmp_path / "big.conf"
    big.write_text('A="' + "x\\\\" * 1_000_000 + '"\n')
    assert read_assignments(big) == (Assignment("A", "x\\" * 1_000_000, 1),)


def test_an_assignment_knows_the_line_that_it_begins_on() -> None:
    found = parse_assignments("\n# x\nA='1\n2'; B=1\nC=3\nD=\n\n  export A=4", "x")
    assert [(each.name, each.line) for each in found] == [("A", 3), ("B", 4), ("C", 5), ("D", 6), ("A", 8)]


def test_a_value_is_not_in_what_python_shows_of_an_assignment() -> None:
    assert "c4n4ry" not in repr(parse_assignments("IMG_PASSWD=c4n4ry", "x"))


def test_bytes_that_are_no_text_come_back_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "x.conf"
    file.write_bytes(b"A='\xff\xfe'\nB=$'\\377'\n")
    assert {each.name: os.fsencode(each.value) for each in read_assignments(file)} == {
        "A": b"\xff\xfe",
        "B": b"\xff",
    }
