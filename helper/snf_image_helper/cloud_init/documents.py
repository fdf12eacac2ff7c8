# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole NoCloud seed for a guest whose root nobody can write: all that is ordered, in the seed's own files.

What would be a drop-in becomes vendor-data, which a user's own user-data overrides key by key. Nobody can look which
cloud-init there is, so that every document is one that the old ones understand as well. Pure.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from snf_image_helper import cloud_init
from snf_image_helper.cloud_init import Json
from snf_image_helper.cloud_init import users as cloud_init_users
from snf_image_shared.job import Job, PersonalityFile

LABEL = "cidata"  # cloud-init before 19.3 does not look for it in capitals
# Empties what may hold secrets. Zeros go first: a FAT file system keeps what a file that was cut had.
_CLEAR = f"""#!/bin/sh
set -e
device=$(blkid -L {LABEL} || readlink -f /dev/disk/by-label/{LABEL})
place=$(mktemp -d)
mount -t vfat "$device" "$place"
for file in "$place"/vendor-data "$place"/user-data; do
    dd if=/dev/zero of="$file" bs="$(wc -c < "$file")" count=1 conv=notrunc,fsync 2> /dev/null || :
    : > "$file"
done
umount "$place"
rmdir "$place"
"""


@dataclass(frozen=True)
class Orders:
    """What a seed is made of besides its job: `hashes` by user, `files` with their contents decoded.

    `locale` are members of a cloud-config.
    """

    name: str
    hashes: Mapping[str, str] = field(default_factory=dict, repr=False)
    keys: tuple[str, ...] = ()
    files: Mapping[PersonalityFile, bytes] = field(default_factory=dict, repr=False)
    swap: int | None = None  # bytes
    ethernets: Mapping[str, Json] = field(default_factory=dict)
    user_data: bytes = field(default=b"", repr=False)
    locale: Mapping[str, str] = field(default_factory=dict)


def documents(job: Job, orders: Orders, *, with_script: bool = True) -> dict[str, bytes]:
    """The seed's files by name; the script at the first boot, which clears them, is for Linux."""
    meta_data: dict[str, Json] = {
        cloud_init.INSTANCE_ID: f"{job.instance}-{cloud_init.deployment(job)}",
        cloud_init.NAME: orders.name,
    }
    if orders.keys:
        meta_data["public-keys"] = orders.keys
    found = {
        cloud_init.META_DATA: cloud_init.as_text(meta_data).encode(),
        cloud_init.USER_DATA: orders.user_data,
        cloud_init.VENDOR_DATA: _vendor_data(job, orders, with_script=with_script).encode(),
    }
    if orders.ethernets:
        model: dict[str, Json] = {"version": 2, "ethernets": orders.ethernets}
        found[cloud_init.NETWORK_CONFIG] = cloud_init.as_text(model).encode()
    return found


def cloud_config(job: Job, orders: Orders) -> dict[str, Json]:
    """The members of the cloud-config."""
    members: dict[str, Json] = {"ssh_deletekeys": True, "preserve_hostname": False}
    members.update(cloud_init_users.for_any_release(job, orders.hashes, orders.keys))
    members.update(orders.locale)
    if orders.swap is not None:
        name = f"/swap-{cloud_init.deployment(job)}.img"
        members["swap"] = {"filename": name, "size": "auto", "maxsize": orders.swap}
    if orders.files:
        members["write_files"] = [_write_file(file, content) for file, content in orders.files.items()]
    return members


def _vendor_data(job: Job, orders: Orders, *, with_script: bool) -> str:
    config = f"#cloud-config\n{json.dumps(cloud_config(job, orders), ensure_ascii=False)}\n"
    parts: list[Json] = [{"type": "text/cloud-config", "content": config}]
    if with_script and not job.cloud_init_debug:
        parts.append({"type": "text/x-shellscript", "content": _CLEAR})
    return f"#cloud-config-archive\n{json.dumps(parts, indent=1, ensure_ascii=False)}\n"


def _write_file(file: PersonalityFile, content: bytes) -> Mapping[str, Json]:
    """`defer` waits for the users that cloud-init makes; before 21.1 nobody does."""
    owner: Sequence[str] = (file.owner or "root", file.group or "root")
    return {
        "path": file.path,
        "encoding": "b64",
        "content": binascii.b2a_base64(content, newline=False).decode("ascii"),
        "owner": ":".join(owner),
        "permissions": f"{file.mode & 0o7777:04o}",
        "defer": True,
    }
