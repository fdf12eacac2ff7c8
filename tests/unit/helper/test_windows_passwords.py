# SPDX-License-Identifier: GPL-2.0-or-later
"""ChangePassword for Windows: who gets the password, how it arrives, and which one Windows would not take."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from images.hives import make_hive
from phony_windows import PHONY_WINDOWS, security_accounts
from snf_image_helper.guest import Guest
from snf_image_helper.tasks.windows import change_password, install_unattend
from snf_image_helper.windows.security_accounts import Policy
from snf_image_helper.windows.user_passwords import setting_lines
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job, Secrets
from unit.helper.command_lines import arguments, powershell_script, powershell_texts
from unit.helper.disk_images import Listener
from unit.helper.guest_trees import JOB, perform, put
from unit.helper.unattend_structure import faults, value
from unit.helper.windows_guests import XP, hive_file, snapshot, windows_guest

IDENTITY = 'processorArchitecture="amd64" publicKeyToken="31bf3856ad364e35" language="neutral" versionScope="nonSxS"'
OWN = (
    '<unattend xmlns="urn:schemas-microsoft-com:unattend"><settings pass="oobeSystem">'
    f'<component name="Microsoft-Windows-Shell-Setup" {IDENTITY}><UserAccounts><LocalAccounts>'
    "<LocalAccount><Name>Ann</Name></LocalAccount><LocalAccount><Name>Bob</Name></LocalAccount>"
    "</LocalAccounts></UserAccounts></component></settings></unattend>"
)
SCRIPT = "Windows/SnfScripts/ChangeAdminPassword.cmd"
ADMINISTRATOR = "oobeSystem/Shell-Setup/UserAccounts/AdministratorPassword/Value"
GOOD = "Sw0rdf1sh!"
FLAGS = ["/ACTIVE:YES", "/EXPIRES:NEVER", "/PASSWORDREQ:YES", "/Y"]
TYPEABLE = st.characters(exclude_categories=["C", "Zl", "Zp"]) | st.sampled_from("\"'%^&|<>()!*/\\ ")


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    made = windows_guest(tmp_path / "c")
    perform(install_unattend.TASK, made)
    return made


def asking(password: str | None = GOOD, keys: str | None = None, **properties: str) -> Job:
    return replace(JOB, secrets=Secrets(password=password, authorized_keys=keys), properties=properties)


def with_accounts(
    guest: Guest, *users: str, administrator: str = "Administrator", complex_from: int | None = None
) -> Guest:
    make_hive(
        hive_file(guest, "SAM"), security_accounts(*users, administrator=administrator, complex_from=complex_from)
    )
    return guest


def script(guest: Guest) -> list[str]:
    content = Path(guest.root, SCRIPT).read_bytes()
    first, *lines, last = content.decode("ascii").split("\r\n")
    assert (first, last) == ("@echo off", "")
    return lines


def answers(guest: Guest) -> bytes:
    return Path(guest.root, "unattend.xml").read_bytes()


def revealed(text: str, name: str) -> str:
    whole = base64.b64decode(text).decode("utf-16-le")
    assert whole.endswith(name)
    return whole.removesuffix(name)


def arrives(lines: tuple[str, ...]) -> tuple[str, str]:
    """Name and password as net.exe, or PowerShell, gets them from a batch file."""
    (line,) = lines
    assert line.isascii()
    assert len(line) < 8191
    if line.startswith("powershell.exe"):
        text = powershell_script(line)
        name, password = powershell_texts(text)
        assert "net.exe user $n /ACTIVE:YES /EXPIRES:NEVER /PASSWORDREQ:" in text
        return name, password
    program, verb, name, password, *flags = arguments(line)
    assert (program, verb, flags[:2], flags[3:]) == ("net.exe", "user", FLAGS[:2], FLAGS[3:])
    # What net.exe itself would take for something else.
    assert password != "*"
    assert not name.startswith("/")
    assert not password.startswith("/")
    return name, password


@given(st.text(TYPEABLE, max_size=127))
@example('"; net user evil evil /add & %PATH% ^')
@example("*")
@example("/ADD")
@example("-x")
@example("")
@example("пароль密码🔑")
@example("fifteen-and-more-characters")
def test_every_password_arrives_as_it_is(password: str) -> None:
    assert arrives(setting_lines("Administrator", password, (10, 0))) == ("Administrator", password)


@given(
    st.text(
        st.characters(exclude_categories=["C", "Z"], exclude_characters='"/\\[]:;|=,+*?<>@'), min_size=1, max_size=20
    )
)
@example("Администратор")
@example("O'Brien")
@example("100%")
def test_every_user_arrives_as_it_is_named(user: str) -> None:
    assert arrives(setting_lines(user, GOOD, (10, 0))) == (user, GOOD)


@pytest.mark.row(149)
@pytest.mark.parametrize("version", [(5, 1), (6, 0)])
def test_without_powershell_what_a_script_cannot_say_is_refused(version: tuple[int, int]) -> None:
    assert arrives(setting_lines("Administrator", "a&b%PATH%^", version)) == ("Administrator", "a&b%PATH%^")
    for password in ("pä", 'a"b', "/x", "*"):
        with pytest.raises(GuestError, match="without PowerShell, cannot be told in a script") as caught:
            setting_lines("Administrator", password, version)
        assert password not in str(caught.value).replace("* ", "")


@pytest.mark.row(149)
@pytest.mark.parametrize("password", [GOOD, "пароль-Ф1", "q\"u&<o>t%PATH%^e'!"])
def test_the_administrators_is_set_by_script_and_told_to_setup(guest: Guest, password: str) -> None:
    listener = perform(change_password.TASK, guest, asking(password))
    assert arrives(tuple(script(guest))) == ("Administrator", password)
    (hidden,) = value(answers(guest), ADMINISTRATOR)
    assert revealed(hidden, "AdministratorPassword") == password
    assert faults(answers(guest)) == []
    assert b"AutoLogon" not in answers(guest)
    assert listener.warnings == ["The property USERS is not set: Administrator is taken"]


@pytest.mark.row(149)
def test_the_administrator_of_another_language_is_found_by_number(guest: Guest) -> None:
    with_accounts(guest, administrator="Администратор")
    listener = perform(change_password.TASK, guest, asking())
    assert arrives(tuple(script(guest))) == ("Администратор", GOOD)
    assert value(answers(guest), ADMINISTRATOR) != []
    assert listener.warnings == ["The property USERS is not set: Администратор is taken"]


def test_users_are_found_in_any_case_and_each_once(guest: Guest) -> None:
    with_accounts(guest, "Ann", "Bob")
    perform(change_password.TASK, guest, asking(USERS="ann BOB Ann"))
    assert [arrives((line,))[0] for line in script(guest)] == ["Ann", "Bob"]
    assert value(answers(guest), ADMINISTRATOR) == []


def test_an_account_that_the_answer_file_makes_gets_it_there(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c")
    put(Path(guest.root), {"unattend.xml": OWN})
    perform(install_unattend.TASK, guest)
    perform(change_password.TASK, guest, asking(USERS="ann"))
    (hidden,) = value(answers(guest), "oobeSystem/Shell-Setup/UserAccounts/LocalAccounts/LocalAccount/Password/Value")
    assert revealed(hidden, "Password") == GOOD
    assert script(guest) == []
    assert faults(answers(guest)) == []


@pytest.mark.row(149)
def test_a_user_that_nobody_makes_is_refused_and_nothing_is_written(guest: Guest) -> None:
    with_accounts(guest, "Ann")
    before = snapshot(guest.root)
    with pytest.raises(GuestError) as caught:
        perform(change_password.TASK, guest, asking(USERS="Administrator An"))
    assert str(caught.value) == (
        "the user 'An' is not in the image (its users: Administrator, Ann, Guest), and its answer file makes none of "
        "that name; correct the property USERS"
    )
    assert snapshot(guest.root) == before


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("Sh0rt!", "is shorter than the 8 characters"),
        ("alllowercase1", "is of less than three kinds of characters"),
        ("xAdministrator1!", "has the user's name in it"),
        (GOOD, None),
        ("пароль12Ф", None),
        ("密码密码abcD", None),
    ],
)
def test_a_password_that_the_images_policy_forbids_is_refused_before_a_write(
    guest: Guest, password: str, fault: str | None
) -> None:
    with_accounts(guest, complex_from=8)
    before = snapshot(guest.root)
    if fault is None:
        perform(change_password.TASK, guest, asking(password))
        return
    with pytest.raises(GuestError, match=fault) as caught:
        perform(change_password.TASK, guest, asking(password))
    assert password not in str(caught.value)
    assert snapshot(guest.root) == before


def test_without_a_policy_any_password_will_do() -> None:
    assert Policy().fault("x", "x") is None


def test_an_empty_password_is_set_and_warned_of(guest: Guest) -> None:
    listener = perform(change_password.TASK, guest, asking(""))
    assert arguments(script(guest)[0])[3:] == ["", "/ACTIVE:YES", "/EXPIRES:NEVER", "/PASSWORDREQ:NO", "/Y"]
    assert value(answers(guest), ADMINISTRATOR) == [""]
    assert listener.warnings[-1] == "The password is empty: Windows lets nobody in with it but at the console"


def test_a_second_run_changes_nothing(guest: Guest) -> None:
    job = asking("пароль-Ф1")
    perform(change_password.TASK, guest, job)
    before = snapshot(guest.root)
    perform(change_password.TASK, guest, job)
    assert snapshot(guest.root) == before


@pytest.mark.row(150)
def test_a_hash_is_refused_by_the_plan_with_its_cure() -> None:
    with pytest.raises(GuestError) as caught:
        change_password.TASK.skip(replace(JOB, secrets=Secrets(password_hash="$6$x$y")))
    assert str(caught.value) == (
        "OS parameter img_passwd_hash: Windows cannot be given the hash of a password; give the password itself in "
        "img_passwd"
    )


@pytest.mark.row(151)
@pytest.mark.parametrize("keys", [None, "", " \n"])
def test_without_password_and_keys_there_is_nothing_to_do(keys: str | None) -> None:
    assert change_password.TASK.skip(asking(None, keys)) == "neither a password nor SSH keys are given"


@pytest.mark.row(149)
@pytest.mark.parametrize("password", ["a\nb", "a\0b", "a\tb", "\x1b[2J", "x" * 128, "\ud800", "🔑" * 64])
def test_what_nobody_could_type_is_refused_by_the_plan_and_not_shown(password: str) -> None:
    with pytest.raises(GuestError) as caught:
        change_password.TASK.skip(asking(password))
    assert str(caught.value).startswith("the password ")
    assert password not in str(caught.value)


@pytest.mark.parametrize("user", ["a/b", "a\\b", "a[b", "x" * 65, "a.", "a\x1bb", 'a"b', "a&b:"])
def test_what_is_no_name_of_a_user_is_refused_by_the_plan(user: str) -> None:
    with pytest.raises(GuestError, match=r"^property USERS: ") as caught:
        change_password.TASK.skip(asking(USERS=user))
    assert str(caught.value).isprintable()


def test_under_cloud_init_nothing_is_written(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c")
    before = snapshot(guest.root)
    perform(change_password.TASK, guest, asking(CLOUD_INIT="yes"))
    assert snapshot(guest.root) == before


def test_xp_is_told_in_sysprep_inf_and_by_script(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c", XP)
    perform(install_unattend.TASK, guest)
    perform(change_password.TASK, guest, asking("a^b&c"))
    (found,) = (path for path in Path(guest.root).rglob("ChangeAdminPassword.cmd"))
    assert arrives((found.read_text().splitlines()[1],)) == ("Administrator", "a^b&c")
    assert "AdminPassword" in (Path(guest.root) / "sysprep/sysprep.inf").read_text()


def test_a_password_is_in_no_message(guest: Guest) -> None:
    listener = Listener()
    change_password.TASK.run(guest, asking("c4n4ry-Sw0rdf1sh"), listener.reporter)
    assert not any("c4n4ry" in event.text for event in listener.events)


@pytest.mark.parametrize("name", ["phony-windows-server-2008r2", "phony-windows-8.1", "phony-windows-11-arm64"])
def test_every_windows_since_vista_gets_it(tmp_path: Path, name: str) -> None:
    guest = windows_guest(tmp_path / "c", PHONY_WINDOWS[name])
    perform(install_unattend.TASK, guest, asking())
    perform(change_password.TASK, guest, asking())
    assert arrives(tuple(script(guest))) == ("Administrator", GOOD)
    assert value(answers(guest), ADMINISTRATOR, PHONY_WINDOWS[name].architecture.lower()) != []


@pytest.mark.parametrize("damage", [b"", b"regf", bytes(8192)])
def test_a_damaged_hive_of_accounts_is_refused(guest: Guest, damage: bytes) -> None:
    hive_file(guest, "SAM").write_bytes(damage)
    with pytest.raises(GuestError, match="SAM: "):
        perform(change_password.TASK, guest, asking())
