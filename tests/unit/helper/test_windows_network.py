# SPDX-License-Identifier: GPL-2.0-or-later
"""ConfigureNetwork of Windows: what Setup is told, in the form in which it wants to be told, and what scripts add.

What is said of each kind of card is in tests/golden_network/windows and windows-legacy.
"""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from network_inputs import INPUTS
from phony_windows import PHONY_WINDOWS, PhonyWindows
from snf_image_helper.guest import Guest
from snf_image_helper.tasks.windows.configure_network import TASK
from snf_image_helper.tasks.windows.install_unattend import TASK as INSTALL
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Nic
from unit.helper.guest_trees import JOB, perform
from unit.helper.unattend_structure import faults
from unit.helper.windows_guests import SERVER, XP, snapshot, windows_guest

pytestmark = pytest.mark.row(185)

NAMESPACE = "{urn:schemas-microsoft-com:unattend}"
COMPLETE = "Windows/Setup/Scripts/SetupComplete.cmd"


def configured(root: Path, nics: tuple[Nic, ...], phony: PhonyWindows = SERVER) -> tuple[Guest, list[str]]:
    guest = windows_guest(root / "c", phony)
    perform(INSTALL, guest)
    return guest, perform(TASK, guest, replace(JOB, nics=nics)).warnings


def interfaces(guest: Guest, component: str) -> list[ET.Element]:
    tree = ET.parse(Path(guest.root, "unattend.xml"))
    path = f"{NAMESPACE}settings[@pass='specialize']/{NAMESPACE}component[@name='{component}']"
    return tree.findall(f"{path}/{NAMESPACE}Interfaces/{NAMESPACE}Interface")


def scripts(guest: Guest) -> list[str]:
    text = Path(guest.root, COMPLETE).read_text()
    return [base64.b64decode(found).decode("utf-16-le") for found in re.findall(r"-EncodedCommand (\S+)", text)]


@pytest.mark.parametrize("name", INPUTS)
def test_the_answer_file_has_the_documented_form(tmp_path: Path, name: str) -> None:
    guest, _ = configured(tmp_path, INPUTS[name])
    assert faults(Path(guest.root, "unattend.xml").read_bytes()) == []


def test_an_architecture_other_than_amd64_gets_its_own_component(tmp_path: Path) -> None:
    guest, _ = configured(tmp_path, INPUTS["static4"], PHONY_WINDOWS["phony-windows-11-arm64"])
    tree = ET.parse(Path(guest.root, "unattend.xml"))
    found = [item for item in tree.iter(f"{NAMESPACE}component") if item.get("name") == "Microsoft-Windows-TCPIP"]
    assert [item.get("processorArchitecture") for item in found] == ["arm64"]


@pytest.mark.parametrize("name", ["dhcp4", "slaac", "stateful-dhcp6"])
def test_cards_that_get_all_from_the_network_are_not_touched(tmp_path: Path, name: str) -> None:
    guest, _ = configured(tmp_path, INPUTS[name])
    assert interfaces(guest, "Microsoft-Windows-TCPIP") == []
    assert scripts(guest) == []


def test_an_mtu_is_set_when_setup_is_done(tmp_path: Path) -> None:
    guest, _ = configured(tmp_path, (Nic("02:00:00:00:0a:01", mtu=1400),))
    assert scripts(guest) == [
        "$card = Get-WmiObject Win32_NetworkAdapter -Filter \"MACAddress='02:00:00:00:0A:01'\" "
        "| Select-Object -First 1; $index = $card.InterfaceIndex; "
        "netsh interface ipv4 set subinterface $index mtu=1400 store=persistent; "
        "netsh interface ipv6 set subinterface $index mtu=1400 store=persistent"
    ]


def test_addresses_beside_dhcp_are_left_out_where_windows_cannot_have_both(tmp_path: Path) -> None:
    guest, warnings = configured(tmp_path, INPUTS["addresses-beside-dhcp"], PHONY_WINDOWS["phony-windows-server-2016"])
    assert [warning for warning in warnings if "beside DHCP are left out" in warning]
    assert scripts(guest) == []


def test_a_second_default_route_is_left_out_with_a_warning(tmp_path: Path) -> None:
    _, warnings = configured(tmp_path, INPUTS["two-gateways"])
    assert "NIC 1: the default route by 198.51.100.1 is left out" in warnings[0]


@pytest.mark.parametrize("phony", [SERVER, XP], ids=["server", "xp"])
@pytest.mark.parametrize("name", ["dual-static", "mtu", "names", "routes-and-addresses"])
def test_a_second_run_changes_nothing(tmp_path: Path, phony: PhonyWindows, name: str) -> None:
    guest, _ = configured(tmp_path, INPUTS[name], phony)
    before = snapshot(guest.root)
    perform(TASK, guest, replace(JOB, nics=INPUTS[name]))
    assert snapshot(guest.root) == before


def test_xp_runs_its_script_when_mini_setup_is_done(tmp_path: Path) -> None:
    guest, warnings = configured(tmp_path, INPUTS["static4"], XP)
    assert warnings == []
    script = Path(guest.root, "WINDOWS/SnfScripts/ConfigureNetwork.vbs").read_bytes()
    assert b'card.EnableStatic Array("192.0.2.7"), Array("255.255.255.0")\r\n' in script
    complete = next(Path(guest.root).rglob("SetupComplete.cmd")).read_text().splitlines()
    run = next(number for number, line in enumerate(complete) if line.startswith("cscript.exe //nologo"))
    removed = next(number for number, line in enumerate(complete) if line.startswith("rmdir"))
    assert run < removed


def test_what_xp_cannot_have_is_warned_of(tmp_path: Path) -> None:
    _, warnings = configured(tmp_path, INPUTS["dual-static"], XP)
    assert "NIC 0: IPv6 of the network cannot be set in XP and 2003 and is left out" in warnings[0]


def test_without_an_answer_file_it_says_what_is_missing(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c")
    with pytest.raises(GuestError, match=r"no answer file .*; let InstallUnattend run"):
        perform(TASK, guest, replace(JOB, nics=INPUTS["static4"]))
