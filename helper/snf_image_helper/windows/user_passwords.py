# SPDX-License-Identifier: GPL-2.0-or-later
"""Passwords of Windows' users: what cmd.exe is to run, as SYSTEM in the specialize pass, to set one.

`net user` does it where nothing in name and password means anything to it or to a code page, else PowerShell, which
gets both in base64. Source: Microsoft, "Net user" (it asks for a password that is *, takes what begins with / for an
option, and asks back for one of more than 14 characters unless /Y is given); ADSI, "IADsUser::SetPassword".
"""

from __future__ import annotations

from snf_image_helper.files.guest_errors import shown
from snf_image_helper.windows.setup_scripts import powershell, powershell_text, quoted
from snf_image_shared.errors import GuestError

LONGEST = 127  # characters that Windows lets anybody type
_FIRST_WITH_POWERSHELL = (6, 1)
_ASK = "*"
_NO_NAME = frozenset('"/\\[]:;|=,+*?<>@')


def check_password(password: str) -> None:
    """Raises GuestError for what cannot be a password in Windows; it is not shown."""
    if len(password.encode("utf-16-le", "surrogatepass")) > 2 * LONGEST:
        raise GuestError(f"the password is longer than {LONGEST} characters, which Windows does not take; shorten it")
    if any(not character.isprintable() and character != "\u00a0" for character in password):
        raise GuestError("the password has characters that nobody can type (control characters); leave them out")


def check_user(name: str) -> None:
    """Raises GuestError for what cannot be the name of a user of Windows."""
    if not name.isprintable() or _NO_NAME & set(name) or not 0 < len(name) <= 64 or name.endswith("."):
        raise GuestError(f"property USERS: {shown(name[:80])!r} is no user name of Windows; give names of its users")


def setting_lines(user: str, password: str, version: tuple[int, int]) -> tuple[str, ...]:
    """The lines of a batch file that set it, and let the user log on with it. Raises GuestError for Vista's limits."""
    required = "YES" if password else "NO"
    flags = f"/ACTIVE:YES /EXPIRES:NEVER /PASSWORDREQ:{required} /Y"
    if _is_plain(user) and _is_plain(password) and password != _ASK:
        return (f"net.exe user {quoted(user)} {quoted(password)} {flags}",)
    if version < _FIRST_WITH_POWERSHELL:
        raise GuestError(
            f"the password of {shown(user)!r}, or that name, has characters which this Windows, without PowerShell, "
            'cannot be told in a script; take ASCII without ", and no / at the beginning'
        )
    script = (
        f"$n={powershell_text(user)};$p={powershell_text(password)};"
        f'([ADSI]("WinNT://./"+$n+",user")).SetPassword($p);'
        f"net.exe user $n {flags};exit $LASTEXITCODE"
    )
    return (powershell(script),)


def _is_plain(text: str) -> bool:
    return text.isascii() and '"' not in text and not text.startswith("/")
