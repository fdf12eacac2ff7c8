# SPDX-License-Identifier: GPL-2.0-or-later
"""Steps that the guest takes at its first boot, each by a script that removes itself when it has succeeded.

FreeBSD, NetBSD: a script of its own in /etc/rc.d, which rcorder(8) sorts in. Not by FreeBSD's keyword "firstboot":
whether that counts depends on a file that an image may keep anywhere (firstboot_sentinel), and it counts once even if
the step failed. OpenBSD: what is before logins, and so before sshd, is called from rc.securelevel(8); the rest is in
/etc/rc.firsttime, which rc(8) itself removes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from snf_image_helper.guest import Guest, Ownership
from snf_image_helper.system import OsFamily

SECURELEVEL = "/etc/rc.securelevel"
FIRSTTIME = "/etc/rc.firsttime"
_SCRIPT = Ownership(mode=0o555)
_PREFIX = "snf_image_"


class Moment(StrEnum):
    """When: as soon as all file systems are mounted, before anybody can log in; or when all else has started."""

    BEFORE_LOGINS = "before logins"
    LAST = "last"


@dataclass(frozen=True)
class Step:
    """Commands of sh(1), one after the other until one fails; `name` is a word of [a-z_].

    They must do no harm when they are done again: a boot may be interrupted.
    """

    name: str
    commands: tuple[str, ...]
    moment: Moment = Moment.BEFORE_LOGINS


def add(guest: Guest, step: Step) -> None:
    """Let the guest take this step; one of the same name is replaced. Raises GuestError."""
    if guest.system.family is OsFamily.OPENBSD:
        _add_to_openbsd(guest, step)
    else:
        guest.write_text(script_path(guest, step.name), _rc_script(guest.system.family, step), ownership=_SCRIPT)


def script_path(guest: Guest, name: str) -> str:
    """Where the script of a step is, if it is one that has its own."""
    return f"/etc/rc.{_PREFIX}{name}" if guest.system.family is OsFamily.OPENBSD else f"/etc/rc.d/{_PREFIX}{name}"


# Before the network starts, on NetBSD before the first server: there /usr may come by the network (mountcritremote).
# FreeBSD's nuageinit only has to be before NETWORKING as well, and makes users by pw(8), whose pwd_mkdb -u fails where
# there is no spwd.db to change.
_ORDER = {
    (OsFamily.FREEBSD, Moment.BEFORE_LOGINS): ("FILESYSTEMS", "NETWORKING nuageinit"),
    (OsFamily.NETBSD, Moment.BEFORE_LOGINS): ("mountcritremote", "SERVERS DAEMON LOGIN"),
    (OsFamily.FREEBSD, Moment.LAST): ("LOGIN", ""),
    (OsFamily.NETBSD, Moment.LAST): ("LOGIN", ""),
}


def _rc_script(family: OsFamily, step: Step) -> str:
    name = f"{_PREFIX}{step.name}"
    require, before = _ORDER[family, step.moment]
    order = f"# REQUIRE: {require}\n" + (f"# BEFORE: {before}\n" if before else "")
    load = "$_rc_subr_loaded . /etc/rc.subr" if family is OsFamily.NETBSD else ". /etc/rc.subr"
    body = " &&\n\t\t".join(step.commands)
    return f"""#!/bin/sh
#
# Written by snf-image: does its work at the first boot and removes itself.
#
# PROVIDE: {name}
{order}
{load}

name="{name}"
start_cmd="{name}_start"
stop_cmd=":"

{name}_start()
{{
	if
		{body}
	then
		rm -f /etc/rc.d/{name}
	else
		echo "{name}: failed; it is tried again at the next boot"
	fi
}}

load_rc_config "$name"
run_rc_command "$1"
"""


def _add_to_openbsd(guest: Guest, step: Step) -> None:
    if step.moment is Moment.LAST:
        _put_first(guest, FIRSTTIME, f"# snf-image: {step.name}", " &&\n\t".join(step.commands))
        return
    path = script_path(guest, step.name)
    body = " &&\n\t".join(step.commands)
    # sh reads on in the old file while mv puts another one in its place.
    guest.write_text(
        path,
        f"""# Written by snf-image: does its work at the first boot and removes itself.
if
	{body}
then
	cp -p {SECURELEVEL} {SECURELEVEL}.new &&
	grep -v {_PREFIX}{step.name} {SECURELEVEL} >{SECURELEVEL}.new
	if [ -s {SECURELEVEL}.new ]; then
		mv {SECURELEVEL}.new {SECURELEVEL}
	else
		rm -f {SECURELEVEL}.new {SECURELEVEL}
	fi
	rm -f {path}
else
	echo "{path}: failed; it is tried again at the next boot"
fi
""",
    )
    _put_first(guest, SECURELEVEL, f"[ -f {path} ] && sh {path}")


def _put_first(guest: Guest, path: str, mark: str, more: str = "") -> None:
    """Before all that is there, which may end with an exit; once."""
    text = guest.read_text(path, missing_ok=True) or ""
    if mark in text.split("\n"):
        return
    lines = text.split("\n")
    at = 1 if lines[0].startswith("#!") else 0
    lines[at:at] = [mark, more] if more else [mark]
    new = "\n".join(lines)
    guest.write_text(path, new if new.endswith("\n") else f"{new}\n")
