# SPDX-License-Identifier: GPL-2.0-or-later
"""Old names and new ones: recognised as whole words, exchanged in their own style."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from snf_image_helper.linux.distros import Family
from snf_image_helper.linux.host_names import Renaming, is_host_name, places, renamed_hosts

OLD, NEW = "web1.example.com", "web2.example.org"
RENAMING = Renaming(OLD, NEW)
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        ("web1", "web2"),
        ("WEB1", "web2"),
        (OLD, NEW),
        ("Web1.Example.com.", NEW),
        ("web1.example", None),
        ("web1.other.org", None),
        ("web11", None),
        ("db", None),
        ("localhost", None),
        ("", None),
    ],
)
def test_a_guest_keeps_its_style_and_a_name_of_its_own(name: str, becomes: str | None) -> None:
    assert RENAMING.translated(name) == becomes


def test_an_instance_without_a_domain_that_gets_one_is_fully_qualified() -> None:
    assert Renaming("web1", NEW).translated("web1") == NEW
    assert renamed_hosts("127.0.1.1\tweb1\n", Renaming("web1", NEW)) == f"127.0.1.1\t{NEW} web2\n"


def test_a_name_that_linux_cannot_hold_becomes_its_short_form() -> None:
    long = "web2." + "sub." * 20 + "example.org"
    assert Renaming(OLD, long).translated(OLD) == "web2"
    assert renamed_hosts(f"127.0.1.1 {OLD} web1", Renaming(OLD, long)) == f"127.0.1.1 {long} web2"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("127.0.1.1\tweb1.example.com web1", "127.0.1.1\tweb2.example.org web2"),
        ("127.0.1.1   web1   # web1 was here", "127.0.1.1   web2   # web1 was here"),
        ("198.51.100.3 web1.example.com\tweb1 www", "198.51.100.3 web2.example.org\tweb2 www"),
        ("::1 localhost WEB1", "::1 localhost web2"),
        ("# 127.0.1.1 web1.example.com", "# 127.0.1.1 web1.example.com"),
        ("10.0.0.1 web1.other.org web11 myweb1 web1-old", "10.0.0.1 web1.other.org web11 myweb1 web1-old"),
        ("127.0.0.1 localhost", "127.0.0.1 localhost"),
        ("web1 web1", "web1 web2"),
        ("127.0.1.1 web1 web1.example.com\r", "127.0.1.1 web2 web2.example.org\r"),
        ("", ""),
    ],
)
def test_only_whole_names_of_a_line_of_hosts_are_exchanged(before: str, after: str) -> None:
    assert renamed_hosts(before, RENAMING) == after
    assert renamed_hosts(after, RENAMING) == after


def test_two_names_that_become_one_stand_on_the_line_once() -> None:
    assert renamed_hosts("127.0.1.1 web1.example.com web1 www", Renaming(OLD, "web2")) == "127.0.1.1 web2 www"


def test_an_instance_called_localhost_costs_no_guest_its_loopback() -> None:
    hosts = "127.0.0.1 localhost\n127.0.1.1 localhost.example.com\n"
    assert renamed_hosts(hosts, Renaming("localhost.example.com", NEW)) == (f"127.0.0.1 localhost\n127.0.1.1 {NEW}\n")
    assert Renaming("localhost.example.com", NEW).translated("localhost") is None


@pytest.mark.parametrize(
    ("family", "path", "text", "name"),
    [
        (Family.DEBIAN, "/etc/hostname", "\n # comment\n  web1 # more\nweb9\n", "web1"),
        (Family.DEBIAN, "/etc/hostname", "# nothing\n", ""),
        (Family.REDHAT, "/etc/sysconfig/network", "HOSTNAME=a\n#HOSTNAME=b\nHOSTNAME='web1'\n", "web1"),
        (Family.REDHAT, "/etc/sysconfig/network", "DHCP_HOSTNAME=a\n", ""),
        (Family.GENTOO, "/etc/conf.d/hostname", 'hostname="web1" # x\n', "web1"),
        (Family.ARCH, "/etc/rc.conf", "HOSTNAME=web1;\n", "web1"),
    ],
)
def test_the_name_that_counts_is_found(family: Family, path: str, text: str, name: str) -> None:
    (place,) = [place for place in places(family) if place.path == path]
    assert place.name(text) == name
    assert place.renamed(text, RENAMING) == text.replace("web1", "web2")


@given(
    lines=st.lists(st.text(alphabet=st.sampled_from("ab.-1 \t#\r"), max_size=30), max_size=6),
    old=NAME,
    new=NAME,
)
def test_a_second_time_changes_nothing_and_no_other_word_is_touched(lines: list[str], old: str, new: str) -> None:
    assume(not {old, old.partition(".")[0]} & {new, new.partition(".")[0]})
    before, renaming = "\n".join(lines), Renaming(old, new)
    after = renamed_hosts(before, renaming)
    assert renamed_hosts(after, renaming) == after
    touched = {old, old.partition(".")[0], new, new.partition(".")[0], f"{old}.", f"{old.partition('.')[0]}."}
    kept = [word for word in re.split(r"[ \t\r\n]+", before) if word.partition("#")[0] not in touched]
    left = [word for word in re.split(r"[ \t\r\n]+", after) if word.partition("#")[0] not in touched]
    assert left == kept


@given(st.text(max_size=80))
def test_what_may_be_written_into_a_file_of_the_shell_is_a_plain_word(text: str) -> None:
    if is_host_name(text):
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", text, re.ASCII)
        assert "\n" not in text
