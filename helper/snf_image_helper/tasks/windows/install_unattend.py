# SPDX-License-Identifier: GPL-2.0-or-later
"""InstallUnattend: the answer file that Setup reads at the first boot, and the scripts that it runs.

Vista and later have unattend.xml, XP and 2003 sysprep.inf. Both run ChangeAdminPassword.cmd and let diskpart work off
ExtendFilesystem, which do nothing unless other tasks fill them, and SetupComplete.cmd, which removes all of it.
"""

from __future__ import annotations

from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import MOUNT_IMAGE, WINDOWS, CloudInit, Task
from snf_image_helper.windows import languages, sysprep_inf, time_zones
from snf_image_helper.windows.facts import Facts, facts
from snf_image_helper.windows.setup_scripts import (
    CHANGE_PASSWORD,
    EXTEND_FILESYSTEM,
    FOLDER,
    at_setup_complete,
    script,
    script_path,
    write_script,
)
from snf_image_helper.windows.sysprep_state import check_sysprep
from snf_image_shared.job import Job

OWNER, ORGANIZATION = "REGISTERED_OWNER", "REGISTERED_ORGANIZATION"
# Where copies of the answer file are when Setup is done; Windows 11 keeps one more.
_LEFTOVERS = (
    r"%SystemDrive%\unattend.xml",
    r"%WINDIR%\Panther\unattend.xml",
    r"%WINDIR%\Panther\unattend-original.xml",
)


def install_unattend(guest: Guest, job: Job, report: Reporter) -> None:
    """Nothing is written before all of it is known to be possible.

    Raises GuestError for a guest that sysprep has not prepared, and for an answer file that Setup could not read.
    """
    found = facts(guest)
    check_sysprep(found, guest.system.family)
    zone = _zone(guest, job)
    if found.legacy:
        sysprep_inf.install(guest, job, report)
        if zone:
            sysprep_inf.set_time_zone(guest, zone)
    else:
        _install(guest, job, found, zone, report)
    for name, lines in ((EXTEND_FILESYSTEM, ("exit",)), (CHANGE_PASSWORD, ("@echo off",))):
        if script(guest, name) is None:
            write_script(guest, name, lines)
    at_setup_complete(guest, *_removals(legacy=found.legacy), removal=True)


def _install(guest: Guest, job: Job, found: Facts, zone: str | None, report: Reporter) -> None:
    # Together they take longer to import than all else that a guest of another family needs.
    from snf_image_helper.windows import unattend  # noqa: PLC0415
    from snf_image_helper.windows.answer_file import (  # noqa: PLC0415
        INTERNATIONAL,
        SHELL_SETUP,
        Command,
        Component,
        Pass,
    )

    answers = unattend.choose(guest, job, found, report)
    shell = Component(Pass.SPECIALIZE, SHELL_SETUP, found.architecture)
    for name, value in (
        ("ProductKey", job.secrets.product_key),
        ("TimeZone", zone),
        ("RegisteredOwner", job.wishes.text(OWNER)),
        ("RegisteredOrganization", job.wishes.text(ORGANIZATION)),
    ):
        if value:
            answers.set_text(shell, (name,), value)
    international = Component(Pass.OOBE_SYSTEM, INTERNATIONAL, found.architecture)
    for name, value in _international(guest, job, report):
        answers.set_text(international, (name,), value)
    for line, description in (
        (f"cmd.exe /c {script_path(CHANGE_PASSWORD)}", "Set the passwords"),
        (f"cmd.exe /c diskpart.exe /s {script_path(EXTEND_FILESYSTEM)}", "Extend the file system"),
    ):
        answers.run_synchronously(found.architecture, Command(line, description))
    unattend.install(guest, answers)


def _international(guest: Guest, job: Job, report: Reporter) -> list[tuple[str, str]]:
    answers = []
    if locale := job.wishes.text(languages.LOCALE):
        language = languages.language(locale)
        answers += [("SystemLocale", language), ("UserLocale", language)]
        there = {name.casefold() for name in languages.installed(guest)}
        if language.casefold() in there or not there:
            answers.append(("UILanguage", language))
        else:
            report.warning(f"The image's Windows does not speak {language}: it only counts and dates in its way")
        answers.append(("InputLocale", language))
    if keymap := job.wishes.text(languages.KEYMAP):
        answers.append(("InputLocale", languages.input_locale(keymap)))
    return answers


def _zone(guest: Guest, job: Job) -> str | None:
    """Windows' name of the property TIMEZONE."""
    wanted = job.wishes.text(time_zones.PROPERTY)
    if not wanted:
        return None
    name = time_zones.check(wanted)
    time_zones.check_in(guest, name)
    return name


def _removals(*, legacy: bool) -> tuple[str, ...]:
    password = script_path(CHANGE_PASSWORD)
    return (
        f'del /f /q "{script_path(EXTEND_FILESYSTEM)}"',
        f'echo. > "{password}"',
        f'del /f /q "{password}"',
        f'rmdir /s /q "{FOLDER}"',
        *(() if legacy else (f'del /f /q "{path}"' for path in _LEFTOVERS)),
    )


def _skip(job: Job) -> str | None:
    for name, check in (
        (time_zones.PROPERTY, time_zones.check),
        (languages.LOCALE, languages.language),
        (languages.KEYMAP, languages.input_locale),
    ):
        if value := job.wishes.text(name):
            check(value)
    return None


TASK: Task[Guest] = Task(
    "InstallUnattend",
    install_unattend,
    families=WINDOWS,
    excludable=False,
    cloud_init=CloudInit.OFF,
    after=(MOUNT_IMAGE,),
    skip=_skip,
    decides="for what its version of Windows reads",
)
