# SPDX-License-Identifier: GPL-2.0-or-later
"""Remote Desktop stays shut until Setup is done, and is then what it was in the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from images.hives import Key, make_hive, with_sequences
from phony_windows import PhonyWindows
from snf_image_helper.guest import Guest
from snf_image_helper.tasks.windows.disable_remote_desktop_connections import TASK
from snf_image_shared.errors import GuestError
from unit.helper.guest_trees import perform
from unit.helper.windows_guests import SERVER, XP, exported, hive_file, snapshot, windows_guest

pytestmark = pytest.mark.row(160)

KEY = r"ControlSet001\Control\Terminal Server"
COMMAND = r'"HKLM\SYSTEM\CurrentControlSet\Control\Terminal Server" /v fDenyTSConnections'


def value(guest: Guest) -> str:
    lines = exported(hive_file(guest, "SYSTEM"), KEY).splitlines()
    return next(line for line in lines if "fDenyTSConnections" in line)


def completing(guest: Guest) -> list[str]:
    found = list(Path(guest.root).rglob("SetupComplete.cmd"))
    return [line for path in found for line in path.read_text().splitlines() if "fDeny" in line]


@pytest.mark.parametrize("phony", [SERVER, XP], ids=["server", "xp"])
def test_connections_are_denied_until_setup_is_done(tmp_path: Path, phony: PhonyWindows) -> None:
    guest = windows_guest(tmp_path / "c", phony)
    perform(TASK, guest)
    assert value(guest) == '"fDenyTSConnections"=dword:00000001'
    assert completing(guest) == [f"reg add {COMMAND} /t REG_DWORD /d 0 /f"]


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c")
    perform(TASK, guest)
    before = snapshot(guest.root)
    perform(TASK, guest)
    assert snapshot(guest.root) == before


def test_an_image_that_denies_them_is_left_alone(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c", replace(SERVER, rdp_denied=1))
    before = snapshot(guest.root)
    perform(TASK, guest)
    assert snapshot(guest.root) == before


def test_an_image_that_says_nothing_says_nothing_again(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c")
    system: Key = {"Select": {"Current": 1}, "ControlSet001": {"Control": {}}}
    make_hive(hive_file(guest, "SYSTEM"), system)
    perform(TASK, guest)
    assert value(guest) == '"fDenyTSConnections"=dword:00000001'
    assert completing(guest) == [f"reg delete {COMMAND} /f"]


def test_a_hive_that_cannot_be_changed_leaves_the_image_as_it_was(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c")
    file = hive_file(guest, "SYSTEM")
    file.write_bytes(with_sequences(file.read_bytes(), 2, 1))
    before = snapshot(guest.root)
    with pytest.raises(GuestError, match="transaction logs"):
        perform(TASK, guest)
    assert snapshot(guest.root) == before
