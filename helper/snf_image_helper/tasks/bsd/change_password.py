# SPDX-License-Identifier: GPL-2.0-or-later
"""ChangePassword: passwords in master.passwd(5) and SSH keys, for the users in the property USERS, or root.

Nobody reads master.passwd at a login but the database that pwd_mkdb(8) makes of it, spwd.db. The old one is removed:
then getpwnam(3) of root finds the users in pwd.db (lib/libc/gen/getpwent.c of all three: pwdbopen(), __initdb(),
_pw_opendb()), which knows no passwords, so that the system boots and no password works, the old one neither. The first
boot makes a new spwd.db before anybody can log in. It is not written here: its format is the guest's own affair.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from snf_image_helper.bsd import first_boot
from snf_image_helper.bsd.first_boot import Step
from snf_image_helper.bsd.passwords import (
    LEFTOVERS,
    MASTER,
    SECURE_DATABASE,
    Master,
    check_method,
    default_method,
    hash_for,
    is_verified,
)
from snf_image_helper.bsd.rc_conf import RcConf
from snf_image_helper.files.edits import Edits
from snf_image_helper.files.guest_errors import shown
from snf_image_helper.fresh import fresh_bytes
from snf_image_helper.guest import Guest
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import OsFamily
from snf_image_helper.task import BSD, MOUNT_IMAGE, Task
from snf_image_helper.tasks.change_password import key_files, sets_password, skip, users_of
from snf_image_helper.users import sshd_config
from snf_image_helper.users.accounts import find_user
from snf_image_helper.users.passwords import ENTROPY, check_hash
from snf_image_helper.users.public_keys import parse_keys
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

_STEP = Step("passwords", (f"rm -f {' '.join(LEFTOVERS)}", f"pwd_mkdb -p {MASTER}"))
_NO_LOGIN = frozenset({"nologin", "false"})
_LOCKED = "*LOCKED*"  # pw(8) lock; sshd and pam_unix(8) let nobody in then


def change_password(guest: Guest, job: Job, report: Reporter) -> None:
    """Nothing is written before all of it is known to be possible.

    Raises GuestError for an unknown user, an unusable password, hash, method or key, and a guest without master.passwd.
    """
    users = users_of(job, report)
    keys = parse_keys(job.secrets.authorized_keys or "")
    old = _master(guest, users[0])
    new = _changed(guest, job, old, users) if sets_password(job) else old
    accounts = tuple(find_user(guest, user) for user in users) if keys else ()
    files = key_files(guest, accounts, keys, report)
    for problem in (*_problems(guest, new, users, job), *(_ssh_problems(guest, new, users) if keys else ())):
        report.warning(problem)
    if sets_password(job):
        first_boot.add(guest, _STEP)
        guest.write_text(MASTER, new.text)
        for path in (SECURE_DATABASE, *LEFTOVERS):
            guest.remove(path, missing_ok=True)
    for file in files:
        file.write(guest)


def _master(guest: Guest, user: str) -> Master:
    text = guest.read_text(MASTER, missing_ok=True)
    if text is None:
        raise GuestError(f"the guest has no {MASTER}, so nothing can be done for {user!r}; is this its root?")
    return Master.parse(text, guest.system.family)


def _changed(guest: Guest, job: Job, master: Master, users: tuple[str, ...]) -> Master:
    family = guest.system.family
    method = check_method(job.wishes.text("PASSWD_HASHING_METHOD") or default_method(family), family)
    for user in users:
        if master.fields(user) is None:
            raise GuestError(f"the user {user!r} is not in {MASTER}; correct the property USERS or add it to the image")
        given = job.secrets.password_hash
        entropy = fresh_bytes(job, f"salt\0{user}", ENTROPY)
        hashed = hash_for(family, job.secrets.password or "", method, entropy) if given is None else check_hash(given)
        master = master.with_password(user, hashed)
    return master


def _problems(guest: Guest, master: Master, users: tuple[str, ...], job: Job) -> Iterator[str]:
    """Why nobody will log in with the password all the same."""
    for user in users if sets_password(job) else ():
        fields = master.fields(user) or ()
        hashed, expires, shell = fields[1], fields[6], fields[9]
        if not is_verified(guest.system.family, hashed):
            yield (
                f"The password of {user!r} is set, but {guest.system.family} cannot verify such a hash; "
                "give one that its crypt(3) knows"
            )
        if expires.isascii() and expires.isdigit() and len(expires) < 12 and 0 < int(expires) <= time.time():
            yield (
                f"The password of {user!r} is set, but the account has expired ({expires} in {MASTER}); "
                "change that in the image"
            )
        if shell.rpartition("/")[2] in _NO_LOGIN:
            yield f"The password of {user!r} is set, but its shell {shown(shell)} lets nobody in; change that"


def _ssh_problems(guest: Guest, master: Master, users: tuple[str, ...]) -> Iterator[str]:
    """Why nobody will log in with the keys all the same."""
    family = guest.system.family
    enabled = RcConf(Edits(guest)).value("sshd_flags" if family is OsFamily.OPENBSD else "sshd_enable")
    if family is OsFamily.NETBSD:
        enabled = RcConf(Edits(guest)).value("sshd")
    off = enabled == "NO" if family is OsFamily.OPENBSD else (enabled or "NO").lower() not in {"yes", "true", "on", "1"}
    if off:
        yield "SSH keys are added, but the guest does not start sshd: enable it in the image's rc.conf"
    said = [words[0].lower() for words in sshd_config.settings(guest, "PermitRootLogin")]
    # FreeBSD's own default in crypto/openssh is no.
    if "root" in users and (said[:1] or (["no"] if family is OsFamily.FREEBSD else [])) == ["no"]:
        yield "SSH keys of 'root' are added, but sshd_config does not let root in (PermitRootLogin); name other USERS"
    for user in users:
        if (master.fields(user) or ("", ""))[1].startswith(_LOCKED):
            yield f"The keys of {user!r} are added, but its account is locked in {MASTER}; give a password as well"


TASK: Task[Guest] = Task(
    "ChangePassword", change_password, families=BSD, after=(MOUNT_IMAGE, "InitializeDatasource"), skip=skip
)
