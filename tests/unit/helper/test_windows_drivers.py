# SPDX-License-Identifier: GPL-2.0-or-later
"""WINDOWS_DRIVERS: the folders of the image that fit the guest, and a Windows that starts from a virtio disk."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from images.hives import make_hive
from phony_windows import PHONY_WINDOWS, PhonyWindows
from snf_image_helper.guest import Guest
from snf_image_helper.tasks.windows.install_drivers import TASK
from snf_image_helper.tasks.windows.install_unattend import TASK as INSTALL
from snf_image_shared.errors import GuestError
from unit.helper.guest_trees import JOB, perform, put
from unit.helper.windows_guests import SERVER, XP, exported, hive_file, snapshot, windows_guest

NAMESPACE = "{urn:schemas-microsoft-com:unattend}"
AMD64, X86 = 0x8664, 0x014C
ISO = ("2k22/amd64", "2k22/x86", "2k19/amd64", "w10/amd64", "xp/x86", "2k8r2/amd64")


def driver(machine: int) -> bytes:
    return b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + struct.pack("<H", machine) + bytes(18)


def virtio(name: str = "viostor") -> dict[str, str | bytes]:
    """The folders of one driver on virtio-win's ISO."""
    found: dict[str, str | bytes] = {}
    for folder in ISO:
        machine = AMD64 if folder.endswith("amd64") else X86
        found |= {
            f"Drivers/{name}/{folder}/{name}.inf": "[Version]\r\n",
            f"Drivers/{name}/{folder}/{name}.sys": driver(machine) + folder.encode(),
        }
    return found


def guest_with(root: Path, files: dict[str, str | bytes], phony: PhonyWindows = SERVER) -> Guest:
    guest = windows_guest(root / "c", phony)
    put(Path(guest.root), files)
    perform(INSTALL, guest)
    return guest


def commands(guest: Guest) -> list[str]:
    tree = ET.parse(Path(guest.root, "unattend.xml"))
    return [text for item in tree.iter(f"{NAMESPACE}Path") if (text := item.text or "").startswith("pnputil")]


def test_the_folder_of_the_guests_own_version_and_architecture_is_installed(tmp_path: Path) -> None:
    guest = guest_with(tmp_path, virtio())
    perform(TASK, guest, WINDOWS_DRIVERS=r"C:\Drivers")
    assert commands(guest) == [r'pnputil.exe -i -a "C:\Drivers\viostor\2k22\amd64\*.inf"']


def test_a_folder_without_such_names_is_installed_as_it_is(tmp_path: Path) -> None:
    guest = guest_with(tmp_path, {"VirtIO drivers/netkvm.inf": "", "VirtIO drivers/netkvm.sys": ""})
    perform(TASK, guest, WINDOWS_DRIVERS="c:/virtio drivers/")
    assert commands(guest) == [r'pnputil.exe -i -a "C:\VirtIO drivers\*.inf"']


def test_windows_starts_from_the_driver_of_its_own(tmp_path: Path) -> None:
    guest = guest_with(tmp_path, virtio())
    perform(TASK, guest, WINDOWS_DRIVERS=r"C:\Drivers")
    assert Path(guest.root, "Windows/System32/drivers/viostor.sys").read_bytes() == driver(AMD64) + b"2k22/amd64"
    service = exported(hive_file(guest, "SYSTEM"), r"ControlSet001\Services\viostor")
    assert '"Start"=dword:00000000' in service
    assert '"Type"=dword:00000001' in service
    assert '"Group"=' in service


def test_both_generations_of_the_device_are_entered(tmp_path: Path) -> None:
    guest = guest_with(tmp_path, virtio())
    perform(TASK, guest, WINDOWS_DRIVERS=r"C:\Drivers")
    devices = exported(hive_file(guest, "SYSTEM"), r"DriverDatabase\DeviceIds\PCI")
    assert devices.count("VEN_1AF4&DEV_1001&REV_00") == devices.count("VEN_1AF4&DEV_1042&REV_01") == 1
    assert devices.count('"snf_viostor.inf"=hex(3):01,ff,00,00') == 2
    package = exported(hive_file(guest, "SYSTEM"), r"DriverDatabase\DriverPackages")
    assert "snf_viostor.inf_amd64_0000000000000000" in package


