# SPDX-License-Identifier: GPL-2.0-or-later
"""Passwords and SSH keys as they are left for the guest's cloud-init, which sets them at its first boot.

Keys go to the user whom cloud-init makes, and to root where it may. Only a hash of a password ever reaches the guest's
disk, and the file with it goes away at the first boot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from snf_image_helper import cloud_init
from snf_image_helper.cloud_init import Json
from snf_image_helper.cloud_init import version as cloud_init_version
from snf_image_helper.guest import Guest
from snf_image_shared.job import Job

_TAKES_USERS = (22, 3)  # cloudinit/config/cc_set_passwords.py: `users` of chpasswd, with a type for each
# A hash in the older list must look like this, or it becomes a password: yescrypt does not, "!" neither. Before 17.1
# every hash became one.
_TAKES_HASHES = (17, 1)
_LISTED = re.compile(r"\$(1|2a|2y|5|6)(\$[^$:]+){2}")


def leave(guest: Guest, job: Job, hashes: Mapping[str, str], keys: tuple[str, ...]) -> None:
    """`hashes` by user. Raises GuestError when the guest has no cloud-init."""
    release = cloud_init_version.release(guest)
    members = configuration(job, hashes, keys, release)
    if members:
        path = cloud_init.write_configuration(guest, "50ChangePassword", members, mode=0o600)
        _write_script(guest, job, f"rm_{path.rpartition('/')[2]}.sh", f"rm -f -- {cloud_init.quote(path)}")
    left = _left_out(hashes, release)
    if left:
        pairs = " ".join(cloud_init.quote(f"{user}:{hashed}") for user, hashed in left.items())
        _write_script(guest, job, "snf-image-passwords.sh", f"printf '%s\\n' {pairs} | chpasswd -e")
    if keys:
        cloud_init.add_meta_data(guest, {"public-keys": keys})


def configuration(
    job: Job, hashes: Mapping[str, str], keys: tuple[str, ...], release: tuple[int, int] | None
) -> dict[str, Json]:
    """The members of a cloud-config that a cloud-init of this release understands, None being an unknown one.

    It keeps keys from root unless it is told not to, which is done for a root that the property USERS names.
    """
    members: dict[str, Json] = {}
    if any(_is_password(hashed) for hashed in hashes.values()):
        members["ssh_pwauth"] = True
    if release is not None and release >= _TAKES_USERS:
        users = [{"name": user, "password": hashed, "type": "hash"} for user, hashed in hashes.items()]
        members.update({"chpasswd": {"expire": False, "users": users}} if users else {})
    else:
        left = _left_out(hashes, release)
        pairs = [f"{user}:{hashed}\n" for user, hashed in hashes.items() if user not in left]
        members.update({"chpasswd": {"expire": False, "list": "".join(pairs)}} if pairs else {})
    if keys and "root" in (job.wishes.text("USERS") or "").split():
        members["disable_root"] = False
    return members


def for_any_release(job: Job, hashes: Mapping[str, str], keys: tuple[str, ...]) -> dict[str, Json]:
    """The same for a cloud-init that nobody can look at; a hash that is no older one's wants a 22.3."""
    members = configuration(job, hashes, keys, None)
    left = [{"name": user, "password": hashed, "type": "hash"} for user, hashed in _left_out(hashes, None).items()]
    if left:
        known = members.get("chpasswd", {"expire": False})
        members["chpasswd"] = {**known, "users": left} if isinstance(known, Mapping) else known
    return members


def _left_out(hashes: Mapping[str, str], release: tuple[int, int] | None) -> dict[str, str]:
    """Users whose hash this release of cloud-init would take for a password."""
    if release is None:
        release = _TAKES_HASHES
    if release >= _TAKES_USERS:
        return {}
    return {u: h for u, h in hashes.items() if release < _TAKES_HASHES or not _LISTED.match(h) or ":" in h}


def _is_password(hashed: str) -> bool:
    return not hashed.startswith(("!", "*"))


def _write_script(guest: Guest, job: Job, name: str, line: str) -> None:
    cloud_init.write_script(guest, name, (line,), debug=job.cloud_init_debug)
