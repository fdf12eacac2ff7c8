# SPDX-License-Identifier: GPL-2.0-or-later
"""Names in Windows: of computers, time zones, languages and keyboards."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snf_image_helper.tasks.windows import assign_hostname, install_unattend
from snf_image_helper.windows import time_zones
from snf_image_helper.windows.computer_names import computer_name
from snf_image_helper.windows.languages import input_locale, language
from snf_image_host.parameters.windows_timezones import WINDOWS_TIMEZONES
from snf_image_shared.errors import GuestError
from unit.helper.guest_trees import JOB, perform, put, text
from unit.helper.unattend_structure import faults, value
from unit.helper.windows_guests import XP, snapshot, windows_guest

IDENTITY = 'processorArchitecture="amd64" publicKeyToken="31bf3856ad364e35" language="neutral" versionScope="nonSxS"'
OWN = (
    '<unattend xmlns="urn:schemas-microsoft-com:unattend"><settings pass="specialize">'
    f'<component name="Microsoft-Windows-Shell-Setup" {IDENTITY}><ComputerName>OLD</ComputerName></component>'
    "</settings></unattend>"
)
NAME = "specialize/Shell-Setup/ComputerName"


@pytest.mark.row(146)
@pytest.mark.parametrize(
    ("given_name", "wanted"),
    [
        ("web", "web"),
        ("exactly15-chars", "exactly15-chars"),
        ("a_b", "a_b"),
        ("1a", "1a"),
        ("bücher", "bücher"),
        ("web.example.com", "web"),
        ("exactly15-chars.example.com", "exactly15-chars"),
    ],
)
def test_a_name_that_windows_takes_is_in_the_answer_file(tmp_path: Path, given_name: str, wanted: str) -> None:
    guest = windows_guest(tmp_path / "c")
    perform(install_unattend.TASK, guest)
    listener = perform(assign_hostname.TASK, guest, replace(JOB, hostname=given_name))
    content = text(guest, "/unattend.xml").encode()
    assert value(content, NAME) == [wanted]
    assert faults(content) == []
    shortened = f"Windows' computer name has no domain: {given_name} is called {wanted}"
    assert listener.warnings == ([shortened] if "." in given_name else [])


@pytest.mark.row(146)
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("sixteen-letters-", "is none that Windows takes"),
        ("sixteen-letters1", "has 16 characters, and Windows takes 15 at most"),
        ("sixteen-letters1.example.com", "has 16 characters, and Windows takes 15 at most"),
        ("12345", "is all digits, which Windows does not take"),
        ("123.example.com", "is all digits, which Windows does not take"),
        ("-a", "is none that Windows takes"),
        ("", "is none that Windows takes"),
        (".example.com", "is none that Windows takes"),
        ("a b", "is none that Windows takes"),
        ("a&b", "is none that Windows takes"),
        ("a\u202eb", "is none that Windows takes"),
        ("a\n", "is none that Windows takes"),
    ],
)
def test_a_name_that_windows_does_not_take_is_refused_by_the_plan_with_its_cure(name: str, fault: str) -> None:
    with pytest.raises(GuestError) as caught:
        assign_hostname.TASK.skip(replace(JOB, hostname=name))
    assert fault in str(caught.value)
    assert str(caught.value).endswith("give another one in the OS parameter hostname")
    assert str(caught.value).isprintable()


@given(st.text(max_size=20))
def test_every_name_that_is_taken_is_one_of_the_documented_form(name: str) -> None:
    try:
        found, _ = computer_name(name)
    except GuestError:
        return
    # Microsoft, "ComputerName" of Microsoft-Windows-Shell-Setup: what it cannot contain.
    assert re.fullmatch(r"""[^\s{|}~\[\\\]^':;<=>?@!"#$%`()+/.,&*]{1,15}""", found)
    assert not re.fullmatch("[0-9]+", found)
    assert name.startswith(found)


@pytest.mark.row(146)
def test_xp_has_its_name_in_sysprep_inf(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c", XP)
    perform(install_unattend.TASK, guest)
    perform(assign_hostname.TASK, guest)
    assert re.findall(r"(?m)^ComputerName=(.*?)\r?$", text(guest, "/sysprep/sysprep.inf")) == ["web"]


def test_a_second_run_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c")
    for task in (install_unattend.TASK, assign_hostname.TASK):
        perform(task, guest)
    before = snapshot(guest.root)
    perform(assign_hostname.TASK, guest)
    assert snapshot(guest.root) == before


def test_without_an_answer_file_the_cure_is_told(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c")
    with pytest.raises(GuestError, match=r"^the guest has no answer file C:\\unattend\.xml; let InstallUnattend run$"):
        perform(assign_hostname.TASK, guest)


def test_under_cloud_init_the_name_is_left_to_the_seed(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c")
    before = snapshot(guest.root)
    listener = perform(assign_hostname.TASK, guest, CLOUD_INIT="yes")
    assert listener.warnings == ["Windows' computer name has no domain: web.example.com is called web"]
    assert snapshot(guest.root) == before


def test_the_name_in_an_images_own_file_is_exchanged(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c")
    put(tmp_path / "c", {"unattend.xml": OWN})
    perform(assign_hostname.TASK, guest)
    assert value(text(guest, "/unattend.xml").encode(), NAME) == ["web"]


@pytest.mark.row(39)
@pytest.mark.parametrize(
    ("zone", "windows"),
    [
        ("UTC", "UTC"),
        ("Etc/UTC", "UTC"),
        ("Europe/Athens", "GTB Standard Time"),
        ("Europe/London", "GMT Standard Time"),
        ("Europe/Kyiv", "FLE Standard Time"),
        ("Europe/Kiev", "FLE Standard Time"),
        ("Asia/Kolkata", "India Standard Time"),
        ("Asia/Calcutta", "India Standard Time"),
        ("America/New_York", "Eastern Standard Time"),
        ("US/Pacific", "Pacific Standard Time"),
        ("America/Edmonton", "Mountain Standard Time"),
        ("America/Mexico_City", "Central Standard Time (Mexico)"),
        ("Asia/Tokyo", "Tokyo Standard Time"),
        ("europe/athens", "GTB Standard Time"),
        ("gtb standard time", "GTB Standard Time"),
    ],
)
def test_zones_of_the_iana_database_have_their_names_in_windows(zone: str, windows: str) -> None:
    assert time_zones.check(zone) == windows


@pytest.mark.row(39)
def test_the_table_knows_every_name_of_windows_and_no_other() -> None:
    lines = re.findall(r"(?m)^(?:=(.+?)|(\S.*?)): ?(.*(?:\n .*)*)", time_zones.__dict__["_ZONES"])
    named = {whole or f"{part} Standard Time" for whole, part, _ in lines}
    zones = [zone for *_, text in lines for zone in text.split()]
    assert named == WINDOWS_TIMEZONES
    assert len(zones) == len(set(zones)) == 596
    assert {time_zones.windows_name(zone) for zone in zones} <= WINDOWS_TIMEZONES


@pytest.mark.row(39)
@pytest.mark.parametrize("zone", ["Europe/Nowhere", "", "../etc/passwd", "Factory", "x" * 5000, "\x1b"])
def test_a_zone_that_windows_has_no_name_for_is_refused(zone: str) -> None:
    with pytest.raises(GuestError) as caught:
        time_zones.check(zone)
    assert str(caught.value).startswith("property TIMEZONE: ")
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("locale", "wanted"),
    [
        ("de_DE.UTF-8", "de-DE"),
        ("de_DE@euro", "de-DE"),
        ("de-de", "de-DE"),
        ("sr_Latn_RS", "sr-Latn-RS"),
        ("es_419", "es-419"),
        ("C.UTF-8", "en-US"),
        ("POSIX", "en-US"),
    ],
)
def test_locales_have_their_languages_in_windows(locale: str, wanted: str) -> None:
    assert language(locale) == wanted


@pytest.mark.parametrize(
    ("keymap", "wanted"),
    [
        ("us", "en-US"),
        ("de", "de-DE"),
        ("de-latin1-nodeadkeys", "de-DE"),
        ("de_CH-latin1", "de-CH"),
        ("sr-RS", "sr-RS"),
    ],
)
def test_keymaps_have_their_keyboards_in_windows(keymap: str, wanted: str) -> None:
    assert input_locale(keymap) == wanted


@pytest.mark.parametrize(("check", "word"), [(language, "german"), (language, ""), (input_locale, "dvorak")])
def test_what_has_none_is_refused(check: object, word: str) -> None:
    assert callable(check)
    with pytest.raises(GuestError, match="write one like"):
        check(word)
