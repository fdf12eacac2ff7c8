# SPDX-License-Identifier: GPL-2.0-or-later
"""A login on the first serial port, by what the guest has for init.

systemd and the upstart of RHEL 6 start one by themselves where the kernel has its console (systemd-getty-generator(8)).
"""

from __future__ import annotations

from snf_image_helper.files.edits import Edits
from snf_image_helper.guest import Guest
from snf_image_helper.linux.distros import Distro, Family
from snf_image_helper.linux.kernel_arguments import SERIAL_PORT, SERIAL_SPEED
from snf_image_helper.linux.services import has_systemd
from snf_image_helper.reporter import Reporter

_INITTAB = "/etc/inittab"
_UPSTART, _UPSTART_RED_HAT = "/etc/init", "/etc/init/serial.conf"
_RUNIT, _RUNIT_SERVICE = "/etc/runit/runsvdir/default", f"/etc/sv/agetty-{SERIAL_PORT}"
_SECURE = "/etc/securetty"
_PROGRAMS = ("/sbin/agetty", "/usr/sbin/agetty", "/usr/bin/agetty", "/sbin/getty")
_JOB = f"""# Written by snf-image.
start on stopped rc RUNLEVEL=[2345]
stop on runlevel [!2345]
respawn
exec %s -L {SERIAL_PORT} {SERIAL_SPEED} vt102
"""


def enable_getty(edits: Edits, report: Reporter) -> None:
    """Warns when nobody knows how this guest starts one. Raises GuestError."""
    guest = edits.guest
    _allow_root(edits)
    if has_systemd(guest) or guest.exists(_UPSTART_RED_HAT):
        return
    inittab = edits.text(_INITTAB)
    if guest.is_dir(_RUNIT) and guest.is_dir(_RUNIT_SERVICE):
        edits.link(f"{_RUNIT}/agetty-{SERIAL_PORT}", _RUNIT_SERVICE)
    elif inittab is not None and any(_starts_getty(line) for line in inittab.split("\n")):
        edits.put(
            _INITTAB,
            with_getty(
                inittab, _program_of(inittab) or _program(guest), busybox=Distro.of(guest).family is Family.ALPINE
            ),
        )
    elif guest.exists(f"{_UPSTART}/tty1.conf"):
        edits.put(f"{_UPSTART}/{SERIAL_PORT}.conf", _JOB % _program(guest))
    else:
        report.warning(f"The guest has no init of a known kind: it may have no login on {SERIAL_PORT}")


def with_getty(inittab: str, program: str, *, busybox: bool) -> str:
    """inittab(5), or BusyBox's, with a line for the serial port unless there is one."""
    lines = inittab.split("\n")
    if any(SERIAL_PORT in line and _starts_getty(line) for line in lines):
        return inittab
    command = f"respawn:{program} -L {SERIAL_PORT} {SERIAL_SPEED} vt100"
    line = f"{SERIAL_PORT}::{command}" if busybox else f"S0:2345:{command}"
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
