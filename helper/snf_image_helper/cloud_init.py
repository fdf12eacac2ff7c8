# SPDX-License-Identifier: GPL-2.0-or-later
"""What tasks leave for cloud-init under CLOUD_INIT: drop-ins, the NoCloud seed, scripts for the first boot.

Everything is written as JSON, which every YAML reader takes: no quoting rules, nothing a value could break out of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from snf_image_helper.guest import Guest, Ownership
from snf_image_shared.errors import GuestError

SEED = "/var/lib/cloud/seed/nocloud-net"
USER_DATA = f"{SEED}/user-data"
NETWORK_CONFIG = f"{SEED}/network-config"
SCRIPTS = "/var/lib/cloud/scripts/per-once"
PRIVATE = Ownership(mode=0o600)
META_DATA = f"{SEED}/meta-data"
NAME = "local-hostname"  # the member of the meta-data
INSTANCES = "/var/lib/cloud/instances"  # one directory for each instance-id that cloud-init has worked for
_CONFIGURATION = ("/etc/cloud/cloud.cfg.d", "/usr/local/etc/cloud/cloud.cfg.d")  # the second on BSD

Json: TypeAlias = "str | bool | int | Sequence[Json] | Mapping[str, Json]"


def write_configuration(guest: Guest, task: str, members: Mapping[str, Json], mode: int = 0o644) -> str:
    """Write the drop-in of `task`, its number included ("50DeleteSSHKeys"), and give its path.

    Raises GuestError when the guest has no directory for it: then it has no cloud-init.
    """
    directory = next((path for path in _CONFIGURATION if guest.is_dir(path)), None)
    if directory is None:
        raise GuestError(f"CLOUD_INIT is set and {_CONFIGURATION[0]} does not exist; install cloud-init in the image")
    path = f"{directory}/98_snf-image-{task}.cfg"
    guest.write_text(path, as_text(members), ownership=Ownership(mode=mode))
    return path


def add_meta_data(guest: Guest, members: Mapping[str, Json]) -> None:
    """Add members to the seed's meta-data, which only root may read; members already there are replaced."""
    write_seed(guest, META_DATA, as_text({**meta_data(guest), **members}))


def meta_data(guest: Guest) -> dict[str, Json]:
    """The members of the seed's meta-data; empty when there is none, or one that is not of our making."""
    try:
        return dict(json.loads(guest.read_text(META_DATA, missing_ok=True) or "{}"))
    except (ValueError, TypeError, RecursionError):
        return {}  # left by the image's previous life


def write_seed(guest: Guest, path: str, text: str) -> None:
    """Write a file of the seed, readable by root alone."""
    guest.make_directory(SEED)
    guest.write_text(path, text, ownership=PRIVATE)


def write_script(guest: Guest, name: str, lines: Sequence[str], *, debug: bool) -> None:
    """Write a shell script that cloud-init runs once at the first boot; with `debug` it is left for a person to run.

    Its lines must have been quoted; the script removes itself.
    """
    path = f"{SCRIPTS}/{name}"
    guest.make_directory(SCRIPTS)
    text = "\n".join(("#!/bin/sh", "# Written by snf-image.", "set -e", *lines, f"rm -f -- {quote(path)}", ""))
    guest.write_text(path, text, ownership=Ownership(mode=0o600 if debug else 0o700))


def quote(text: str) -> str:
    """One word of a shell script."""
    return "'" + text.replace("'", "'\\''") + "'"


def as_text(members: Mapping[str, Json]) -> str:
    """A document as it is written for cloud-init."""
    return json.dumps(members, indent=1) + "\n"
