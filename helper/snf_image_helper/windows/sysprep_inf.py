# SPDX-License-Identifier: GPL-2.0-or-later
"""sysprep.inf, the answer file of XP and 2003: Mini-Setup reads it from C:\\sysprep and then removes the directory.

Source: Microsoft, ref.chm of deploy.cab ("Sysprep.inf", "[Unattended]", "[GuiUnattended]", "Cmdlines.txt").
"""

from __future__ import annotations

from hashlib import sha256

from snf_image_helper.base64_text import decoded
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.windows.ini_file import IniFile
from snf_image_helper.windows.places import located, write_secret
from snf_image_helper.windows.setup_scripts import CHANGE_PASSWORD, SCRIPTS, SETUP_COMPLETE
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

SYSPREP_INF = "/sysprep/sysprep.inf"
IGNORE = "IGNORE_UNATTEND"
_INSTALL_FILES = r"C:\sysprep\i386"
_LONGEST_PASSWORD = 127
_OWN_PASSWORD = frozenset({"", "*"})
# What Mini-Setup would else ask for.
_TEMPLATE = (
    ("Unattended", "OemSkipEula", "Yes"),
    ("GuiUnattended", "OEMSkipRegional", "1"),
    ("GuiUnattended", "OemSkipWelcome", "1"),
    ("GuiUnattended", "TimeZone", "90"),
    ("UserData", "FullName", "User"),
    ("UserData", "OrgName", "Organization"),
    ("UserData", "ComputerName", "*"),
    ("Identification", "JoinWorkgroup", "WORKGROUP"),
    ("Networking", "InstallDefaultComponents", "Yes"),
)


def install(guest: Guest, job: Job, report: Reporter) -> None:
    """Put the answer file where Mini-Setup looks for it, and let it run our scripts. Raises GuestError.

    The user's is taken, else the image's own, unless IGNORE_UNATTEND is set, else what needs no answers.
    """
    answers = _source(guest, job, report)
    path = answers.value("Unattended", "InstallFilesPath") or _INSTALL_FILES
    directory = _install_files(path)
    answers.set("Unattended", "InstallFilesPath", path)
    if job.secrets.product_key:
        answers.set("UserData", "ProductKey", job.secrets.product_key)
    write(guest, answers)
    _run_at_end(guest, directory, f"{SCRIPTS}/{CHANGE_PASSWORD}", SETUP_COMPLETE)


def read(guest: Guest) -> IniFile:
    """The guest's. Raises GuestError when InstallUnattend has put none there."""
    path = located(guest, SYSPREP_INF)
    content = guest.read_bytes(path, missing_ok=True)
    if content is None:
        raise GuestError(f"{path}: does not exist; let InstallUnattend run, or put one into the image")
    return IniFile(content, path)


def write(guest: Guest, answers: IniFile) -> None:
    """Put it in its place; it may hold passwords, and Mini-Setup removes it."""
    guest.make_directory(located(guest, SYSPREP_INF.rpartition("/")[0]))
    write_secret(guest, located(guest, SYSPREP_INF), answers.content)


def set_computer_name(guest: Guest, name: str) -> None:
    """Name the guest; the caller has checked the name."""
    answers = read(guest)
    answers.set("UserData", "ComputerName", name)
    write(guest, answers)


def set_time_zone(guest: Guest, zone: str) -> None:
    """`zone` is Windows' name. Raises GuestError for one that XP did not have."""
    number = _TIME_ZONES.get(zone)
    if number is None:
        raise GuestError(f"the time zone {zone!r} is younger than this Windows; choose an older one of its region")
    answers = read(guest)
    answers.set("GuiUnattended", "TimeZone", f"{number:03d}")
    write(guest, answers)


def set_administrator_password(guest: Guest, password: str) -> None:
    """Answer Mini-Setup's question for it, unless the image does: it only sets one where there is none.

    What the user asked for is set by ChangeAdminPassword.cmd in any case.
    """
    if len(password) > _LONGEST_PASSWORD:
        raise GuestError(f"the password is longer than {_LONGEST_PASSWORD} characters; choose a shorter one")
    answers = read(guest)
    if (answers.value("GuiUnattended", "AdminPassword") or "") in _OWN_PASSWORD:
        answers.set("GuiUnattended", "AdminPassword", password)
        answers.set("GuiUnattended", "EncryptedAdminPassword", "No")
        write(guest, answers)


def _source(guest: Guest, job: Job, report: Reporter) -> IniFile:
    path = located(guest, SYSPREP_INF)
    content = guest.read_bytes(path, missing_ok=True)
    own = None if content is None else IniFile(content, path)
    wanted = _wanted(job)
    if own is not None and own.mark == wanted.mark:
        return own  # an earlier run's, which other tasks have gone on with
    replaced = job.secrets.answer_file is not None or job.wishes.flag(IGNORE)
    if own is not None and own.mark is None and not replaced:
        report.warning(f"The image's own answer file {path} is kept; {IGNORE}=yes would replace it")
        return own
    return wanted


