# SPDX-License-Identifier: GPL-2.0-or-later
"""ChangePassword: set the password in /etc/shadow and add SSH keys, for the users in the property USERS, or root.

Keys go where the guest's sshd_config says (AuthorizedKeysFile). Under CLOUD_INIT both are left for cloud-init.
"""

from __future__ import annotations

import time

from snf_image_helper import cloud_init_users, sshd_config
from snf_image_helper.accounts import User, find_user, has_user
from snf_image_helper.guest import Guest, Ownership
from snf_image_helper.passwords import change_shadow, check_hash, hash_password, method_of, parse_method
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

SHADOW = "/etc/shadow"
_DAY = 86400  # seconds
_LONGEST_KEY = 16384  # characters: an RSA key of 16384 bits has 2800


def change_password(guest: Guest, job: Job, report: Reporter) -> None:
    """Raises GuestError for an unknown user, an unusable password, hash or key, and a guest without shadow file."""
    users = _users(job, report)
    keys = parse_keys(job.secrets.authorized_keys or "")
    if job.wishes.flag("CLOUD_INIT"):
        hashes = {user: _hash(job, guest, "") for user in users} if _sets_password(job) else {}
        cloud_init_users.leave(guest, job, hashes, keys)
        # cloud-init gives keys to its own user alone; who is in the image already can have them now.
        for present in _named_and_there(guest, job) if keys else ():
            _add_keys(guest, present, keys, report)
        return
    if _sets_password(job):
        _change_shadow(guest, job, users)
    for user in users if keys else ():
        _add_keys(guest, find_user(guest, user), keys, report)


def parse_keys(text: str) -> tuple[str, ...]:
    """The lines of an authorized_keys file that are keys, stripped. Raises GuestError for what sshd could not read."""
    found = []
    for line in text.replace("\r\n", "\n").split("\n"):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if not key.replace("\t", " ").isprintable() or len(key) > _LONGEST_KEY or " " not in key:
            raise GuestError("OS parameter auth_keys: a line is no public key; give lines as in authorized_keys")
        found.append(key)
    return tuple(dict.fromkeys(found))


def add_missing_keys(old: str, keys: tuple[str, ...]) -> str:
    """The file `old` with those keys at its end that it does not have."""
    present = {line.strip() for line in old.split("\n")}
    missing = [key for key in keys if key not in present]
    start = old if not old or old.endswith("\n") else old + "\n"
    return start + "".join(f"{key}\n" for key in missing)


def keys_path(pattern: str, user: User) -> str:
    """Expand %h, %u, %U and %% of AuthorizedKeysFile; a relative path begins at the home directory."""
    expanded = []
    tokens = {"h": user.home, "u": user.name, "U": str(user.uid), "%": "%"}
    rest = pattern
    while rest:
        plain, percent, rest = rest.partition("%")
        expanded.append(plain)
        if percent:
            if rest[:1] not in tokens:
                raise GuestError(
                    f"AuthorizedKeysFile {pattern!r} in the guest's sshd_config uses %{rest[:1]}; use only %h %u %U %%"
                )
            expanded.append(tokens[rest[0]])
            rest = rest[1:]
    path = "".join(expanded)
    return path if path.startswith("/") else f"{user.home.rstrip('/')}/{path}"


def _users(job: Job, report: Reporter) -> tuple[str, ...]:
    users = tuple(dict.fromkeys((job.wishes.text("USERS") or "").split()))
    if not users:
        report.warning("The property USERS is not set: root is taken")
    return users or ("root",)


def _named_and_there(guest: Guest, job: Job) -> tuple[User, ...]:
    """The users of the property USERS that the image has."""
    named = (job.wishes.text("USERS") or "").split()
    return tuple(find_user(guest, name) for name in named if has_user(guest, name))


def _sets_password(job: Job) -> bool:
    return job.secrets.password is not None or job.secrets.password_hash is not None


def _hash(job: Job, guest: Guest, shadow: str) -> str:
    """A hash with a salt of its own at every call, or the given one."""
    if job.secrets.password_hash is not None:
        return check_hash(job.secrets.password_hash)
    chosen = job.wishes.text("PASSWD_HASHING_METHOD")
    method = parse_method(chosen) if chosen else method_of(guest, shadow)
    return hash_password(job.secrets.password or "", method)


def _change_shadow(guest: Guest, job: Job, users: tuple[str, ...]) -> None:
    shadow = guest.read_text(SHADOW, missing_ok=True)
    if shadow is None:
        raise GuestError(f"the guest has no {SHADOW}, so the password of {users[0]!r} cannot be set; run pwconv in it")
    for user in users:
        changed = change_shadow(shadow, user, _hash(job, guest, shadow), int(time.time()) // _DAY)
        if changed is None:
            raise GuestError(f"the user {user!r} is not in {SHADOW}; correct the property USERS or add it to the image")
        shadow = changed
    guest.write_text(SHADOW, shadow)


def _add_keys(guest: Guest, user: User, keys: tuple[str, ...], report: Reporter) -> None:
    pattern = next(iter(sshd_config.settings(guest, "AuthorizedKeysFile")), (".ssh/authorized_keys",))[0]
    if pattern.lower() == "none":
        report.warning("The guest's sshd_config says AuthorizedKeysFile none: no SSH key is added")
        return
    if not user.home.startswith("/"):
        raise GuestError(f"the home directory of {user.name!r} is {user.home[:80]!r}; correct it in the guest's passwd")
    path = keys_path(pattern, user)
    _make_key_directory(guest, path.rpartition("/")[0] or "/", user)
    old = guest.read_text(path, missing_ok=True) or ""
    guest.write_text(path, add_missing_keys(old, keys), ownership=Ownership(user.uid, user.gid, 0o600))


def _make_key_directory(guest: Guest, directory: str, user: User) -> None:
    """Below the home all is the user's; a directory elsewhere is shared, and sshd wants it to be root's."""
    home = user.home.rstrip("/")
    if not directory.startswith(f"{home}/"):
        guest.make_directory(directory)
        return
    guest.make_directory(home.rpartition("/")[0] or "/")
    guest.make_directory(directory, 0o700, user.uid, user.gid)
    if not guest.is_link(directory):
        guest.chmod(directory, 0o700)
        guest.chown(directory, user.uid, user.gid)


def _skip(job: Job) -> str | None:
    if _sets_password(job) or (job.secrets.authorized_keys or "").strip():
        return None
    return "neither a password, nor a hash, nor SSH keys are given"


TASK: Task[Guest] = Task(
    "ChangePassword",
    change_password,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE, "InitializeDatasource"),
    skip=_skip,
)
