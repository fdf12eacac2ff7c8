# SPDX-License-Identifier: GPL-2.0-or-later
"""A login on the first serial port, by what the guest has for init.

systemd and the upstart of RHEL 6 start one by themselves where the kernel has its console (systemd-getty-generator(8)).
"""

from __future__ import annotations

import posixpath

from snf_image_helper.files.edits import Edits
from snf_image_helper.guest import Guest
from snf_image_helper.linux.distros import Distro, Family
from snf_image_helper.linux.kernel_arguments import SERIAL_PORT, Arguments
from snf_image_helper.linux.services import has_systemd
from snf_image_helper.reporter import Reporter

_INITTAB = "/etc/inittab"
_EVENT_D = "/etc/event.d"  # upstart before 0.6
_UPSTART, _UPSTART_RED_HAT = (("/etc/init", "tty1.conf"), (_EVENT_D, "tty1")), "/etc/init/serial.conf"
_START = {
    "/etc/init": "start on stopped rc RUNLEVEL=[2345]\nstop on runlevel [!2345]",
    _EVENT_D: "".join(f"start on stopped rc{level}\n" for level in (2, 3, 4, 5))
    + "stop on runlevel 0\nstop on runlevel 1\n"
    "stop on runlevel 6",
}
_RUNIT = "/etc/runit/runsvdir/default"
_RUNIT_SERVICES = (f"/etc/sv/agetty-{SERIAL_PORT}", f"/etc/sv/getty-{SERIAL_PORT}")  # Void's, Debian's
_OPENRC_SERVICE, _OPENRC_LEVEL = "/etc/init.d/agetty", "/etc/runlevels/default"
_SECURE = "/etc/securetty"
_PROGRAMS = ("/sbin/agetty", "/usr/sbin/agetty", "/usr/bin/agetty", "/sbin/getty")
_JOB = f"""# Written by snf-image.
%s
respawn
exec %s -L {SERIAL_PORT} %d vt102
"""


def enable_getty(edits: Edits, wanted: Arguments, report: Reporter) -> None:
    """Warns when nobody knows how this guest starts one. Raises GuestError."""
    guest = edits.guest
    _allow_root(edits)
    if has_systemd(guest) or guest.exists(_UPSTART_RED_HAT):
        return
    inittab = edits.text(_INITTAB)
    service = next((path for path in _RUNIT_SERVICES if guest.is_dir(path)), None)
    if guest.is_dir(_RUNIT) and service:
        edits.link(f"{_RUNIT}/{posixpath.basename(service)}", service)
    elif inittab is not None and any(_starts_getty(line) for line in inittab.split("\n")):
        program = _program_of(inittab) or _program(guest)
        busybox = Distro.of(guest).family is Family.ALPINE or "\n::" in f"\n{inittab}"
        edits.put(_INITTAB, with_getty(inittab, program, wanted, busybox=busybox))
    elif directory := next((path for path, first in _UPSTART if guest.exists(f"{path}/{first}")), None):
        name = SERIAL_PORT if directory == _EVENT_D else f"{SERIAL_PORT}.conf"
        edits.put(f"{directory}/{name}", _JOB % (_START[directory], _program(guest), wanted.baud))
    elif guest.is_file(_OPENRC_SERVICE) and guest.is_dir(_OPENRC_LEVEL):
        name = f"agetty.{SERIAL_PORT}"
        edits.link(f"/etc/init.d/{name}", "agetty")
        edits.link(f"{_OPENRC_LEVEL}/{name}", f"/etc/init.d/{name}")
        edits.assign(f"/etc/conf.d/{name}", "baud", str(wanted.baud))
    else:
        report.warning(f"The guest has no init of a known kind: it may have no login on {SERIAL_PORT}")


def with_getty(inittab: str, program: str, wanted: Arguments, *, busybox: bool) -> str:
    """inittab(5), or BusyBox's, with a line for the serial port: the one it has, unless that has another speed."""
    lines = inittab.split("\n")
    there = [number for number, line in enumerate(lines) if SERIAL_PORT in line and _starts_getty(line)]
    if there and (wanted.speed is None or any(str(wanted.speed) in lines[number] for number in there)):
        return inittab
    command = f"respawn:{program} -L {SERIAL_PORT} {wanted.baud} vt100"
    line = f"{SERIAL_PORT}::{command}" if busybox else f"S0:2345:{command}"
    if there:
        lines[there[0]] = line
    else:
        lines[-1:] = [*filter(None, lines[-1:]), line, ""]
    return "\n".join(lines)


def _program_of(inittab: str) -> str | None:
    """What starts logins there already; mingetty, among others, knows no serial ports."""
    commands = (line.partition("respawn:")[2].split()[:1] for line in inittab.split("\n") if _starts_getty(line))
    return next((command[0] for command in commands if command and command[0] in _PROGRAMS), None)


def _starts_getty(line: str) -> bool:
    return not line.lstrip().startswith("#") and "respawn:" in line and "getty" in line


def _program(guest: Guest) -> str:
    return next((path for path in _PROGRAMS if guest.exists(path)), "/sbin/getty")


def _allow_root(edits: Edits) -> None:
    """securetty(5): an empty file lets root in nowhere, and is left so."""
    text = edits.text(_SECURE)
    if text and SERIAL_PORT not in text.split("\n"):
        edits.put(_SECURE, f"{text}{'' if text.endswith(chr(10)) else chr(10)}{SERIAL_PORT}\n")
