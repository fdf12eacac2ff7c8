# SPDX-License-Identifier: GPL-2.0-or-later
"""Scripts for Windows' Setup: what an image has stays, ours is there once, and arguments arrive as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from snf_image_helper.guest import Guest
from snf_image_helper.windows.setup_scripts import (
    at_setup_complete,
    powershell,
    powershell_text,
    quoted,
    script,
    write_script,
)
from snf_image_shared.errors import GuestError
from unit.helper.command_lines import arguments, powershell_script, powershell_texts
from unit.helper.guest_trees import guest_in, put

PLACE = "Windows/Setup/Scripts/SetupComplete.cmd"
SPECIAL = st.sampled_from("\"'%^!&|<>()\\ \t`$,;=~*?@")
PRINTABLE = st.characters(min_codepoint=32, max_codepoint=126)


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return guest_in(tmp_path / "c")


def lines(guest: Guest) -> list[str]:
    content = Path(guest.root, PLACE).read_bytes()
    assert content.count(b"\r\n") == content.count(b"\n") == content.count(b"\r")
    return content.decode("ascii").split("\r\n")


@given(st.lists(st.text(SPECIAL | PRINTABLE, max_size=30), min_size=1, max_size=4))
@example(["%PATH%", "100%", "a\\", 'a\\"b', '"', "", "^", "!x!", "%%", "\\\\", '""'])
def test_an_argument_arrives_as_it_is_whatever_it_means_to_cmd(given_arguments: list[str]) -> None:
    line = " ".join(["net.exe", *(quoted(argument) for argument in given_arguments)])
    assert arguments(line) == ["net.exe", *given_arguments]


@given(st.text(max_size=200))
@example("' ; Remove-Item -Recurse C:\\ ; ‘’‚‛")
def test_any_text_goes_through_powershell_without_a_character_that_cmd_knows(text: str) -> None:
    line = powershell(f"$x={powershell_text(text)}")
    assert line.isascii()
    assert not set('"%^!&|<>()') & set(line)
    assert powershell_texts(powershell_script(line)) == [text]


def test_a_command_that_cmd_would_cut_is_refused() -> None:
    with pytest.raises(GuestError, match=r"more than cmd\.exe takes"):
        powershell("x" * 4000)


def test_without_one_setup_complete_is_made(guest: Guest) -> None:
    at_setup_complete(guest, "one.exe", "two.exe")
    assert lines(guest) == [
        "@echo off", "rem snf-image: begin", "one.exe", "two.exe", "rem snf-image: removal", "rem snf-image: end", "",
    ]  # fmt: skip


def test_what_removes_comes_behind_what_needs_it_whatever_was_said_first(guest: Guest) -> None:
    at_setup_complete(guest, "rmdir x", removal=True)
    at_setup_complete(guest, "x\\one.exe")
    assert lines(guest)[2:5] == ["x\\one.exe", "rem snf-image: removal", "rmdir x"]


@pytest.mark.row(158)
def test_a_line_is_there_once_and_a_second_run_changes_nothing(guest: Guest) -> None:
    for _ in range(2):
        at_setup_complete(guest, "one.exe")
        at_setup_complete(guest, "rmdir x", removal=True)
        before = Path(guest.root, PLACE).stat()
    at_setup_complete(guest, "one.exe", "one.exe")
    assert lines(guest).count("one.exe") == 1
    assert (Path(guest.root, PLACE).stat().st_mtime_ns, Path(guest.root, PLACE).stat().st_ino) == (
        before.st_mtime_ns, before.st_ino,
    )  # fmt: skip


@pytest.mark.parametrize(
    "own",
    [b"exit 0\r\n", b"@echo off\r\nrem M\xfcller\r\n", b"echo no end", b"a\nb\n", b"", b"rem snf-image: begin\r\n"],
    ids=["exit", "code-page", "no-end", "unix", "empty", "like-ours"],
)
def test_an_images_own_script_stays_behind_ours_byte_by_byte(guest: Guest, own: bytes) -> None:
    put(Path(guest.root), {PLACE: own})
    for _ in range(2):
        at_setup_complete(guest, "one.exe")
    content = Path(guest.root, PLACE).read_bytes()
    assert content.endswith(b"rem snf-image: end\r\n" + own)
    assert content.count(b"one.exe") == 1


def test_a_script_in_utf_16_is_refused(guest: Guest) -> None:
    put(Path(guest.root), {PLACE: "echo".encode("utf-16")})
    with pytest.raises(GuestError, match=r"SetupComplete\.cmd: is UTF-16, which cmd\.exe does not run"):
        at_setup_complete(guest, "one.exe")


def test_our_scripts_are_found_again_whatever_the_case_of_their_directory(guest: Guest) -> None:
    (Path(guest.root) / "WINDOWS/snfscripts").mkdir(parents=True)
    write_script(guest, "x.cmd", ("@echo off", "a"))
    assert (Path(guest.root) / "WINDOWS/snfscripts/x.cmd").read_bytes() == b"@echo off\r\na\r\n"
    assert script(guest, "x.cmd") == ("@echo off", "a")
    assert script(guest, "y.cmd") is None


@pytest.mark.parametrize("line", ["ü", "a\r\nb", "a\nb"])
def test_a_line_that_cmd_would_read_as_another_is_refused(guest: Guest, line: str) -> None:
    with pytest.raises(GuestError):
        write_script(guest, "x.cmd", (line,))
    with pytest.raises(GuestError):
        at_setup_complete(guest, line)
    assert list(Path(guest.root).rglob("*.cmd")) == []
