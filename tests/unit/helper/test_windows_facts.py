# SPDX-License-Identifier: GPL-2.0-or-later
"""What the registry says of a Windows, and whether sysprep has prepared it: each state its own sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from images.hives import make_hive, with_sequences
from phony_windows import PHONY_WINDOWS, PhonyWindows
from snf_image_helper.system import OsFamily
from snf_image_helper.windows.facts import Facts, facts
from snf_image_helper.windows.sysprep_state import check_sysprep
from snf_image_shared.errors import GuestError
from unit.helper.windows_guests import SERVER, XP, hive_file, windows_guest

EXPECTED = {
    "phony-windows-xp": ((5, 1), 2600, 0, "Microsoft Windows XP", False, "x86"),
    "phony-windows-server-2003": ((5, 2), 3790, 0, "Microsoft Windows Server 2003", True, "amd64"),
    "phony-windows-server-2008r2": ((6, 1), 7601, 0, "Windows Server 2008 R2 Standard", True, "amd64"),
    "phony-windows-8.1": ((6, 3), 9600, 0, "Windows 8.1 Pro", False, "x86"),
    "phony-windows-10": ((10, 0), 19045, 4291, "Windows 10 Pro", False, "amd64"),
    "phony-windows-11": ((10, 0), 22631, 3447, "Windows 11 Pro", False, "amd64"),
    "phony-windows-11-arm64": ((10, 0), 26100, 1742, "Windows 11 Pro", False, "arm64"),
    "phony-windows-server-2016": ((10, 0), 14393, 6897, "Windows Server 2016 Standard", True, "amd64"),
    "phony-windows-server-2019": ((10, 0), 17763, 5696, "Windows Server 2019 Standard", True, "amd64"),
    "phony-windows-server-2022": ((10, 0), 20348, 2402, "Windows Server 2022 Standard", True, "amd64"),
    "phony-windows-server-2025": ((10, 0), 26100, 1742, "Windows Server 2025 Standard", True, "amd64"),
}


def found(root: Path, phony: PhonyWindows) -> Facts:
    return facts(windows_guest(root / "c", phony))


def family(phony: PhonyWindows) -> OsFamily:
    return OsFamily.WINDOWS_LEGACY if phony.legacy else OsFamily.WINDOWS


@pytest.mark.parametrize("name", PHONY_WINDOWS)
def test_each_version_is_known_for_what_it_is(tmp_path: Path, name: str) -> None:
    told = found(tmp_path, PHONY_WINDOWS[name])
    known = (told.version, told.build, told.revision, told.product, told.is_server, told.architecture)
    assert known == EXPECTED[name]


@pytest.mark.parametrize("phony", PHONY_WINDOWS.values(), ids=PHONY_WINDOWS)
def test_what_sysprep_has_left_is_ready(tmp_path: Path, phony: PhonyWindows) -> None:
    check_sysprep(found(tmp_path, phony), family(phony))


def test_an_image_for_audit_mode_is_ready(tmp_path: Path) -> None:
    phony = replace(SERVER, image_state="IMAGE_STATE_GENERALIZE_RESEAL_TO_AUDIT")
    check_sysprep(found(tmp_path, phony), OsFamily.WINDOWS)


STATES = {
    "IMAGE_STATE_COMPLETE": "it is set up and in use",
    "IMAGE_STATE_UNDEPLOYABLE": "failed half-way.*setuperr.log",
    "IMAGE_STATE_SPECIALIZE_RESEAL_TO_OOBE": "without /generalize",
    "IMAGE_STATE_SPECIALIZE_RESEAL_TO_AUDIT": "in audit mode and specialized",
    "": "was never finished",
    "IMAGE_STATE_\x1b[31mRED": r"ImageState 'IMAGE_STATE_\?\[31mRED' is unknown",
}


@pytest.mark.row(159)
@pytest.mark.parametrize(("state", "sentence"), STATES.items())
def test_each_other_state_is_refused_in_its_own_words(tmp_path: Path, state: str, sentence: str) -> None:
    told = found(tmp_path, replace(SERVER, image_state=state))
    with pytest.raises(GuestError, match=rf"Windows Server 2022 Standard .*{sentence}.*; run sysprep /generalize"):
        check_sysprep(told, OsFamily.WINDOWS)


@pytest.mark.row(159)
@pytest.mark.parametrize(
    ("running", "mini", "flag"), [(0, 0, "SystemSetup"), (0, 1, "SystemSetup"), (1, 0, "MiniSetup")]
)
def test_an_xp_without_mini_setup_is_refused(tmp_path: Path, running: int, mini: int, flag: str) -> None:
    guest = windows_guest(tmp_path / "c", XP)
    setup = {"SystemSetupInProgress": running, "MiniSetupInProgress": mini}
    make_hive(hive_file(guest, "SYSTEM"), {**XP.system, "Setup": setup})
    with pytest.raises(GuestError, match=rf"{flag}InProgress is not 1.*; run sysprep -mini -reseal"):
        check_sysprep(facts(guest), OsFamily.WINDOWS_LEGACY)


def test_a_state_that_is_still_in_the_logs_is_told(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c", replace(SERVER, image_state="IMAGE_STATE_COMPLETE"))
    file = hive_file(guest, "SOFTWARE")
    file.write_bytes(with_sequences(file.read_bytes(), 3, 2))
    with pytest.raises(GuestError, match="its newest state is still in the registry's transaction logs"):
        check_sysprep(facts(guest), OsFamily.WINDOWS)


@pytest.mark.parametrize(
    ("phony", "told", "cure"), [(XP, OsFamily.WINDOWS, "windows-legacy"), (SERVER, OsFamily.WINDOWS_LEGACY, "windows$")]
)
def test_a_family_that_the_version_belies_is_refused(
    tmp_path: Path, phony: PhonyWindows, told: OsFamily, cure: str
) -> None:
    with pytest.raises(GuestError, match=rf"set the property OSFAMILY to {cure}"):
        check_sysprep(found(tmp_path, phony), told)


@pytest.mark.parametrize("architecture", ["MIPS", ""])
def test_an_architecture_that_no_answer_file_has_is_refused(tmp_path: Path, architecture: str) -> None:
    with pytest.raises(GuestError, match=r"PROCESSOR_ARCHITECTURE is (mips|missing), not one of amd64, arm64, x86"):
        found(tmp_path, replace(SERVER, architecture=architecture))


@pytest.mark.parametrize("version", ["", "six", "6", "6.x", "99999.1"])
def test_a_version_that_is_none_is_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises(GuestError, match="no version of Windows in CurrentVersion"):
        found(tmp_path, replace(SERVER, version=version, major=0))
