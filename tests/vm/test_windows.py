# SPDX-License-Identifier: GPL-2.0-or-later
"""Phony Windows guests through a real helper VM, each deployed twice: the second run changes nothing on C:."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from images.inspection import check_table, partition_table
from images.windows_disks import Role, WindowsDisk, make_windows_disk
from phony_windows import PHONY_WINDOWS
from provider import Instance, Outcome, Provider
from unit.helper.disk_images import MIB, private_mounts, sh
from unit.helper.ntfs_volumes import written_to
from unit.helper.unattend_structure import faults, value
from unit.helper.windows_guests import exported

pytestmark = pytest.mark.vm

NAME = "web-1.example.com"
GROWTH = 40 * MIB
PASSWORD = 'p4ss "word" %PATH% & <x>'
CARD = {
    "MAC": "aa:00:00:00:00:01",
    "IP": "192.0.2.7",
    "NETWORK_SUBNET": "192.0.2.0/24",
    "NETWORK_GATEWAY": "192.0.2.1",
}
PERSONALITY = {"/Users/Public/hello.txt": b"hello\r\n", "/License.rtf": b"ours"}


@dataclass(frozen=True)
class Case:
    """A Windows on a layout, and what the deployment is asked for besides what all are asked for."""

    phony: str
    layout: str
    properties: dict[str, str]

    @property
    def is_legacy(self) -> bool:
        return PHONY_WINDOWS[self.phony].legacy

    @property
    def password(self) -> str:
        """In sysprep.inf and a batch file of old neither quotes nor percent signs can be told."""
        return "p4ss & <x>" if self.is_legacy else PASSWORD


CASES = {
    "server-2003-mbr": Case(
        "phony-windows-server-2003", "phony-windows-mbr-one", {"OFFLINE_NTFSRESIZE_NOCHECK": "yes"}
    ),
    "server-2008r2-mbr": Case(
        "phony-windows-server-2008r2",
        "phony-windows-mbr",
        {"OFFLINE_NTFSRESIZE": "yes", "OFFLINE_NTFSRESIZE_NOCHECK": "yes"},
    ),
    "server-2025-gpt": Case("phony-windows-server-2025", "phony-windows-gpt-recovery-first", {}),
}


@dataclass(frozen=True)
class Deployed:
    """A disk after the first run; `before` and `after` are trees: what was on C:, and what is there now."""

    case: Case
    layout: WindowsDisk
    disk: Path
    outcome: Outcome
    before: Path
    after: Path
    number: int

    def file(self, path: str) -> bytes:
        """A file of C:, its name in lower case as all are there."""
        return (self.after / path.lower().lstrip("/")).read_bytes()

    def text(self, path: str) -> str:
        return self.file(path).decode()


def copy_of(disk: Path, number: int, scratch: Path) -> Path:
    """A partition as a file of its own."""
    found = partition_table(disk).partition(number)
    skip = ["bs=1M", f"skip={found.offset}", f"count={found.length}", "iflag=skip_bytes,count_bytes", "conv=sparse"]
    sh("dd", f"if={disk}", f"of={scratch / 'volume'}", *skip)
    return scratch / "volume"


def contents(volume: Path, scratch: Path) -> Path:
    """What is on an NTFS, copied into a new directory with the times of change; the volume is left alone."""
    tree = scratch / f"tree-{len(list(scratch.iterdir()))}"
    with private_mounts(), written_to(volume, scratch / "place", "ignore_case,ro") as place:
        sh("cp", "-r", "--preserve=timestamps", str(place), str(tree))
    return tree


def listing(tree: Path) -> dict[str, tuple[int, str]]:
    """Time of change and checksum of each file."""
    return {
        str(path.relative_to(tree)): (os.stat(path).st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in tree.rglob("*")
        if path.is_file()
    }


def run(provider: Provider, case: Case, disk: Path, image: str) -> Outcome:
    files = [{"path": path, "contents": base64.b64encode(text).decode()} for path, text in PERSONALITY.items()]
    parameters = {
        "img_id": image,
        "img_format": "diskdump",
        "img_passwd": case.password,
        "img_properties": case.properties,
        "img_personality": files,
    }
    return provider.run(Instance(NAME, (disk,), (CARD,), parameters))


@pytest.fixture(scope="module", params=CASES)
def deployed(
    request: pytest.FixtureRequest, provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """Each case once, found without a property."""
    case = CASES[request.param]
    directory = tmp_path_factory.mktemp(request.param)
    tree = PHONY_WINDOWS[case.phony].make(directory / "c")
    (tree / "License.rtf").write_text("theirs")
    image = provider.images / "windows.diskdump"
    layout = make_windows_disk(image, case.layout, tree)
    disk = directory / "disk"
    disk.touch()
    os.truncate(disk, layout.size + GROWTH)
    number = layout.number(Role.WINDOWS)
    try:
        before = contents(copy_of(image, number, directory), directory)
        outcome = run(provider, case, disk, "windows.diskdump")
        assert outcome.code == 0, outcome.log
        after = contents(copy_of(disk, number, directory), directory)
        yield Deployed(case, layout, disk, outcome, before, after, number)
    finally:
        image.unlink()
        shutil.rmtree(directory)


@pytest.mark.guest(family="Windows", version="Server 2003", stack="startup script", boot="not started", proven="tree")
@pytest.mark.guest(family="Windows", version="Server 2008 R2", stack="answer file", boot="not started", proven="tree")
@pytest.mark.guest(family="Windows", version="Server 2025", stack="answer file", boot="not started", proven="tree")
@pytest.mark.row(113)
def test_its_family_and_its_c_are_found(deployed: Deployed) -> None:
    family = "windows-legacy" if deployed.case.is_legacy else "windows"
    assert f"Property OSFAMILY is not given: found {family}\n" in deployed.outcome.log
    assert f"Property ROOT_PARTITION is not given: found {deployed.number}\n" in deployed.outcome.log


def test_no_task_of_other_families_is_told_of(deployed: Deployed) -> None:
    told = {message["task"] for message in deployed.outcome.messages if message.get("subtype") == "task-start"}
    assert {"InstallUnattend", "AssignHostname", "ChangePassword", "EnforcePersonality"} <= told
    assert not told & {"ChangeMachineId", "SELinuxAutorelabel", "DeleteSSHKeys", "AddSwap"}


@pytest.mark.row(119, 120)
def test_c_fills_the_disk_and_the_other_partitions_stay(deployed: Deployed) -> None:
    check_table(deployed.disk)
    *others, c = sorted(partition_table(deployed.disk).partitions, key=lambda item: item.start)
    assert c.number == deployed.number
    assert c.end == deployed.disk.stat().st_size // 512 - 2049
    assert [(item.start, item.size) for item in others] == [
        (piece.start, piece.mib * 2048) for piece in deployed.layout.pieces[:-1]
    ]


@pytest.mark.row(131, 144)
def test_the_ntfs_is_sound_and_as_large_as_it_is_to_be(deployed: Deployed, tmp_path: Path) -> None:
    volume = copy_of(deployed.disk, deployed.number, tmp_path)
    told = sh("ntfsinfo", "--force", "--mft", str(volume))
    clusters = int(told.split("Volume Size in Clusters: ")[1].split()[0])
    is_offline = deployed.case.is_legacy or "OFFLINE_NTFSRESIZE" in deployed.case.properties
    length = partition_table(deployed.disk).partition(deployed.number).length
    expected = length if is_offline else length - GROWTH
    assert expected - 3 * 4096 <= clusters * 4096 <= expected
    assert "Volume Flags: 0x0000" in told
    if not is_offline:  # then the copy of the boot sector, which is looked for at the end, comes before it
        with volume.open("rb") as file:
            sectors = int.from_bytes(file.read(48)[40:], "little")
        os.truncate(volume, (sectors + 1) * 512)
    sh("ntfsfix", "--no-action", str(volume))


@pytest.mark.row(130)
def test_setup_extends_c_where_it_has_not_grown_yet(deployed: Deployed) -> None:
    is_online = not deployed.case.is_legacy and not deployed.case.properties
    expected = "select volume C\r\nextend filesystem noerr\r\nexit\r\n" if is_online else "exit\r\n"
    assert deployed.text("/Windows/SnfScripts/ExtendFilesystem") == expected


@pytest.mark.row(163)
def test_personality_files_are_there_and_what_was_there_is_beside_them(deployed: Deployed) -> None:
    for path, content in PERSONALITY.items():
        assert deployed.file(path) == content
    (backup,) = deployed.after.glob("license.rtf.bak.*")
    assert backup.read_text() == "theirs"


@pytest.mark.row(146, 149, 158)
def test_setup_is_told_name_and_password_in_the_documented_form(deployed: Deployed) -> None:
    if deployed.case.is_legacy:
        assert "ComputerName=web-1" in deployed.text("/sysprep/sysprep.inf")
        return
    answers = deployed.file("/unattend.xml")
    assert faults(answers, (6, 1) if "2008r2" in deployed.case.phony else (10, 0)) == []
    assert value(answers, "specialize/Shell-Setup/ComputerName") == ["web-1"]
    (hidden,) = value(answers, "oobeSystem/Shell-Setup/UserAccounts/AdministratorPassword/Value")
    assert base64.b64decode(hidden).decode("utf-16-le") == f"{PASSWORD}AdministratorPassword"
    assert deployed.case.password not in deployed.outcome.log


@pytest.mark.row(160)
def test_rdp_is_denied_until_setup_is_done(deployed: Deployed) -> None:
    (hive,) = deployed.after.glob("windows/system32/config/system")
    assert '"fDenyTSConnections"=dword:00000001' in exported(hive, r"ControlSet001\Control\Terminal Server")
    restored = "reg add .*fDenyTSConnections /t REG_DWORD /d 0 /f"
    assert re.search(restored, deployed.text("/Windows/Setup/Scripts/SetupComplete.cmd"))


@pytest.mark.row(185)
def test_the_card_gets_its_address(deployed: Deployed) -> None:
    if deployed.case.is_legacy:
        assert 'EnableStatic Array("192.0.2.7")' in deployed.text("/Windows/SnfScripts/ConfigureNetwork.vbs")
        return
    interface = "specialize/TCPIP/Interfaces/Interface"
    answers = deployed.file("/unattend.xml")
    assert value(answers, f"{interface}/Identifier") == ["AA-00-00-00-00-01"]
    assert value(answers, f"{interface}/UnicastIpAddresses/IpAddress") == ["192.0.2.7/24"]
    assert value(answers, f"{interface}/Routes/Route/NextHopAddress") == ["192.0.2.1"]


def test_nothing_else_on_c_has_changed(deployed: Deployed) -> None:
    before, after = listing(deployed.before), listing(deployed.after)
    ours = ("windows/snfscripts/", "windows/setup/scripts/", "windows/system32/config/", "license.rtf", "users/public/")
    own = ("unattend.xml", "sysprep/")
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    assert [name for name in changed if not name.startswith((*ours, *own))] == []
    assert not [name for name in after if "snf-image" in name]


def test_a_second_run_changes_nothing(deployed: Deployed, provider: Provider, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    sh("cp", "--sparse=always", str(deployed.disk), str(disk))
    outcome = run(provider, deployed.case, disk, "null")
    assert outcome.code == 0, outcome.log
    assert listing(contents(copy_of(disk, deployed.number, tmp_path), tmp_path)) == listing(deployed.after)