def _wanted(job: Job) -> IniFile:
    """The user's, or one that leaves no question open. The node's is XML, which none of these versions reads."""
    if job.secrets.answer_file is not None:
        answers = IniFile(decoded(job.secrets.answer_file, "os_answer_file", "file"), "os_answer_file")
    else:
        answers = IniFile(b"", "sysprep.inf")
        for section, name, value in _TEMPLATE:
            answers.set(section, name, value)
        if (zone := _TIME_ZONES.get(job.windows_timezone)) is not None:
            answers.set("GuiUnattended", "TimeZone", f"{zone:03d}")
    answers.set_mark(sha256(answers.content).hexdigest()[:16])
    return answers


def _install_files(path: str) -> str:
    """As a path of the guest. Raises GuestError for one that Mini-Setup would not remove afterwards."""
    parts = path.replace("/", "\\").rstrip("\\").split("\\")
    if [part.casefold() for part in parts[:2]] != ["c:", "sysprep"] or {"", ".", ".."} & set(parts):
        raise GuestError(rf"sysprep.inf: InstallFilesPath {path[:80]!r} is not below C:\sysprep; correct it")
    return "/" + "/".join(parts[1:])


def _run_at_end(guest: Guest, directory: str, *scripts: str) -> None:
    r"""Mini-Setup runs the lines of $OEM$\CmdLines.txt when it is done, as SYSTEM, before anybody can log on."""
    folder = located(guest, f"{directory}/$OEM$")
    path = located(guest, f"{folder}/cmdlines.txt")
    commands = IniFile(guest.read_bytes(path, missing_ok=True) or b"", path)
    for script in scripts:
        place = "C:" + located(guest, script).replace("/", "\\")
        commands.add_line("Commands", f'"cmd.exe /c {place}"')
    guest.make_directory(folder)
    guest.write_bytes(path, commands.content)


# Microsoft, "Time Zone Index Values": of Windows' names for them.
_TIME_ZONES = {
    "Dateline Standard Time": 0, "Samoa Standard Time": 1, "Hawaiian Standard Time": 2, "Alaskan Standard Time": 3,
    "Pacific Standard Time": 4, "Mountain Standard Time": 10, "Mountain Standard Time (Mexico)": 13,
    "US Mountain Standard Time": 15, "Central Standard Time": 20, "Canada Central Standard Time": 25,
    "Central Standard Time (Mexico)": 30, "Central America Standard Time": 33, "Eastern Standard Time": 35,
    "US Eastern Standard Time": 40, "SA Pacific Standard Time": 45, "Atlantic Standard Time": 50,
    "SA Western Standard Time": 55, "Pacific SA Standard Time": 56, "Newfoundland Standard Time": 60,
    "E. South America Standard Time": 65, "SA Eastern Standard Time": 70, "Greenland Standard Time": 73,
    "Mid-Atlantic Standard Time": 75, "Azores Standard Time": 80, "Cape Verde Standard Time": 83,
    "GMT Standard Time": 85, "Greenwich Standard Time": 90, "UTC": 90, "Central Europe Standard Time": 95,
    "Central European Standard Time": 100, "Romance Standard Time": 105, "W. Europe Standard Time": 110,
    "W. Central Africa Standard Time": 113, "E. Europe Standard Time": 115, "Egypt Standard Time": 120,
    "FLE Standard Time": 125, "GTB Standard Time": 130, "Israel Standard Time": 135, "South Africa Standard Time": 140,
    "Russian Standard Time": 145, "Arab Standard Time": 150, "E. Africa Standard Time": 155,
    "Arabic Standard Time": 158, "Iran Standard Time": 160, "Arabian Standard Time": 165,
    "Caucasus Standard Time": 170, "Afghanistan Standard Time": 175, "Ekaterinburg Standard Time": 180,
    "West Asia Standard Time": 185, "India Standard Time": 190, "Nepal Standard Time": 193,
    "Central Asia Standard Time": 195, "Sri Lanka Standard Time": 200, "N. Central Asia Standard Time": 201,
    "Myanmar Standard Time": 203, "SE Asia Standard Time": 205, "North Asia Standard Time": 207,
    "China Standard Time": 210, "Singapore Standard Time": 215, "Taipei Standard Time": 220,
    "W. Australia Standard Time": 225, "North Asia East Standard Time": 227, "Korea Standard Time": 230,
    "Tokyo Standard Time": 235, "Yakutsk Standard Time": 240, "AUS Central Standard Time": 245,
    "Cen. Australia Standard Time": 250, "AUS Eastern Standard Time": 255, "E. Australia Standard Time": 260,
    "Tasmania Standard Time": 265, "Vladivostok Standard Time": 270, "West Pacific Standard Time": 275,
    "Central Pacific Standard Time": 280, "Fiji Standard Time": 285, "New Zealand Standard Time": 290,
    "Tonga Standard Time": 300,
}  # fmt: skip
