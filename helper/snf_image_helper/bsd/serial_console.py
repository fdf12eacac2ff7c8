# SPDX-License-Identifier: GPL-2.0-or-later
"""Console and login on the first serial port: in the files of each BSD's own boot loader, and in ttys(5)."""

from __future__ import annotations

import re

from snf_image_helper.bsd import rc_conf
from snf_image_helper.files.edits import Edits
from snf_image_helper.system import OsFamily

LOADER_CONF = "/boot/loader.conf"
BOOT_CONF = "/etc/boot.conf"
BOOT_CFG = "/boot.cfg"
TTYS = "/etc/ttys"
# loader.conf(5); release/tools/gce.conf has these for its images, whose only console is a serial one.
_LOADER = {
    "boot_multicons": "YES",
    "boot_serial": "YES",
    "comconsole_speed": "115200",
    "console": "comconsole,vidconsole",
}
_OPENBSD = ("stty com0 115200", "set tty com0")  # boot.conf(8)
_NETBSD = "consdev=com0"  # boot.cfg(5); its getty follows the line "console"
_STATUS = re.compile(r"[ \t](off|onifconsole|onifexists)(?=[ \t]|\Z)")


def configure(edits: Edits) -> None:
    """Raises GuestError like Guest."""
    match edits.guest.system.family:
        case OsFamily.FREEBSD:
            text = edits.text(LOADER_CONF) or ""
            for name, value in _LOADER.items():
                text = rc_conf.assign(text, name, value)
            edits.put(LOADER_CONF, text)
            _enable_getty(edits, "ttyu0", "")
        case OsFamily.OPENBSD:
            text = edits.text(BOOT_CONF) or ""
            edits.put(BOOT_CONF, _with_lines(text, _OPENBSD))
            _enable_getty(edits, "tty00", '"/usr/libexec/getty std.115200"\tvt220\ton secure')
        case _:
            text = edits.text(BOOT_CFG) or ""
            lines = [line for line in text.split("\n") if not line.startswith("consdev=")]
            edits.put(BOOT_CFG, _with_lines("\n".join(lines), (_NETBSD,)))


def _with_lines(text: str, wanted: tuple[str, ...]) -> str:
    """The file with these lines at its begin, where nothing that is there has booted anything yet."""
    lines = text.split("\n") if text else [""]
    return "\n".join((*wanted, *(line for line in lines if line not in wanted)))


def _enable_getty(edits: Edits, port: str, line: str) -> None:
    """Let init start a getty on the port, as its line says or, if that is empty, as the file has it."""
    text = edits.text(TTYS)
    if text is None:
        return
    lines = text.split("\n")
    for number, found in enumerate(lines):
        if found.split()[:1] == [port]:
            lines[number] = f"{port}\t{line}" if line else _STATUS.sub(lambda match: match[0][0] + "on", found, count=1)
    edits.put(TTYS, "\n".join(lines))
