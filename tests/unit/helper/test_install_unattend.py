# SPDX-License-Identifier: GPL-2.0-or-later
"""InstallUnattend over phony Windows since Vista: which answer file is used, what is in it, and what Setup runs."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from images.hives import Key, make_hive
from phony_windows import PHONY_WINDOWS, PhonyWindows, security_accounts
from snf_image_helper.guest import Guest
from snf_image_helper.tasks.windows import assign_hostname, change_password, install_unattend
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job, Secrets
from unit.helper.disk_images import Listener
from unit.helper.guest_trees import JOB, perform, put
from unit.helper.unattend_structure import faults, value
from unit.helper.windows_guests import SERVER, XP, exported, hive_file, snapshot, windows_guest

GOLDEN = Path(__file__).parents[2] / "golden_windows"
MODERN = [name for name, phony in PHONY_WINDOWS.items() if not phony.legacy]
ARCHITECTURES = ("AMD64", "x86", "ARM64")
HEAD = '<unattend xmlns="urn:schemas-microsoft-com:unattend">'
IDENTITY = 'processorArchitecture="amd64" publicKeyToken="31bf3856ad364e35" language="neutral" versionScope="nonSxS"'
KEY = "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"
CANARY = "c4n4ry-Sw0rdf1sh"
PANTHER = "Windows/Panther/unattend.xml"
COMMANDS = [
    r"cmd.exe /c %WINDIR%\SnfScripts\ChangeAdminPassword.cmd",
    r"cmd.exe /c diskpart.exe /s %WINDIR%\SnfScripts\ExtendFilesystem",
]


def named(name: str, pass_: str = "specialize", marks: str = "") -> str:
    """An answer file that says who it is."""
    return (
        f'{HEAD}<settings pass="{pass_}"{marks}><component name="Microsoft-Windows-Shell-Setup" {IDENTITY}>'
        f"<RegisteredOwner>{name}</RegisteredOwner></component></settings></unattend>"
    )


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def asking(secrets: Mapping[str, str] | None = None, /, **properties: str) -> Job:
    return replace(JOB, secrets=Secrets(**(secrets or {})), properties=properties, windows_timezone="GTB Standard Time")


def installed(guest: Guest, job: Job) -> bytes:
    perform(install_unattend.TASK, guest, job)
    return answers(guest)


def answers(guest: Guest) -> bytes:
    return Path(guest.root, "unattend.xml").read_bytes()


def owner(guest: Guest) -> list[str]:
    return value(answers(guest), "specialize/Shell-Setup/RegisteredOwner")


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return windows_guest(tmp_path / "c")


@pytest.mark.guest(family="Windows", version="8.1", stack="answer file", boot="not started", proven="tree")
@pytest.mark.guest(family="Windows", version="10", stack="answer file", boot="not started", proven="tree")
@pytest.mark.guest(family="Windows", version="11", stack="answer file", boot="not started", proven="tree")
@pytest.mark.guest(family="Windows", version="Server 2016", stack="answer file", boot="not started", proven="tree")
@pytest.mark.guest(family="Windows", version="Server 2019", stack="answer file", boot="not started", proven="tree")
@pytest.mark.guest(family="Windows", version="Server 2022", stack="answer file", boot="not started", proven="tree")
@pytest.mark.parametrize("name", MODERN)
def test_an_image_without_an_answer_file_gets_one_that_asks_nothing(tmp_path: Path, name: str) -> None:
    guest = windows_guest(tmp_path / "c", PHONY_WINDOWS[name])
    job = asking({"product_key": KEY, "password": "Sw0rdf1sh!"})
    for task in (install_unattend.TASK, assign_hostname.TASK, change_password.TASK):
        perform(task, guest, job)
    assert answers(guest).decode() == (GOLDEN / f"{name}.xml").read_text()


@pytest.mark.parametrize("name", MODERN)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_has_what_that_windows_knows_in_the_documented_structure(
    tmp_path: Path, name: str, architecture: str
) -> None:
    phony = replace(PHONY_WINDOWS[name], architecture=architecture)
    content = installed(windows_guest(tmp_path / "c", phony), asking({"password": "Sw0rdf1sh!"}))
    major, minor = (phony.major, 0) if phony.major else map(int, phony.version.split("."))
    assert faults(content, (major, minor)) == []
    shell = "oobeSystem/Shell-Setup/OOBE"
    assert value(content, f"{shell}/HideEULAPage", architecture.lower()) == ["true"]
    skipped = ["true"] if phony.installation == "Client" else []
    assert value(content, f"{shell}/SkipMachineOOBE", architecture.lower()) == skipped


def test_a_client_that_nobody_could_log_on_to_asks_for_an_account(tmp_path: Path) -> None:
    content = installed(windows_guest(tmp_path / "c", PHONY_WINDOWS["phony-windows-10"]), asking())
    assert value(content, "oobeSystem/Shell-Setup/OOBE/SkipMachineOOBE") == []
    assert faults(content) == []


def test_the_structure_that_is_held_to_is_the_documented_one() -> None:
    good = named("x").replace("amd64", "x86")
    assert faults(good.encode()) == []
    for bad in (
        good.replace("specialize", "windowsPE"),
        good.replace("Shell-Setup", "Deployment"),
        good.replace("RegisteredOwner", "Owner"),
        good.replace('language="neutral"', ""),
        good.replace("x86", "i386"),
        good.replace(">x<", "><b/><"),
    ):
        assert faults(bad.encode()), bad


@pytest.mark.parametrize(
    ("name", "known"), [("phony-windows-10", False), ("phony-windows-11", True), ("phony-windows-server-2025", False)]
)
def test_a_client_since_windows_11_neither_encrypts_its_disk_nor_asks_for_the_internet(
    tmp_path: Path, name: str, known: bool
) -> None:
    content = installed(windows_guest(tmp_path / "c", PHONY_WINDOWS[name]), asking())
    commands = " ".join(value(content, "specialize/Deployment/RunSynchronous/RunSynchronousCommand/Path"))
    assert ("PreventDeviceEncryption /t REG_DWORD /d 1" in commands, "BypassNRO /t REG_DWORD /d 1" in commands) == (
        known, known,
    )  # fmt: skip


@pytest.mark.row(158)
@pytest.mark.parametrize("place", ["unattend.xml", "autounattend.xml", "Unattend.XML"])
def test_an_images_own_file_at_c_is_kept(guest: Guest, place: str) -> None:
    put(Path(guest.root), {place: named("image")})
    listener = perform(install_unattend.TASK, guest, asking({"node_answer_file": encoded(named("node"))}))
    assert [path.name.lower() for path in Path(guest.root).glob("*.[xX][mM][lL]")] == ["unattend.xml"]
    (kept,) = (path for path in Path(guest.root).iterdir() if path.name.lower() == "unattend.xml")
    assert value(kept.read_bytes(), "specialize/Shell-Setup/RegisteredOwner") == ["image"]
    assert listener.warnings == [f"The image's own answer file /{place} is kept; IGNORE_UNATTEND=yes would replace it"]


@pytest.mark.row(158)
@pytest.mark.parametrize(
    ("secrets", "properties", "wanted"),
    [
        ({}, {"IGNORE_UNATTEND": "yes"}, []),
        ({"node_answer_file": encoded(named("node"))}, {}, ["image"]),
        ({"node_answer_file": encoded(named("node"))}, {"IGNORE_UNATTEND": "yes"}, ["node"]),
        ({"answer_file": encoded(named("user")), "node_answer_file": encoded(named("node"))}, {}, ["user"]),
    ],
    ids=["ours", "image", "node", "user"],
)
def test_the_users_file_comes_before_the_images_and_that_before_the_nodes(
    guest: Guest, secrets: dict[str, str], properties: dict[str, str], wanted: list[str]
) -> None:
    put(Path(guest.root), {"unattend.xml": named("image"), PANTHER: named("panther")})
    perform(install_unattend.TASK, guest, asking(secrets, **properties))
    assert owner(guest) == wanted
    assert not Path(guest.root, PANTHER).exists()


@pytest.mark.row(158)
@pytest.mark.parametrize(
    "place", [PANTHER, "Windows/Panther/Unattend/autounattend.xml", "Windows/System32/Sysprep/unattend.xml"]
)
def test_a_file_that_setup_would_find_before_ours_is_the_images_own(guest: Guest, place: str) -> None:
    done = named("done", "generalize", ' wasPassProcessed="true"').removesuffix("</unattend>")
    put(Path(guest.root), {place: done + named("image").removeprefix(HEAD)})
    installed(guest, asking())
    assert owner(guest) == ["image"]
    assert b"done" not in answers(guest)
    assert not Path(guest.root, place).exists()


def test_a_copy_that_setup_is_done_with_is_nobodys_own(guest: Guest) -> None:
    put(Path(guest.root), {PANTHER: named("installation", marks=' wasPassProcessed="true"')})
    listener = perform(install_unattend.TASK, guest, asking())
    assert listener.warnings == []
    assert owner(guest) == []
    assert not Path(guest.root, PANTHER).exists()


def test_the_file_that_the_registry_names_is_the_images_own_and_it_names_ours_then(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c")
    hive = hive_file(guest, "SYSTEM")
    make_hive(hive, {**SERVER.system, "Setup": {"UnattendFile": r"C:\prepared\answers.xml"}})
    put(Path(guest.root), {"prepared/answers.xml": named("image"), PANTHER: named("panther")})
    installed(guest, asking())
    assert owner(guest) == ["image"]
    assert not Path(guest.root, "prepared/answers.xml").exists()
    text = exported(hive, "Setup")
    assert "".join(f"{ord(letter):02x},00," for letter in "C:\\unattend.xml") in text.replace("\\\n", "").replace(
        " ", ""
    )


@pytest.mark.row(158)
def test_a_second_run_of_all_tasks_changes_nothing(guest: Guest) -> None:
    job = asking({"answer_file": encoded(named("user")), "password": "Sw0rdf1sh!"}, TIMEZONE="Europe/Athens")
    tasks = (install_unattend.TASK, assign_hostname.TASK, change_password.TASK)
    for task in tasks:
        perform(task, guest, job)
    before, content = snapshot(guest.root), answers(guest)
    for task in tasks:
        perform(task, guest, job)
    assert snapshot(guest.root) == before
    assert answers(guest) == content


@pytest.mark.row(158)
def test_setup_runs_our_scripts_once_behind_the_images_own(guest: Guest) -> None:
    own = (
        f'{HEAD}<settings pass="specialize"><component name="Microsoft-Windows-Deployment" {IDENTITY}><RunSynchronous>'
        "<RunSynchronousCommand><Order>1</Order><Path>own.exe</Path></RunSynchronousCommand></RunSynchronous>"
        "</component></settings></unattend>"
    )
    put(Path(guest.root), {"unattend.xml": own})
    for _ in range(2):
        content = installed(guest, asking())
    command = "specialize/Deployment/RunSynchronous/RunSynchronousCommand"
    assert value(content, f"{command}/Path") == ["own.exe", *COMMANDS]
    assert value(content, f"{command}/Order") == ["1", "2", "3"]


def test_the_scripts_do_nothing_until_a_task_fills_them_and_are_removed_in_the_end(guest: Guest) -> None:
    perform(install_unattend.TASK, guest, asking())
    scripts = Path(guest.root, "Windows/SnfScripts")
    assert {path.name: path.read_bytes() for path in scripts.iterdir()} == {
        "ChangeAdminPassword.cmd": b"@echo off\r\n",
        "ExtendFilesystem": b"exit\r\n",
    }
    assert Path(guest.root, "Windows/Setup/Scripts/SetupComplete.cmd").read_bytes().decode().split("\r\n") == [
        "@echo off",
        "rem snf-image: begin",
        "rem snf-image: removal",
        r'del /f /q "%WINDIR%\SnfScripts\ExtendFilesystem"',
        r'echo. > "%WINDIR%\SnfScripts\ChangeAdminPassword.cmd"',
        r'del /f /q "%WINDIR%\SnfScripts\ChangeAdminPassword.cmd"',
        r'rmdir /s /q "%WINDIR%\SnfScripts"',
        r'del /f /q "%SystemDrive%\unattend.xml"',
        r'del /f /q "%WINDIR%\Panther\unattend.xml"',
        r'del /f /q "%WINDIR%\Panther\unattend-original.xml"',
        "rem snf-image: end",
        "",
    ]


def test_a_script_that_a_task_has_filled_stays(guest: Guest) -> None:
    put(Path(guest.root), {"Windows/SnfScripts/ExtendFilesystem": "select disk 0\r\n"})
    perform(install_unattend.TASK, guest, asking())
    assert Path(guest.root, "Windows/SnfScripts/ExtendFilesystem").read_bytes() == b"select disk 0\r\n"


@pytest.mark.row(158)
def test_key_owner_and_time_zone_go_into_whichever_file_is_used(guest: Guest) -> None:
    put(Path(guest.root), {"unattend.xml": named("image")})
    job = asking(
        {"product_key": KEY}, TIMEZONE="Europe/Berlin", REGISTERED_OWNER="A & B", REGISTERED_ORGANIZATION="<C>"
    )
    content = installed(guest, job)
    shell = "specialize/Shell-Setup"
    assert value(content, f"{shell}/ProductKey") == [KEY]
    assert value(content, f"{shell}/TimeZone") == ["W. Europe Standard Time"]
    assert value(content, f"{shell}/RegisteredOwner") == ["A & B"]
    assert value(content, f"{shell}/RegisteredOrganization") == ["<C>"]
    assert faults(content) == []


def test_without_a_property_the_images_own_time_zone_stays_and_ours_has_the_nodes(guest: Guest, tmp_path: Path) -> None:
    put(Path(guest.root), {"unattend.xml": named("image")})
    assert value(installed(guest, asking()), "specialize/Shell-Setup/TimeZone") == []
    other = windows_guest(tmp_path / "other")
    assert value(installed(other, asking()), "specialize/Shell-Setup/TimeZone") == ["GTB Standard Time"]


@pytest.mark.parametrize(
    ("properties", "wanted"),
    [
        ({"LOCALE": "de_CH.UTF-8"}, {"InputLocale": "de-CH", "SystemLocale": "de-CH", "UserLocale": "de-CH"}),
        ({"LOCALE": "fr_FR.UTF-8"}, {"UILanguage": "fr-FR", "InputLocale": "fr-FR"}),
        ({"LOCALE": "C", "KEYMAP": "de-latin1-nodeadkeys"}, {"UILanguage": "en-US", "InputLocale": "de-DE"}),
        ({"KEYMAP": "uk"}, {"InputLocale": "en-GB", "SystemLocale": "en-US"}),
        ({}, {"InputLocale": "en-US", "UILanguage": "en-US"}),
    ],
    ids=["not-there", "there", "both", "keyboard", "neither"],
)
def test_languages_are_those_that_the_image_speaks(
    tmp_path: Path, properties: dict[str, str], wanted: dict[str, str]
) -> None:
    content = installed(speaking(tmp_path, "en-US", "fr-FR"), asking(**properties))
    found = {name: value(content, f"oobeSystem/International-Core/{name}")[0] for name in wanted}
    assert found == wanted
    assert faults(content) == []


def test_an_image_in_one_language_has_that_one(tmp_path: Path) -> None:
    content = installed(speaking(tmp_path, "el-GR"), asking())
    assert value(content, "oobeSystem/International-Core/UILanguage") == ["el-GR"]


def test_a_language_that_is_not_in_the_image_is_told(tmp_path: Path) -> None:
    listener = perform(install_unattend.TASK, speaking(tmp_path, "en-US"), asking(LOCALE="de_DE.UTF-8"))
    assert listener.warnings == ["The image's Windows does not speak de-DE: it only counts and dates in its way"]


def speaking(tmp_path: Path, *languages: str) -> Guest:
    guest = windows_guest(tmp_path / "c")
    system = dict(SERVER.system)
    (control_set,) = (system[name] for name in system if name == "ControlSet001")
    assert isinstance(control_set, Mapping)
    control = control_set["Control"]
    assert isinstance(control, Mapping)
    spoken = {**control, "MUI": {"UILanguages": {name: {"LCID": 0} for name in languages}}}
    make_hive(hive_file(guest, "SYSTEM"), {**system, "ControlSet001": {**control_set, "Control": spoken}})
    return guest


@pytest.mark.row(39)
def test_a_zone_of_the_node_that_this_windows_does_not_have_is_a_warning(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c")
    zones: Key = {"Time Zones": {"UTC": {}, "GMT Standard Time": {}}}
    software: Key = {"Microsoft": {"Windows NT": {"CurrentVersion": zones}}}
    make_hive(hive_file(guest, "SOFTWARE"), merged(SERVER.software, software))
    listener = perform(install_unattend.TASK, guest, replace(asking(), windows_timezone="Mars Standard Time"))
    assert value(answers(guest), "specialize/Shell-Setup/TimeZone") == ["GMT Standard Time"]
    assert listener.warnings == [
        "The guest's Windows has no time zone Mars Standard Time (WINDOWS_TIMEZONE): GMT Standard Time is taken"
    ]


@pytest.mark.row(39)
def test_a_zone_that_this_windows_does_not_have_yet_is_refused(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c")
    software = SERVER.software
    zones: Key = {"Time Zones": {"UTC": {}, "GTB Standard Time": {}}}
    make_hive(hive_file(guest, "SOFTWARE"), merged(software, {"Microsoft": {"Windows NT": {"CurrentVersion": zones}}}))
    before = snapshot(guest.root)
    with pytest.raises(
        GuestError, match=r"^property TIMEZONE: the guest's Windows does not have 'Yukon Standard Time'"
    ):
        perform(install_unattend.TASK, guest, asking(TIMEZONE="America/Whitehorse"))
    assert snapshot(guest.root) == before
    installed(guest, asking(TIMEZONE="Europe/Athens"))


def merged(one: Key, other: Key) -> Key:
    result = dict(one)
    for name, item in other.items():
        old = result.get(name)
        result[name] = merged(old, item) if isinstance(old, Mapping) and isinstance(item, Mapping) else item
    return result


@pytest.mark.row(159)
@pytest.mark.parametrize(
    "phony",
    [
        replace(SERVER, image_state="IMAGE_STATE_COMPLETE"),
        replace(SERVER, image_state="IMAGE_STATE_UNDEPLOYABLE"),
        replace(SERVER, image_state="IMAGE_STATE_SPECIALIZE_RESEAL_TO_OOBE"),
        replace(XP, mini_setup=False),
    ],
    ids=["complete", "undeployable", "specialized", "xp"],
)
def test_a_guest_that_sysprep_has_not_prepared_is_left_as_it_is(tmp_path: Path, phony: PhonyWindows) -> None:
    guest = windows_guest(tmp_path / "c", phony)
    before = snapshot(guest.root)
    with pytest.raises(GuestError, match="is not prepared for a deployment"):
        perform(install_unattend.TASK, guest, asking())
    assert snapshot(guest.root) == before


@pytest.mark.parametrize(
    ("secrets", "files", "fault"),
    [
        ({"answer_file": encoded(f"<a>{CANARY}")}, {}, "the file of os_answer_file: is no XML ("),
        ({"answer_file": f"{CANARY}!"}, {}, "the file of os_answer_file: has not come in base64"),
        ({"node_answer_file": encoded(f"<{CANARY}/>")}, {}, "the node's answer file (UNATTEND): its outermost"),
        ({}, {"unattend.xml": b"\0" * (2 << 20)}, "/unattend.xml: is larger than 1048576 bytes"),
        ({}, {"unattend.xml": "<!DOCTYPE x>" + named("x")}, "/unattend.xml: has a document type declaration"),
        ({}, {PANTHER: "junk"}, f"/{PANTHER}: is no XML"),
    ],
)
def test_an_answer_file_that_setup_could_not_read_is_refused_before_a_write(
    guest: Guest, secrets: dict[str, str], files: dict[str, str | bytes], fault: str
) -> None:
    put(Path(guest.root), files)
    before = snapshot(guest.root)
    with pytest.raises(GuestError) as caught:
        perform(install_unattend.TASK, guest, asking(secrets))
    assert str(caught.value).startswith(fault)
    assert snapshot(guest.root) == before


def test_a_file_of_a_hundred_megabytes_is_refused_unread(guest: Guest) -> None:
    place = Path(guest.root, "unattend.xml")
    place.touch()
    os.truncate(place, 100 << 20)
    with pytest.raises(GuestError, match="is larger than 1048576 bytes"):
        perform(install_unattend.TASK, guest, asking())


def test_what_is_wrong_with_a_file_can_be_got_rid_of_by_ignoring_it(guest: Guest) -> None:
    put(Path(guest.root), {"unattend.xml": "junk", PANTHER: "junk"})
    assert faults(installed(guest, asking(IGNORE_UNATTEND="yes"))) == []
    assert not Path(guest.root, PANTHER).exists()


def test_secrets_are_where_setup_reads_them_and_nowhere_else(guest: Guest) -> None:
    secrets = {"product_key": CANARY, "password": f"{CANARY}!", "answer_file": encoded(named(CANARY))}
    listener = Listener()
    for task in (install_unattend.TASK, assign_hostname.TASK, change_password.TASK):
        task.run(guest, asking(secrets), listener.reporter)
    found = {
        path.relative_to(guest.root).as_posix()
        for path in Path(guest.root).rglob("*")
        if path.is_file() and CANARY.encode() in path.read_bytes()
    }
    assert found == {"unattend.xml", "Windows/SnfScripts/ChangeAdminPassword.cmd"}
    assert not any(CANARY in event.text for event in listener.events)
    removal = Path(guest.root, "Windows/Setup/Scripts/SetupComplete.cmd").read_text()
    assert r'del /f /q "%SystemDrive%\unattend.xml"' in removal
    assert r'del /f /q "%WINDIR%\SnfScripts\ChangeAdminPassword.cmd"' in removal


@pytest.mark.parametrize(
    ("properties", "fault"),
    [
        ({"TIMEZONE": "Europe/Nowhere"}, "property TIMEZONE: 'Europe/Nowhere' is no time zone that Windows has"),
        ({"LOCALE": "x"}, "property LOCALE: 'x' is no locale"),
        ({"KEYMAP": "dvorak\x1b"}, "property KEYMAP: 'dvorak"),
    ],
)
def test_what_no_windows_has_is_refused_by_the_plan(properties: dict[str, str], fault: str) -> None:
    with pytest.raises(GuestError) as caught:
        install_unattend.TASK.skip(asking(**properties))
    assert str(caught.value).startswith(fault)
    assert str(caught.value).isprintable()


def test_no_guest_of_another_family_waits_for_what_reads_xml() -> None:
    program = "import sys, snf_image_helper.customize; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "snf_image_helper" in loaded
    assert not {"xml", "jinja2", "hivex"} & loaded


def test_a_client_with_an_account_of_its_own_asks_for_none(tmp_path: Path) -> None:
    guest = windows_guest(tmp_path / "c", PHONY_WINDOWS["phony-windows-10"])
    make_hive(hive_file(guest, "SAM"), security_accounts("Ann"))
    assert value(installed(guest, asking()), "oobeSystem/Shell-Setup/OOBE/SkipMachineOOBE") == ["true"]
