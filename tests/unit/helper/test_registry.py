# SPDX-License-Identifier: GPL-2.0-or-later
"""Hives are read by type, changed as a whole or not at all, and read back by programs of other authors."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from images.hives import make_hive, with_sequences
from snf_image_helper.guest import Guest
from snf_image_helper.windows.registry import HIVE_SAM, HIVE_SYSTEM, control_set, opened
from snf_image_shared.errors import GuestError
from unit.helper.windows_guests import XP, exported, hive_file, snapshot, windows_guest


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return windows_guest(tmp_path / "c")


def put(guest: Guest, name: str, keys: dict[str, object]) -> Path:
    return make_hive(hive_file(guest, name), keys)  # type: ignore[arg-type]


def test_a_value_has_the_type_of_the_registry(guest: Guest) -> None:
    put(guest, "SYSTEM", {"Key": {"Number": 7, "Text": "Zürich €", "Path": "%WINDIR%", "Raw": b"\0\1", "List": ["a"]}})
    with opened(guest, HIVE_SYSTEM) as hive:
        found = [hive.value("Key", name) for name in ("Number", "Text", "Path", "Raw", "List")]
    assert found == [7, "Zürich €", "%WINDIR%", b"\0\1", ("a",)]


def test_keys_and_values_have_no_case(guest: Guest) -> None:
    with opened(guest, HIVE_SYSTEM.upper()) as hive:
        assert hive.text(r"controlset001\CONTROL\session manager\environment", "os") == "Windows_NT"


def test_what_is_missing_is_none(guest: Guest) -> None:
    with opened(guest, HIVE_SYSTEM) as hive:
        assert (hive.value("Nothing", "Here"), hive.value("Setup", "Nothing"), hive.keys(r"Setup\Nothing")) == (
            None,
            None,
            None,
        )


def test_the_names_below_a_key_are_told(guest: Guest) -> None:
    with opened(guest, HIVE_SAM) as hive:
        assert hive.keys(r"SAM\Domains\Account\Users\Names") == ("Administrator", "Guest")


def test_a_hive_of_xp_is_found_in_its_own_spelling(tmp_path: Path) -> None:
    with opened(windows_guest(tmp_path / "c", XP), HIVE_SYSTEM) as hive:
        assert control_set(hive) == "ControlSet001"


def test_what_is_set_is_there_for_other_programs(guest: Guest) -> None:
    with opened(guest, HIVE_SYSTEM, change=True) as hive:
        hive.set_dword(r"New\Key", "Number", 0xFFFF_FFFF)
        hive.set_string(r"New\Key", "Text", "é")
        hive.set_string(r"New\Key", "Path", r"%X%\y", expand=True)
        hive.set_strings(r"New\Key", "List", ("a", "b"))
        hive.set_bytes(r"New\Key", "Raw", b"\1\xff")
    assert exported(hive_file(guest, "SYSTEM"), "New").splitlines()[-6:] == [
        '"List"=hex(7):61,00,00,00,62,00,00,00,00,00',
        '"Number"=dword:ffffffff',
        '"Path"=hex(2):25,00,58,00,25,00,5c,00,79,00,00,00',
        '"Raw"=hex(3):01,ff',
        '"Text"=hex(1):e9,00,00,00',
        "",
    ]


def test_what_is_not_changed_stays(guest: Guest) -> None:
    before = exported(hive_file(guest, "SYSTEM"), "ControlSet001")
    with opened(guest, HIVE_SYSTEM, change=True) as hive:
        hive.set_dword(r"ControlSet001\Control\Terminal Server", "fDenyTSConnections", 1)
    after = exported(hive_file(guest, "SYSTEM"), "ControlSet001")
    assert after == before.replace('"fDenyTSConnections"=dword:00000000', '"fDenyTSConnections"=dword:00000001')


def test_a_changed_hive_keeps_owner_and_mode(guest: Guest) -> None:
    file = hive_file(guest, "SYSTEM")
    file.chmod(0o640)
    with opened(guest, HIVE_SYSTEM, change=True) as hive:
        hive.set_dword("New", "Number", 1)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_setting_what_is_so_already_writes_nothing(guest: Guest) -> None:
    before = snapshot(guest.root)
    with opened(guest, HIVE_SYSTEM, change=True) as hive:
        hive.set_dword("Select", "Current", 1)
    assert snapshot(guest.root) == before


def test_a_failure_of_the_block_leaves_the_hive_as_it_was(guest: Guest) -> None:
    before = hive_file(guest, "SYSTEM").read_bytes()
    with pytest.raises(GuestError, match="later"), opened(guest, HIVE_SYSTEM, change=True) as hive:
        hive.set_dword("New", "Number", 1)
        raise GuestError("later")
    assert hive_file(guest, "SYSTEM").read_bytes() == before


def test_a_hive_with_changes_in_its_logs_is_read_and_says_so(guest: Guest) -> None:
    file = hive_file(guest, "SYSTEM")
    file.write_bytes(with_sequences(file.read_bytes(), 8, 7))
    with opened(guest, HIVE_SYSTEM) as hive:
        assert (hive.unflushed, hive.number("Select", "Current")) == (True, 1)


def test_a_hive_with_changes_in_its_logs_is_not_changed(guest: Guest) -> None:
    file = hive_file(guest, "SYSTEM")
    file.write_bytes(with_sequences(file.read_bytes(), 8, 7))
    with pytest.raises(GuestError, match=r"transaction logs.* shut it down"), opened(guest, HIVE_SYSTEM, change=True):
        pass


def test_a_hive_shut_down_properly_is_flushed(guest: Guest) -> None:
    with opened(guest, HIVE_SYSTEM) as hive:
        assert not hive.unflushed


def test_the_control_set_is_the_one_that_select_names(guest: Guest) -> None:
    put(guest, "SYSTEM", {"Select": {"Current": 12, "Default": 1}, "ControlSet012": {}, "ControlSet001": {}})
    with opened(guest, HIVE_SYSTEM) as hive:
        assert control_set(hive) == "ControlSet012"


@pytest.mark.parametrize("select", [{}, {"Current": 2}, {"Current": "1"}, {"Current": 0xFFFF_FFFF}])
def test_a_control_set_that_is_not_there_is_refused(guest: Guest, select: dict[str, object]) -> None:
    put(guest, "SYSTEM", {"Select": select, "ControlSet001": {}})
    with opened(guest, HIVE_SYSTEM) as hive, pytest.raises(GuestError, match=r"Select\\Current names no control set"):
        control_set(hive)
