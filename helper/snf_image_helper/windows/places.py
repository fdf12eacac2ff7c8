# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things of a Windows guest lie, whatever the case in which its version and its administrators spell them."""

from __future__ import annotations

from snf_image_helper.guest import Guest

CONFIG = "/Windows/System32/config"


def located(guest: Guest, path: str) -> str:
    """The same path, with each part that exists spelled as it is there; what does not exist stays as it is given.

    Of several spellings side by side, which Windows itself does not make, the given one counts, else the first.
    """
    here = ""
    for name in path.split("/")[1:]:
        here = f"{here}/{_spelled(guest, here, name)}"
    return here


def _spelled(guest: Guest, directory: str, name: str) -> str:
    if guest.exists(f"{directory}/{name}"):
        return name
    siblings = guest.list_directory(directory or "/", missing_ok=True)
    return next((item for item in siblings if item.casefold() == name.casefold()), name)
