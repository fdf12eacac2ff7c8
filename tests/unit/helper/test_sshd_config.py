# SPDX-License-Identifier: GPL-2.0-or-later
"""sshd_config(5) read as sshd itself reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper.users.sshd_config import parse_line, settings
from snf_image_shared.errors import GuestError
from unit.helper.disk_images import sh
from unit.helper.guest_tools import GuestTools
from unit.helper.guest_trees import guest_in

pytestmark = pytest.mark.root

MAIN = "/etc/ssh/sshd_config"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ()),
        ("  # AuthorizedKeysFile none", ()),
        ("AuthorizedKeysFile .ssh/a .ssh/b # why", ("AuthorizedKeysFile", ".ssh/a", ".ssh/b")),
        ("\tHostKey=/etc/ssh/k", ("HostKey", "/etc/ssh/k")),
        ('HostKey = "/etc/my keys/k"', ("HostKey", "/etc/my keys/k")),
    ],
)
def test_lines_are_split_as_by_sshd(line: str, words: tuple[str, ...]) -> None:
    assert parse_line(line) == words


@given(st.text())
def test_no_line_breaks_the_parser(line: str) -> None:
    parse_line(line)


def test_a_drop_in_that_is_included_first_comes_first(tmp_path: Path) -> None:
    files = {
        MAIN: "Include /etc/ssh/sshd_config.d/*.conf\nAuthorizedKeysFile main\n",
        "/etc/ssh/sshd_config.d/20-b.conf": "authorizedkeysfile b\n",
        "/etc/ssh/sshd_config.d/10-a.conf": "AUTHORIZEDKEYSFILE a\n",
        "/etc/ssh/sshd_config.d/ignored": "AuthorizedKeysFile ignored\n",
    }
    with guest_in(tmp_path, files) as guest:
        assert settings(guest, "AuthorizedKeysFile") == (("a",), ("b",), ("main",))


def test_match_blocks_are_left_out_to_the_end_of_their_file_only(tmp_path: Path) -> None:
    files = {
        MAIN: "Include d/x\nAuthorizedKeysFile after\nMatch User git\n AuthorizedKeysFile /git\n",
        "/etc/ssh/d/x": "Match all\nAuthorizedKeysFile matched\n",
    }
    with guest_in(tmp_path, files) as guest:
        assert settings(guest, "AuthorizedKeysFile") == (("after",),)


def test_a_file_that_includes_itself_comes_to_an_end(tmp_path: Path) -> None:
    with guest_in(tmp_path, {MAIN: "Include /etc/ssh/*\nHostKey /k\n"}) as guest:
        assert ("/k",) in settings(guest, "HostKey")


@pytest.mark.row(198)
@pytest.mark.parametrize(
    "files",
    [
        {MAIN: "Include /etc/ssh/*\n" * 3},
        {MAIN: "Include x\n" * 8, "/etc/ssh/x": "a\n" * 100_000},
        {MAIN: "Include x/*\n" * 10_000},
        {MAIN: "a\n" * (1 << 20)},
    ],
)
def test_a_configuration_without_end_is_refused(tmp_path: Path, files: dict[str, str]) -> None:
    with guest_in(tmp_path, files) as guest, pytest.raises(GuestError, match="/etc/ssh: sshd's configuration has more"):
        settings(guest, "HostKey")


def test_sshd_itself_agrees(tmp_path: Path, cache: Path) -> None:
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key"))
    lines = (
        f'HostKey "{tmp_path}/key"\nAuthorizedKeysFile=.ssh/one .ssh/two # both\n'
        "AuthorizedKeysFile never\nMatch User git\n    AuthorizedKeysFile none\n"
    )
    passwd = Path("/etc/passwd").read_text() + "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
    with guest_in(tmp_path / "root", {MAIN: lines, "/etc/passwd": passwd}) as guest:
        ours = settings(guest, "AuthorizedKeysFile")[0]
    script = f'mkdir /run/sshd; "$(command -v sshd)" -T -f {MAIN}'
    said = GuestTools.unpack(cache).run_in_room(script, tmp_path / "root/etc", tmp_path / "room", {})
    assert f"authorizedkeysfile {' '.join(ours)}" in said.splitlines()
