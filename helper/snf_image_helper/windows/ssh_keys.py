# SPDX-License-Identifier: GPL-2.0-or-later
"""SSH keys for Windows' own OpenSSH server, which has one file for all administrators.

It takes no file that anybody but SYSTEM and the administrators may write; SetupComplete.cmd sees to that, by SIDs, for
the names of groups are translated. Source: Microsoft, "Key-based authentication in OpenSSH for Windows" and "OpenSSH
Server configuration".
"""

from __future__ import annotations

from snf_image_helper.files.guest_errors import shown
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.users.public_keys import PublicKey, with_keys
from snf_image_helper.windows.places import located
from snf_image_helper.windows.registry import HIVE_SYSTEM, control_set, opened
from snf_image_helper.windows.security_accounts import accounts
from snf_image_helper.windows.setup_scripts import at_setup_complete
from snf_image_shared.errors import GuestError

DIRECTORY = "/ProgramData/ssh"
KEYS = f"{DIRECTORY}/administrators_authorized_keys"
_CONFIG = f"{DIRECTORY}/sshd_config"
_ADMINISTRATOR = "Administrator"
_SYSTEM, _ADMINISTRATORS, _USERS = "*S-1-5-18", "*S-1-5-32-544", "*S-1-5-11"
_AUTOMATIC = 2
_DIRECTORY_RIGHTS = (
    r'icacls.exe "%ProgramData%\ssh" /inheritance:r '
    f'/grant:r "{_SYSTEM}:(OI)(CI)F" "{_ADMINISTRATORS}:(OI)(CI)F" "{_USERS}:(OI)(CI)RX"'
)
_FILE_RIGHTS = (
    r'icacls.exe "%ProgramData%\ssh\administrators_authorized_keys" /inheritance:r '
    f'/grant:r "{_SYSTEM}:F" "{_ADMINISTRATORS}:F"'
)


def install(guest: Guest, users: tuple[str, ...], keys: tuple[PublicKey, ...], report: Reporter) -> None:
    """Let the keys in as the built-in administrator, if that is among the users; warn of whom they do not let in.

    A key of another user is not put there: it would be every administrator's. Raises GuestError for a file of the
    image that sshd could not read either.
    """
    start = _start(guest)
    if start is None:
        report.warning("OS parameter auth_keys has no effect: the image has no OpenSSH server; install it in the image")
        return
    if start != _AUTOMATIC:
        report.warning("The image's OpenSSH server does not start by itself: Set-Service sshd -StartupType Automatic")
    administrator = (accounts(guest).administrator or _ADMINISTRATOR).casefold()
    for user in users:
        if user.casefold() != administrator:
            report.warning(
                f"The SSH keys do not let in {shown(user)}: a user's own file lies in the profile, which Windows makes "
                "at the first logon; name the built-in administrator in the property USERS to log in by key"
            )
    if any(user.casefold() == administrator for user in users):
        _warn_of_configuration(guest, report)
        _write(guest, keys)


def _start(guest: Guest) -> int | None:
    """How the service starts; None without one."""
    with opened(guest, HIVE_SYSTEM) as hive:
        return hive.number(rf"{control_set(hive)}\Services\sshd", "Start")


def _warn_of_configuration(guest: Guest, report: Reporter) -> None:
    """Without a file sshd makes one, which reads the keys."""
    text = guest.read_text(located(guest, _CONFIG), missing_ok=True)
    if text is None:
        return
    lines = (line.strip().casefold() for line in text.splitlines())
    if not any("administrators_authorized_keys" in line and not line.startswith("#") for line in lines):
        report.warning(
            r"The image's C:\ProgramData\ssh\sshd_config does not name administrators_authorized_keys: "
            "the SSH keys may let nobody in; put the block Match Group administrators back"
        )


def _write(guest: Guest, keys: tuple[PublicKey, ...]) -> None:
    directory, path = located(guest, DIRECTORY), located(guest, KEYS)
    old = guest.read_bytes(path, missing_ok=True) or b""
    if old.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise GuestError(f"{path}: is UTF-16, which sshd does not read; save it as UTF-8 in the image")
    if not guest.is_dir(directory):
        guest.make_directory(directory)
        at_setup_complete(guest, _DIRECTORY_RIGHTS)
    guest.write_text(path, with_keys(old.decode("utf-8", "surrogateescape"), keys))
    at_setup_complete(guest, _FILE_RIGHTS)
