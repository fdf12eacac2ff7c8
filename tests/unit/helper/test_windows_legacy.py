# SPDX-License-Identifier: GPL-2.0-or-later
"""sysprep.inf of XP and 2003, and the INI files that it is one of: changed line by line, at their end our scripts."""

from __future__ import annotations

import configparser
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper.guest import Guest
from snf_image_helper.windows import sysprep_inf
from snf_image_helper.windows.ini_file import IniFile
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Secrets
from unit.helper.disk_images import Listener
from unit.helper.guest_trees import JOB, put
from unit.helper.windows_guests import XP, snapshot, windows_guest

PATH = "sysprep/sysprep.inf"
NO_SECRETS = Secrets()


def base64(text: str, encoding: str = "ascii") -> str:
    return b64encode(text.encode(encoding)).decode()


GIVEN = base64("[UserData]\r\nFullName=Given\r\n")
OWN = b'; mine\r\n[UserData]\r\n  FullName = "Me; too" ; note\r\ncomputername=OLD\r\n\r\n[Empty]\r\n'


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return windows_guest(tmp_path / "c", XP)


def install(guest: Guest, secrets: Secrets = NO_SECRETS, **properties: str) -> list[str]:
    listener = Listener()
    sysprep_inf.install(guest, replace(JOB, secrets=secrets, properties=properties), listener.reporter)
    return listener.warnings


