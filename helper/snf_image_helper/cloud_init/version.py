# SPDX-License-Identifier: GPL-2.0-or-later
"""Which cloud-init a guest has, read out of its own Python code. Nothing of it is executed."""

from __future__ import annotations

import re

from snf_image_helper.guest import Guest

_PROGRAMS = ("/usr/bin/cloud-init", "/usr/local/bin/cloud-init", "/bin/cloud-init")
_LIBRARIES = ("/usr/lib", "/usr/local/lib", "/usr/lib64")
_PACKAGES = ("dist-packages", "site-packages")
# `__VERSION__` of cloudinit/version.py; from 26.1 on the file meson makes has it.
_FILES = (("version.py", "__VERSION__"), ("meson_versions.py", "UPSTREAM_VERSION"))
_LONGEST = 60  # characters
UNKNOWN = "unknown version"


def installed(guest: Guest) -> str:
    """Its version, UNKNOWN when it does not tell, or "" when there is no cloud-init."""
    if not any(guest.exists(path) for path in _PROGRAMS):
        return ""
    for library in _LIBRARIES:
        pythons = [name for name in guest.list_directory(library, missing_ok=True) if name.startswith("python")]
        for directory in (f"{library}/{name}/{packages}/cloudinit" for name in pythons for packages in _PACKAGES):
            for file, variable in _FILES:
                text = guest.read_text(f"{directory}/{file}", missing_ok=True) or ""
                found = re.search(rf"^{variable} = ['\"](\d[^'\"\n]{{0,{_LONGEST}}})['\"]", text, re.MULTILINE)
                if found:
                    return found[1]
    return UNKNOWN


def release(guest: Guest) -> tuple[int, int] | None:
    """The first two numbers of its version; None when nobody knows."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})", installed(guest))
    return (int(found[1]), int(found[2])) if found else None