def test_a_windows_before_8_has_another_database(tmp_path: Path) -> None:
    guest = guest_with(tmp_path, virtio(), PHONY_WINDOWS["phony-windows-server-2008r2"])
    perform(TASK, guest, WINDOWS_DRIVERS=r"C:\Drivers")
    keys = exported(hive_file(guest, "SYSTEM"), r"ControlSet001\Control\CriticalDeviceDatabase")
    assert keys.count("PCI#VEN_1AF4&DEV_") == 2
    assert "DriverDatabase" not in exported(hive_file(guest, "SYSTEM"), "\\")


def test_xp_is_told_in_its_answer_file(tmp_path: Path) -> None:
    guest = guest_with(tmp_path, virtio(), XP)
    perform(TASK, guest, WINDOWS_DRIVERS=r"C:\Drivers")
    text = Path(guest.root, "sysprep/sysprep.inf").read_text()
    assert "OemPnPDriversPath=Drivers\\viostor\\xp\\x86\n" in text
    assert "UpdateInstalledDrivers=Yes\n" in text


def test_a_driver_that_the_image_starts_from_already_stays(tmp_path: Path) -> None:
    guest = guest_with(tmp_path, {**virtio(), "Windows/System32/drivers/viostor.sys": b"own"})
    system = SERVER.system
    services = {"Services": {"viostor": {"Start": 0, "Type": 1}}, "Control": system["ControlSet001"]["Control"]}  # type: ignore[index,call-overload]
    make_hive(hive_file(guest, "SYSTEM"), {**system, "ControlSet001": services})
    perform(TASK, guest, WINDOWS_DRIVERS=r"C:\Drivers")
    assert Path(guest.root, "Windows/System32/drivers/viostor.sys").read_bytes() == b"own"


@pytest.mark.parametrize("phony", [SERVER, XP], ids=["server", "xp"])
def test_a_second_run_changes_nothing(tmp_path: Path, phony: PhonyWindows) -> None:
    guest = guest_with(tmp_path, {**virtio(), **virtio("vioscsi")}, phony)
    perform(TASK, guest, WINDOWS_DRIVERS=r"C:\Drivers")
    before = snapshot(guest.root)
    perform(TASK, guest, WINDOWS_DRIVERS=r"C:\Drivers")
    assert snapshot(guest.root) == before


def test_with_cloud_init_only_the_disk_is_seen_to(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c")
    put(Path(guest.root), virtio())
    heard = perform(TASK, guest, WINDOWS_DRIVERS=r"C:\Drivers", CLOUD_INIT="yes")
    assert "only drivers of virtio disks are installed" in heard.warnings[0]
    assert Path(guest.root, "Windows/System32/drivers/viostor.sys").exists()


@pytest.mark.parametrize(
    "path", ["Drivers", r"D:\Drivers", "C:", r"C:\..\x", r'C:\a"b', r"C:\%x%", "C:\\ü", r"\\nas\x"]
)
def test_what_is_no_folder_of_the_image_is_refused_before_anything_is_written(path: str) -> None:
    with pytest.raises(GuestError, match=r"property WINDOWS_DRIVERS: .* is no folder of the image"):
        TASK.skip(replace(JOB, properties={"WINDOWS_DRIVERS": path}))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    guest = guest_with(tmp_path, {})
    with pytest.raises(GuestError, match=r"the image has no folder C:\\Drivers"):
        perform(TASK, guest, WINDOWS_DRIVERS=r"C:\Drivers")


def test_a_folder_for_other_versions_alone_is_refused(tmp_path: Path) -> None:
    guest = guest_with(tmp_path, virtio(), PHONY_WINDOWS["phony-windows-server-2016"])
    with pytest.raises(GuestError, match=r"has no INF file for Windows Server 2016 Standard \(amd64\)"):
        perform(TASK, guest, WINDOWS_DRIVERS=r"C:\Drivers")


def test_a_driver_for_another_architecture_is_refused(tmp_path: Path) -> None:
    guest = guest_with(tmp_path, {"Drivers/viostor.inf": "", "Drivers/viostor.sys": driver(X86)})
    before = snapshot(guest.root)
    with pytest.raises(GuestError, match=r"/Drivers/viostor\.sys: is no driver for amd64"):
        perform(TASK, guest, WINDOWS_DRIVERS=r"C:\Drivers")
    assert snapshot(guest.root) == before


def test_without_the_property_there_is_nothing_to_do() -> None:
    assert TASK.skip(JOB) == "the property WINDOWS_DRIVERS is not set"
