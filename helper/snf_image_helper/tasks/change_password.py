# SPDX-License-Identifier: GPL-2.0-or-later
"""ChangePassword: set the password in /etc/shadow and add SSH keys, for the users in the property USERS, or root.

Keys go where the guest's sshd_config says (AuthorizedKeysFile). Under CLOUD_INIT both are left for cloud-init.
"""

from __future__ import annotations

import re
import time

from snf_image_helper.cloud_init import users as cloud_init_users
from snf_image_helper.files.guest_errors import shown
from snf_image_helper.fresh import fresh_bytes
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_helper.users import sshd_config
from snf_image_helper.users.accounts import User, find_user, has_user
from snf_image_helper.users.authorized_keys import KeyFile, places, planned
from snf_image_helper.users.passwords import (
    ENTROPY,
    accepts_yescrypt,
    change_shadow,
    check_hash,
    hash_password,
    method_of,
    parse_method,
    shadow_fields,
)
from snf_image_helper.users.public_keys import PublicKey, parse_keys
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

SHADOW = "/etc/shadow"
_DAY = 86400  # seconds
_USER = re.compile(r"[^\s:/\x00-\x1f\x7f]{1,256}")  # what passwd(5) can hold; the rest is the distribution's affair
_NO_LOGIN = frozenset({"nologin", "false"})


def change_password(guest: Guest, job: Job, report: Reporter) -> None:
    """Nothing is written before all of it is known to be possible.

    Raises GuestError for an unknown user, an unusable password, hash or key, and a guest without shadow file.
    """
    users = users_of(job, report)
    keys = parse_keys(job.secrets.authorized_keys or "")
    if job.wishes.flag("CLOUD_INIT"):
        hashes = {user: _hash(job, guest, "", user) for user in users} if sets_password(job) else {}
        cloud_init_users.leave(guest, job, hashes, tuple(key.line for key in keys))
        # cloud-init gives keys to its own user alone; who is in the image already can have them now.
        for file in key_files(guest, _named_and_there(guest, job), keys, report):
            file.write(guest)
        return
    shadow = _changed_shadow(guest, job, users, report) if sets_password(job) else None
    accounts = tuple(find_user(guest, user) for user in users) if keys else ()
    files = key_files(guest, accounts, keys, report)
    _warn_of_locks(guest, accounts, shadow or guest.read_text(SHADOW, missing_ok=True) or "", report)
    if shadow is not None and shadow != guest.read_text(SHADOW):
        guest.write_text(SHADOW, shadow)
    for file in files:
        file.write(guest)


def users_of(job: Job, report: Reporter) -> tuple[str, ...]:
    users = _named(job)
    if not users:
        report.warning("The property USERS is not set: root is taken")
    return users or ("root",)


def _named(job: Job) -> tuple[str, ...]:
    """The property USERS, each name once. Raises GuestError for what is no name."""
    users = tuple(dict.fromkeys((job.wishes.text("USERS") or "").split()))
    for user in users:
        if not _USER.fullmatch(user):
            raise GuestError(f"property USERS: {user[:80]!r} is no user name; give names separated by blanks")
    return users


def _named_and_there(guest: Guest, job: Job) -> tuple[User, ...]:
    """The users of the property USERS that the image has."""
    return tuple(find_user(guest, name) for name in _named(job) if has_user(guest, name))


def sets_password(job: Job) -> bool:
    return job.secrets.password is not None or job.secrets.password_hash is not None


def _hash(job: Job, guest: Guest, shadow: str, user: str) -> str:
    """A hash with a salt of the user's own, or the given one."""
    if job.secrets.password_hash is not None:
        return check_hash(job.secrets.password_hash)
    chosen = job.wishes.text("PASSWD_HASHING_METHOD")
    method = parse_method(chosen) if chosen else method_of(guest, shadow)
    return hash_password(job.secrets.password or "", method, fresh_bytes(job, f"salt\0{user}", ENTROPY))


def _changed_shadow(guest: Guest, job: Job, users: tuple[str, ...], report: Reporter) -> str:
    shadow = guest.read_text(SHADOW, missing_ok=True)
    if shadow is None:
        raise GuestError(f"the guest has no {SHADOW}, so the password of {users[0]!r} cannot be set; run pwconv in it")
    today = int(time.time()) // _DAY
    for user in users:
        hashed = _hash(job, guest, shadow, user)
        changed = change_shadow(shadow, user, hashed, today)
        if changed is None:
            raise GuestError(f"the user {user!r} is not in {SHADOW}; correct the property USERS or add it to the image")
        shadow = changed
        for problem in _problems(guest, user, hashed, shadow_fields(shadow, user), today):
            report.warning(f"The password of {user!r} is set, but {problem}")
    return shadow


def _problems(guest: Guest, user: str, hashed: str, fields: list[str], today: int) -> list[str]:
    """Why nobody will log in with it all the same."""
    found = []
    if hashed.startswith("$y$") and accepts_yescrypt(guest) is False:
        found.append("the guest's C library knows no yescrypt; set PASSWD_HASHING_METHOD=sha512")
    expires = fields[7] if len(fields) > 7 else ""
    if expires.isascii() and expires.isdigit() and len(expires) < 10 and int(expires) <= today:
        found.append(f"the account has expired (day {expires} in {SHADOW}); change that in the image")
    if not has_user(guest, user):
        found.append("it has no account in /etc/passwd; add it in the image")
        return found
    account = find_user(guest, user)
    if account.shell.rpartition("/")[2] in _NO_LOGIN:
        found.append(f"its shell {account.shell} lets nobody in; change that in the image")
    if not account.is_shadowed:
        found.append(
            f"its line in /etc/passwd has no x, so that PAM does not look into {SHADOW}; run pwconv in the image"
        )
    return found


def _warn_of_locks(guest: Guest, users: tuple[User, ...], shadow: str, report: Reporter) -> None:
    """Without PAM, as on Alpine, sshd refuses a locked account whatever key it has (OpenSSH, allowed_user())."""
    said = [words[0].lower() for words in sshd_config.settings(guest, "UsePAM")]
    if sshd_config.config_file(guest) is None or said[:1] == ["yes"]:
        return
    for user in users:
        if "".join(shadow_fields(shadow, user.name)[1:2]).startswith("!"):
            report.warning(
                f"The keys of {user.name!r} are added, but its account is locked in {SHADOW}, and the guest's sshd, "
                "which does not use PAM, refuses those; give a password, or img_passwd_hash=* for keys alone"
            )


def key_files(
    guest: Guest, users: tuple[User, ...], keys: tuple[PublicKey, ...], report: Reporter
) -> tuple[KeyFile, ...]:
    """What the users' files of keys are to be."""
    patterns = places(guest) if keys else ()
    if keys and users and not patterns:
        report.warning("The guest's sshd_config says AuthorizedKeysFile none: no SSH key is added")
    files = tuple(planned(guest, user, keys, patterns) for user in users if patterns)
    for file in files:
        if file.shared:
            report.warning(f"The guest's sshd reads {shown(file.path)} for every user: the keys open all accounts")
    return files


def skip(job: Job) -> str | None:
    if not (sets_password(job) or (job.secrets.authorized_keys or "").strip()):
        return "neither a password, nor a hash, nor SSH keys are given"
    # What no guest could take is refused while its disk is as it came.
    _named(job)
    parse_keys(job.secrets.authorized_keys or "")
    if job.secrets.password_hash is not None:
        check_hash(job.secrets.password_hash)
    return None


TASK: Task[Guest] = Task(
    "ChangePassword",
    change_password,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE, "InitializeDatasource"),
    skip=skip,
)
