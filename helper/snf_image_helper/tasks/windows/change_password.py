# SPDX-License-Identifier: GPL-2.0-or-later
"""ChangePassword: passwords of the users in the property USERS, or of the built-in administrator, and SSH keys.

ChangeAdminPassword.cmd sets them in the specialize pass. The administrator's, and those of accounts that the answer
file makes, are in that too: Setup would ask for the first, and sets the others itself. All of it is gone when Setup is.
"""

from __future__ import annotations

from dataclasses import dataclass

from snf_image_helper.files.guest_errors import shown
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import OsFamily
from snf_image_helper.task import MOUNT_IMAGE, WINDOWS, Task
from snf_image_helper.users.public_keys import parse_keys
from snf_image_helper.windows import ssh_keys, sysprep_inf
from snf_image_helper.windows.facts import facts
from snf_image_helper.windows.security_accounts import Accounts, accounts
from snf_image_helper.windows.setup_scripts import CHANGE_PASSWORD, write_script
from snf_image_helper.windows.user_passwords import check_password, check_user, setting_lines
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

DEFAULT_USER = "Administrator"


@dataclass(frozen=True)
class _Users:
    """Whose passwords are set: those that are in the image, by their names there, and those that Setup makes."""

    present: tuple[str, ...]
    made: tuple[str, ...]
    has_administrator: bool


def change_password(guest: Guest, job: Job, report: Reporter) -> None:
    """Nothing is written before all of it is known to be possible.

    Raises GuestError for an unknown user, and for a password that the image's policy would refuse.
    """
    if job.wishes.flag("CLOUD_INIT"):
        return
    known = accounts(guest)
    wanted = _wanted(job, known, report)
    users = _users(guest, wanted, known)
    password = job.secrets.password
    keys = parse_keys(job.secrets.authorized_keys or "")
    if password is not None:
        _check(password, (*users.present, *users.made), known, report)
        lines = tuple(line for user in users.present for line in setting_lines(user, password, facts(guest).version))
        _tell_setup(guest, users, password)
        write_script(guest, CHANGE_PASSWORD, ("@echo off", *lines))
    if keys:
        ssh_keys.install(guest, (*users.present, *users.made), keys, report)


def _wanted(job: Job, known: Accounts, report: Reporter) -> tuple[str, ...]:
    users = _named(job)
    default = known.administrator or DEFAULT_USER
    if not users:
        report.warning(f"The property USERS is not set: {shown(default)} is taken")
    return users or (default,)


def _named(job: Job) -> tuple[str, ...]:
    """The property USERS, each name once. Raises GuestError for what is no name."""
    users = tuple({user.casefold(): user for user in (job.wishes.text("USERS") or "").split()}.values())
    for user in users:
        check_user(user)
    return users


def _users(guest: Guest, wanted: tuple[str, ...], known: Accounts) -> _Users:
    made = _made_by_setup(guest)
    present = {user: found for user in wanted if (found := known.found(user)) is not None}
    for user in wanted:
        if user not in present and user.lower() not in made:
            there = ", ".join(shown(name) for name in known.names[:20]) or "none"
            raise GuestError(
                f"the user {shown(user)!r} is not in the image (its users: {there}), and its answer file makes none of "
                "that name; correct the property USERS"
            )
    # Setup makes an account before or after our script runs: who is in both is set in both.
    administrator = known.found(known.administrator or DEFAULT_USER)
    return _Users(
        tuple(present.values()),
        tuple(user for user in wanted if user.lower() in made),
        administrator in present.values(),
    )


def _made_by_setup(guest: Guest) -> frozenset[str]:
    if guest.system.family is OsFamily.WINDOWS_LEGACY:
        return frozenset()
    from snf_image_helper.windows import unattend  # noqa: PLC0415  # XML, for this family alone

    with unattend.changed(guest) as answers:
        return frozenset(answers.local_accounts(facts(guest).architecture))


def _check(password: str, users: tuple[str, ...], known: Accounts, report: Reporter) -> None:
    check_password(password)
    for user in users:
        if fault := known.policy.fault(password, user):
            raise GuestError(f"the password for {shown(user)!r} {fault}; choose another one")
    if not password:
        report.warning("The password is empty: Windows lets nobody in with it but at the console")


def _tell_setup(guest: Guest, users: _Users, password: str) -> None:
    if guest.system.family is OsFamily.WINDOWS_LEGACY:
        if users.has_administrator:
            sysprep_inf.set_administrator_password(guest, password)
        return
    from snf_image_helper.windows import unattend  # noqa: PLC0415

    architecture = facts(guest).architecture
    with unattend.changed(guest) as answers:
        if users.has_administrator:
            answers.set_administrator_password(architecture, password)
        made = answers.local_accounts(architecture)
        for user in users.made:
            made[user.lower()].set_password(password)


def _skip(job: Job) -> str | None:
    if job.secrets.password_hash is not None:
        raise GuestError(
            "OS parameter img_passwd_hash: Windows cannot be given the hash of a password; give the password itself "
            "in img_passwd"
        )
    if job.secrets.password is None and not (job.secrets.authorized_keys or "").strip():
        return "neither a password nor SSH keys are given"
    _named(job)
    check_password(job.secrets.password or "")
    parse_keys(job.secrets.authorized_keys or "")
    return None


TASK: Task[Guest] = Task(
    "ChangePassword", change_password, families=WINDOWS, after=(MOUNT_IMAGE, "InstallUnattend"), skip=_skip
)
