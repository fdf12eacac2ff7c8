# SPDX-License-Identifier: GPL-2.0-or-later
"""Scripts that Windows' Setup runs: SetupComplete.cmd at its end, and what is below SnfScripts while it works.

They are ASCII with CRLF: cmd.exe reads a batch file in the OEM code page, which is another one in each country. What
is beyond ASCII goes through powershell().
Source: Microsoft, "Add a Custom Script to Windows Setup": it runs %WINDIR%\\Setup\\Scripts\\SetupComplete.cmd as SYSTEM
when all passes are done, before anybody can log on; not where the product key is an OEM's, except on servers and
Enterprise editions.
"""

from __future__ import annotations

import base64

from snf_image_helper.guest import Guest
from snf_image_helper.windows.places import located, write_secret
from snf_image_shared.errors import GuestError

SETUP_COMPLETE = "/Windows/Setup/Scripts/SetupComplete.cmd"
SCRIPTS = "/Windows/SnfScripts"
FOLDER = r"%WINDIR%\SnfScripts"  # the same, as the guest calls it
EXTEND_FILESYSTEM = "ExtendFilesystem"
CHANGE_PASSWORD = "ChangeAdminPassword.cmd"  # noqa: S105  # a name
LONGEST_LINE = 8191  # characters: cmd.exe's
# Ours come first, for an image's own may end with exit. What is removed goes last, after all that still needs it.
_BEGIN, _REMOVAL, _END = (f"rem snf-image: {word}" for word in ("begin", "removal", "end"))
_QUIET = "@echo off"
_SPECIAL = frozenset('()<>&|^!"')


def script_path(name: str) -> str:
    """Where a script of ours lies in the guest, as the guest calls it."""
    return f"{FOLDER}\\{name}"


def write_script(guest: Guest, name: str, lines: tuple[str, ...]) -> None:
    """Make a file below SnfScripts that users cannot read; SetupComplete.cmd removes all of them.

    Raises GuestError for what is no ASCII.
    """
    guest.make_directory(located(guest, SCRIPTS))
    write_secret(guest, located(guest, f"{SCRIPTS}/{name}"), _encoded(lines, name))


def script(guest: Guest, name: str) -> tuple[str, ...] | None:
    """The lines of a file below SnfScripts; None if there is none."""
    content = guest.read_bytes(located(guest, f"{SCRIPTS}/{name}"), missing_ok=True)
    return None if content is None else tuple(content.decode("ascii", "replace").splitlines())


def at_setup_complete(guest: Guest, *lines: str, removal: bool = False) -> None:
    """Let SetupComplete.cmd do this too: each line once. With `removal` it comes behind all that comes without."""
    path = located(guest, SETUP_COMPLETE)
    content = guest.read_bytes(path, missing_ok=True) or b""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise GuestError(f"{path}: is UTF-16, which cmd.exe does not run; save it without in the image")
    # Each byte is a character, whatever the code page: what is not ours stays as it is.
    actions, removals, own = _taken_apart(content.decode("latin-1"))
    wanted = removals if removal else actions
    wanted += [line for line in dict.fromkeys(lines) if line not in wanted]
    _encoded(lines, path)
    block = [_BEGIN, *actions, _REMOVAL, *removals, _END]
    guest.make_directory(path.rpartition("/")[0])
    guest.write_bytes(path, ("\r\n".join([_QUIET, *block, ""]) + own).encode("latin-1"))


def quoted(argument: str) -> str:
    """An argument of a program in a line of a batch file, whatever is in it but control characters.

    For the C runtime's parser it is put in quotes, and what cmd.exe would take for its own, the quotes too, gets its
    escape. Source: Microsoft, "Everyone quotes command line arguments the wrong way" (2011), and cmd /?.
    """
    text = ""
    backslashes = 0
    for character in argument:
        if character == "\\":
            backslashes += 1
            continue
        # Before a quote they have a meaning, elsewhere they have none.
        text += "\\" * (2 * backslashes + 1 if character == '"' else backslashes) + character
        backslashes = 0
    closing = "\\" * (2 * backslashes) + '"'
    whole = f'"{text}{closing}'
    return "".join(f"^{character}" if character in _SPECIAL else character for character in whole).replace("%", "%%")


def powershell(script: str) -> str:
    """A line that runs a script of PowerShell; no character of it means anything to cmd.exe, nor does a code page."""
    encoded = base64.b64encode(script.encode("utf-16-le")).decode("ascii")
    line = f"powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand {encoded}"
    if len(line) > LONGEST_LINE:
        raise GuestError(f"a command of {len(line)} characters is more than cmd.exe takes; shorten what it is made of")
    return line


def powershell_text(text: str) -> str:
    """An expression of PowerShell for any text, without a quote in it that could end it."""
    encoded = base64.b64encode(text.encode("utf-16-le")).decode("ascii")
    return f"[Text.Encoding]::Unicode.GetString([Convert]::FromBase64String('{encoded}'))"


def _encoded(lines: tuple[str, ...], name: str) -> bytes:
    text = "".join(f"{line}\r\n" for line in lines)
    if not text.isascii() or any("\r" in line or "\n" in line for line in lines):
        raise GuestError(f"{name}: has a line that is no ASCII, which cmd.exe reads in another code page; leave it out")
    return text.encode("ascii")


def _taken_apart(text: str) -> tuple[list[str], list[str], str]:
    """What our block does, what it removes, and the image's own lines."""
    head = f"{_QUIET}\r\n{_BEGIN}\r\n"
    block, end, own = text.removeprefix(head).partition(f"{_END}\r\n")
    if not text.startswith(head) or not end:
        return [], [], text
    actions, _, removals = block.partition(f"{_REMOVAL}\r\n")
    return actions.split("\r\n")[:-1], removals.split("\r\n")[:-1], own
