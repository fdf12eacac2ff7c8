# SPDX-License-Identifier: GPL-2.0-or-later
"""Which services the guest starts at boot, read from the links that say so; nothing of the guest is asked.

systemd's presets do not count: they are only applied at a first boot, and a guest whose machine-id we have touched has
none of those (machine-id(5)). Neither do generators.
"""

from __future__ import annotations

import re

from snf_image_helper.guest import Guest


def is_started(guest: Guest, name: str) -> bool:
    """Whether the guest's init starts this service ("NetworkManager").

    Where no init is known that could be asked, what is installed is taken to run.
    """
    if has_systemd(guest):
        unit = f"{name}.service"
        if has_unit(guest, unit):
            return is_enabled(guest, unit)
        return is_enabled(guest, unit) or (not _is_masked(guest, unit) and _in_rc_directories(guest, name))
    if runlevels := _runlevels(guest):
        # Debian's packages bring their links for runit along, whatever the init.
        return any(_is_there(guest, f"{level}/{name}") for level in runlevels) or _in_rc_directories(guest, name)
    if guest.is_file(_SLACKWARE):
        script = guest.ownership(f"/etc/rc.d/rc.{name.lower()}")
        return script is not None and bool(script.mode & 0o111)
    return _in_rc_directories(guest, name) or not knows_init(guest)


def is_enabled(guest: Guest, unit: str) -> bool:
    """Whether a systemd target wants the unit, and nobody masked it."""
    if _is_masked(guest, unit):
        return False
    return any(
        _is_there(guest, f"{directory}/{name}/{unit}")
        for directory in _UNIT_DIRECTORIES
        for name in guest.list_directory(directory, missing_ok=True)
        if name.endswith((".wants", ".requires", ".upholds"))
    )


def has_systemd(guest: Guest) -> bool:
    """Whether systemd is the init; beside another one it may be installed, too."""
    if (target := guest.link_target("/sbin/init")) is not None:
        return target.endswith("/systemd")
    return not guest.is_file("/sbin/init") and any(map(guest.exists, _SYSTEMD))


def has_unit(guest: Guest, unit: str) -> bool:
    """Whether a unit of that name is installed, enabled or not."""
    return any(guest.exists(f"{directory}/{unit}") for directory in _UNIT_DIRECTORIES)


def knows_init(guest: Guest) -> bool:
    """Whether there is an init whose list of services can be read."""
    directories = any(map(guest.is_dir, _RC_DIRECTORIES))
    return has_systemd(guest) or bool(_runlevels(guest)) or guest.is_file(_SLACKWARE) or directories


_UNIT_DIRECTORIES = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
# It starts those of its rc.* scripts that are executable, whatever their names.
_SLACKWARE = "/etc/rc.d/rc.M"
_RUNLEVELS = ("/etc/runlevels", "/etc/runit/runsvdir")
# Of Debian, of Red Hat, of SUSE 11.
_RC_DIRECTORIES = tuple(f"{where}/rc{level}.d" for where in ("/etc", "/etc/rc.d", "/etc/init.d") for level in "S235")


def _runlevels(guest: Guest) -> list[str]:
    """The directories of OpenRC's or runit's that name the services to start."""
    return [f"{where}/{level}" for where in _RUNLEVELS for level in guest.list_directory(where, missing_ok=True)]


def _is_masked(guest: Guest, unit: str) -> bool:
    """A link to /dev/null, be it the administrator's or the distribution's; only the first file of a unit counts."""
    first = next((path for directory in _UNIT_DIRECTORIES if _is_there(guest, path := f"{directory}/{unit}")), None)
    return first is not None and guest.link_target(first) == "/dev/null"


def _in_rc_directories(guest: Guest, name: str) -> bool:
    wanted = re.compile(rf"S\d\d{re.escape(name)}")
    return any(
        wanted.fullmatch(entry)
        for directory in _RC_DIRECTORIES
        for entry in guest.list_directory(directory, missing_ok=True)
    )


def _is_there(guest: Guest, path: str) -> bool:
    """Also a link that leads nowhere: only its name matters to systemd."""
    return guest.is_link(path) or guest.exists(path)