def answers(guest: Guest) -> dict[str, dict[str, str]]:
    """As another reader of such files sees it."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read_string(Path(guest.root, PATH).read_text(encoding="ascii"))
    return {name: dict(parser[name]) for name in parser.sections()}


def test_without_an_answer_file_one_that_leaves_no_question_open_is_written(guest: Guest) -> None:
    assert install(guest) == []
    assert answers(guest) == {
        "Unattended": {"OemSkipEula": "Yes", "InstallFilesPath": "C:\\sysprep\\i386"},
        "GuiUnattended": {"OEMSkipRegional": "1", "OemSkipWelcome": "1", "TimeZone": "90"},
        "UserData": {"FullName": "User", "OrgName": "Organization", "ComputerName": "*"},
        "Identification": {"JoinWorkgroup": "WORKGROUP"},
        "Networking": {"InstallDefaultComponents": "Yes"},
    }


def test_the_images_own_is_kept_with_a_warning(guest: Guest) -> None:
    put(Path(guest.root), {PATH: OWN})
    told = install(guest, Secrets(node_answer_file=base64("[UserData]\n")))
    assert told == ["The image's own answer file /sysprep/sysprep.inf is kept; IGNORE_UNATTEND=yes would replace it"]
    assert Path(guest.root, PATH).read_bytes() == OWN + b"\r\n[Unattended]\r\nInstallFilesPath=C:\\sysprep\\i386\r\n"


def test_the_users_takes_the_place_of_the_images_own(guest: Guest) -> None:
    put(Path(guest.root), {PATH: OWN})
    install(guest, Secrets(answer_file=GIVEN))
    assert answers(guest)["UserData"] == {"FullName": "Given"}


def test_where_it_is_to_be_ignored_ours_takes_its_place_and_not_the_nodes_which_is_xml(guest: Guest) -> None:
    put(Path(guest.root), {PATH: OWN})
    install(guest, Secrets(node_answer_file=base64("<unattend/>")), IGNORE_UNATTEND="yes")
    assert answers(guest)["UserData"]["FullName"] == "User"


@pytest.mark.row(39)
@pytest.mark.parametrize(
    ("zone", "index"), [("GTB Standard Time", "130"), ("Dateline Standard Time", "000"), ("Yukon Standard Time", "90")]
)
def test_ours_has_the_nodes_time_zone_by_its_index_if_it_had_one(guest: Guest, zone: str, index: str) -> None:
    sysprep_inf.install(guest, replace(JOB, windows_timezone=zone), Listener().reporter)
    assert answers(guest)["GuiUnattended"]["TimeZone"] == index


def test_the_scripts_run_when_mini_setup_is_done(guest: Guest) -> None:
    install(guest)
    commands = Path(guest.root, "sysprep/i386/$OEM$/cmdlines.txt").read_text()
    assert commands == (
        "[Commands]\n"
        '"cmd.exe /c C:\\WINDOWS\\SnfScripts\\ChangeAdminPassword.cmd"\n'
        '"cmd.exe /c C:\\WINDOWS\\Setup\\Scripts\\SetupComplete.cmd"\n'
    )


def test_the_images_own_commands_run_first(guest: Guest) -> None:
    put(Path(guest.root), {"sysprep/I386/$oem$/CmdLines.txt": b'[Commands]\r\n"own.cmd"\r\n'})
    install(guest)
    lines = Path(guest.root, "sysprep/I386/$oem$/CmdLines.txt").read_text().splitlines()
    assert (lines[1], len(lines)) == ('"own.cmd"', 4)


@pytest.mark.parametrize("path", ["C:\\i386", "D:\\sysprep\\i386", "C:\\sysprep\\..\\x", "", "C:\\sysprepx"])
def test_install_files_must_lie_where_mini_setup_removes_them(guest: Guest, path: str) -> None:
    put(Path(guest.root), {PATH: f"[Unattended]\r\nInstallFilesPath={path}\r\n"})
    if path:
        with pytest.raises(GuestError, match=r"InstallFilesPath .* is not below C:\\sysprep"):
            install(guest)
    else:
        install(guest)
        assert answers(guest)["Unattended"]["InstallFilesPath"] == "C:\\sysprep\\i386"


def test_key_name_zone_and_password_are_answers(guest: Guest) -> None:
    install(guest, Secrets(product_key="AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"))
    sysprep_inf.set_computer_name(guest, "WEB-1")
    sysprep_inf.set_time_zone(guest, "GTB Standard Time")
    sysprep_inf.set_administrator_password(guest, "pa ss;1")
    found = answers(guest)
    assert found["UserData"]["ProductKey"] == "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"
    assert found["UserData"]["ComputerName"] == "WEB-1"
    assert found["GuiUnattended"] == {
        "OEMSkipRegional": "1",
        "OemSkipWelcome": "1",
        "TimeZone": "130",
        "AdminPassword": '"pa ss;1"',
        "EncryptedAdminPassword": "No",
    }


def test_a_password_of_the_images_own_file_stays(guest: Guest) -> None:
    put(Path(guest.root), {PATH: b"[GuiUnattended]\r\nAdminPassword=own\r\n"})
    install(guest)
    sysprep_inf.set_administrator_password(guest, "new")
    assert answers(guest)["GuiUnattended"] == {"AdminPassword": "own"}


@pytest.mark.parametrize("password", ['a"b', "50%", "a\nb", "x" * 128])
def test_a_password_that_the_file_cannot_hold_is_refused_without_telling_it(guest: Guest, password: str) -> None:
    install(guest)
    with pytest.raises(GuestError, match="choose") as refused:
        sysprep_inf.set_administrator_password(guest, password)
    assert password not in str(refused.value)


def test_a_zone_that_is_younger_than_xp_is_refused(guest: Guest) -> None:
    install(guest)
    with pytest.raises(GuestError, match="younger than this Windows"):
        sysprep_inf.set_time_zone(guest, "Sudan Standard Time")


@pytest.mark.parametrize("answer_file", [None, GIVEN, base64("[UserData]\nFullName=Zürich\n", "utf-16")])
def test_a_second_run_changes_nothing(guest: Guest, answer_file: str | None) -> None:
    def run() -> list[str]:
        told = install(guest, Secrets(answer_file=answer_file), IGNORE_UNATTEND="yes")
        sysprep_inf.set_computer_name(guest, "WEB-1")
        sysprep_inf.set_administrator_password(guest, "secret")
        return told

    run()
    before = snapshot(guest.root)
    assert run() == []
    assert snapshot(guest.root) == before


def test_another_answer_file_takes_the_place_of_an_earlier_runs(guest: Guest) -> None:
    install(guest)
    install(guest, Secrets(answer_file=GIVEN))
    assert answers(guest)["UserData"] == {"FullName": "Given"}


def test_a_task_after_an_image_without_the_file_says_what_is_missing(guest: Guest) -> None:
    with pytest.raises(GuestError, match=r"/sysprep/sysprep.inf: does not exist; let InstallUnattend run"):
        sysprep_inf.set_computer_name(guest, "WEB-1")


def test_comments_order_and_case_stay() -> None:
    file = IniFile(OWN, "x")
    file.set("userdata", "COMPUTERNAME", "NEW")
    assert file.content == OWN.replace(b"computername=OLD", b"COMPUTERNAME=NEW")


def test_values_are_read_without_quotes_and_comments() -> None:
    assert IniFile(OWN, "x").value("UserData", "fullname") == "Me; too"


def test_an_unknown_code_page_survives() -> None:
    content = b"[A]\r\nName=Z\xfcrich \x80 \x85\x0c|\r\n"
    file = IniFile(content, "x")
    file.set("A", "Other", "1")
    assert file.content == content + b"Other=1\r\n"


def test_an_unknown_code_page_gets_nothing_but_ascii() -> None:
    with pytest.raises(GuestError, match="save it as UTF-16"):
        IniFile(b"[A]\r\nName=Z\xfcrich\r\n", "x").set("A", "Other", "é")


def test_a_file_with_more_than_ascii_becomes_utf_16() -> None:
    file = IniFile(b"[A]\r\n", "x")
    file.set("A", "Name", "Ζεύς")
    assert file.content.decode("utf-16") == "[A]\r\nName=Ζεύς\r\n"


def test_utf_16_stays_utf_16() -> None:
    file = IniFile("[A]\r\nName=é\r\n".encode("utf-16"), "x")
    file.set("A", "Other", "1")
    assert file.content.decode("utf-16") == "[A]\r\nName=é\r\nOther=1\r\n"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a\0b", b"x" * (1024 * 1024 + 1)])
def test_what_is_no_text_is_refused(content: bytes) -> None:
    with pytest.raises(GuestError, match=r"^x: "):
        IniFile(content, "x")


NAMES = st.text("abcXYZ019", min_size=1, max_size=8)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"%'), max_size=20)


@given(st.binary(max_size=200).filter(lambda raw: b"\0" not in raw and not raw.startswith((b"\xff\xfe", b"\xfe\xff"))),
       NAMES, NAMES, VALUES)  # fmt: skip
def test_what_is_set_is_read_again(raw: bytes, section: str, name: str, value: str) -> None:
    file = IniFile(raw, "x")
    file.set(section, name, value)
    again = IniFile(file.content, "x")
    assert again.value(section, name) == value.strip() or again.value(section, name) == value
    again.set(section, name, value)
    assert again.content == file.content
