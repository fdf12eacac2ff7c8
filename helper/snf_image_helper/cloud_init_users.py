# SPDX-License-Identifier: GPL-2.0-or-later
"""Passwords and SSH keys as they are left for the guest's cloud-init, which sets them at its first boot."""

from __future__ import annotations

from collections.abc import Mapping

from snf_image_helper import cloud_init
from snf_image_helper.cloud_init import Json
from snf_image_helper.guest import Guest


def leave(guest: Guest, hashes: Mapping[str, str], keys: tuple[str, ...], *, debug: bool) -> None:
    """`hashes` by user. Only a hash ever reaches the guest's disk, and the file with it goes away at the first boot."""
    if hashes:
        # A list is what every cloud-init takes, but only for true hashes: "!" there would be a password.
        pairs = "".join(f"{user}:{hashed}\n" for user, hashed in hashes.items() if hashed.startswith("$"))
        others = [{"name": u, "password": h, "type": "hash"} for u, h in hashes.items() if not h.startswith("$")]
        chpasswd: dict[str, Json] = {"expire": False}
        if pairs:
            chpasswd["list"] = pairs
        if others:
            chpasswd["users"] = others
        path = cloud_init.write_configuration(
            guest, "50ChangePassword", {"ssh_pwauth": True, "chpasswd": chpasswd}, mode=0o600
        )
        cloud_init.write_script(
            guest, f"rm_{path.rpartition('/')[2]}.sh", (f"rm -f -- {cloud_init.quote(path)}",), debug=debug
        )
    if keys:
        cloud_init.add_meta_data(guest, {"public-keys": keys})
