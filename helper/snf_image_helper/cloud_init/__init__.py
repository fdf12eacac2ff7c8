# SPDX-License-Identifier: GPL-2.0-or-later
"""What tasks leave for cloud-init under CLOUD_INIT: drop-ins, the NoCloud seed, scripts for the first boot.

Documents are written as JSON, which every YAML reader takes: no quoting rules, nothing a value could break out of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from snf_image_helper.fresh import fresh_bytes
from snf_image_helper.guest import Guest, Ownership
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

# The members of a NoCloud seed. cloud-init looks for one in "nocloud", then in "nocloud-net", in both from the disk
# alone, and stops at the first with both meta-data and user-data (DataSourceNoCloud.py, 0.7.9 to 26.1).
META_DATA, USER_DATA, VENDOR_DATA, NETWORK_CONFIG = "meta-data", "user-data", "vendor-data", "network-config"
SEED_FILES = (META_DATA, USER_DATA, VENDOR_DATA, NETWORK_CONFIG)
SEED, OTHER_SEED = "nocloud-net", "nocloud"
PRIVATE = Ownership(mode=0o600)
NAME = "local-hostname"  # members of the meta-data
INSTANCE_ID = "instance-id"
PREFIX = "98_snf-image-"  # of every drop-in of ours
MAIN = ("/etc/cloud/cloud.cfg", "/usr/local/etc/cloud/cloud.cfg")  # the second on BSD
_STATE = "/var/lib/cloud"
_CLOUD_DIR = re.compile(r"""^[^#\n]{0,200}\bcloud_dir["']?[ \t]*:[ \t]*["']?(/[^\s"',}#]{1,200})""", re.MULTILINE)

Json: TypeAlias = "str | bool | int | Sequence[Json] | Mapping[str, Json] | None"


def drop_ins(guest: Guest) -> str:
    """The directory of drop-ins. Raises GuestError when the guest has none: then it has no cloud-init."""
    directory = next((f"{path}.d" for path in MAIN if guest.is_dir(f"{path}.d")), None)
    if directory is None:
        raise GuestError(f"CLOUD_INIT is set and {MAIN[0]}.d does not exist; install cloud-init in the image")
    return directory


def image_settings(guest: Guest) -> tuple[str, ...]:
    """The image's own files of cloud-init's settings, weakest first (cloudinit/util.py, read_conf_with_confd)."""
    found = []
    for path in MAIN:
        found += [path] if guest.is_file(path) else []
        names = guest.list_directory(f"{path}.d", missing_ok=True)
        theirs = [name for name in names if name.endswith(".cfg") and not name.startswith(PREFIX)]
        found += [f"{path}.d/{name}" for name in theirs if guest.is_file(f"{path}.d/{name}")]
    return tuple(found)


def state_directory(guest: Guest) -> str:
    """Where cloud-init keeps seed and state: system_info, paths, cloud_dir of its settings, or its default.

    The helper has no YAML reader: the last line that assigns cloud_dir counts.
    """
    texts = (guest.read_text(path) for path in image_settings(guest))
    found = [match[1] for text in texts for match in _CLOUD_DIR.finditer(text)]
    return found[-1].rstrip("/") or _STATE if found else _STATE


def seed_path(guest: Guest, name: str) -> str:
    """A file of the seed."""
    return f"{state_directory(guest)}/seed/{SEED}/{name}"


def instance_directory(guest: Guest, instance_id: str) -> str:
    """What cloud-init makes as soon as it works for an instance-id."""
    return f"{state_directory(guest)}/instances/{instance_id}"


def write_configuration(guest: Guest, task: str, members: Mapping[str, Json], mode: int = 0o644) -> str:
    """Write the drop-in of `task`, its number included ("50DeleteSSHKeys"), and give its path.

    Raises GuestError when the guest has no cloud-init.
    """
    path = f"{drop_ins(guest)}/{PREFIX}{task}.cfg"
    guest.write_text(path, as_text(members), ownership=Ownership(mode=mode))
    return path


def add_meta_data(guest: Guest, members: Mapping[str, Json]) -> None:
    """Add members to the seed's meta-data, which only root may read; members already there are replaced."""
    write_seed(guest, META_DATA, as_text({**meta_data(guest), **members}))


def meta_data(guest: Guest) -> dict[str, Json]:
    """The members of the seed's meta-data; empty when there is none, or one that is not of our making."""
    try:
        return dict(json.loads(guest.read_text(seed_path(guest, META_DATA), missing_ok=True) or "{}"))
    except (ValueError, TypeError, RecursionError):
        return {}  # left by the image's previous life


def write_seed(guest: Guest, name: str, content: str | bytes) -> None:
    """Write a file of the seed, readable by root alone."""
    path = seed_path(guest, name)
    guest.make_directory(path.rpartition("/")[0])
    written = content.encode() if isinstance(content, str) else content
    guest.write_bytes(path, written, ownership=PRIVATE)


def scripts_directory(guest: Guest) -> str:
    """Of the scripts that cloud-init runs once in the life of a disk, when all else of the first boot is done."""
    return f"{state_directory(guest)}/scripts/per-once"


def write_script(guest: Guest, name: str, lines: Sequence[str], *, debug: bool) -> None:
    """Write a shell script that cloud-init runs once at the first boot; with `debug` it is left for a person to run.

    Its lines must have been quoted; the script removes itself.
    """
    path = f"{scripts_directory(guest)}/{name}"
    guest.make_directory(scripts_directory(guest))
    text = "\n".join(("#!/bin/sh", "# Written by snf-image.", "set -e", *lines, f"rm -f -- {quote(path)}", ""))
    guest.write_text(path, text, ownership=Ownership(mode=0o600 if debug else 0o700))


def deployment(job: Job) -> str:
    """What is different at every deployment, and the same if a task of one is done again."""
    return fresh_bytes(job, "cloud-init", 8).hex()


def quote(text: str) -> str:
    """One word of a shell script."""
    return "'" + text.replace("'", "'\\''") + "'"


def as_text(members: Mapping[str, Json]) -> str:
    """A document as it is written for cloud-init, whose YAML reader knows no pairs of surrogates."""
    return json.dumps(members, indent=1, ensure_ascii=False) + "\n"
