# SPDX-License-Identifier: GPL-2.0-or-later
"""Passwords and SSH keys of BSD guests: in master.passwd, and no database from which an old password would work."""

from __future__ import annotations

import ctypes
import hashlib
import hmac
from dataclasses import replace
from pathlib import Path

import pytest

from snf_image_helper.bsd.first_boot import SECURELEVEL
from snf_image_helper.guest import Guest
from snf_image_helper.system import OsFamily
from snf_image_helper.tasks.bsd import change_password
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job, Secrets
from unit.helper.bsd_trees import FAMILIES, bsd_with, family_of, files_of, phony_bsd, run_script
from unit.helper.disk_images import Listener
from unit.helper.guest_trees import JOB, perform, seen, text

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl web@example.com"
GUESTS = (
    "phony-freebsd-13.5",
    "phony-freebsd-lived-14.3",
    "phony-netbsd-9.4",
    "phony-openbsd-7.6",
    "phony-openbsd-7.7",
)
MASTER = "/etc/master.passwd"
# The same kinds in every program that knows them: crypt(5).
PREFIX = {OsFamily.FREEBSD: "$6$", OsFamily.NETBSD: "$sha1$", OsFamily.OPENBSD: "$2b$10$"}


def job(**secrets: str) -> Job:
    return replace(JOB, secrets=Secrets(**secrets), properties={"USERS": "root"}, seed="5eed" * 16)


def row(guest: Guest, user: str) -> list[str]:
    return next(line.split(":") for line in text(guest, MASTER).splitlines() if line.startswith(f"{user}:"))


def verifies(password: str, hashed: str) -> bool:
    """What libxcrypt says, asked like a login program does."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    library.crypt.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    found = library.crypt(password.encode(), hashed.encode())
    return found is not None and found.decode() == hashed


@pytest.mark.parametrize("name", GUESTS)
def test_a_password_is_a_hash_of_the_family_and_nothing_else_changes(tmp_path: Path, name: str) -> None:
    with phony_bsd(tmp_path, name) as guest:
        before = text(guest, MASTER)
        owned = seen(guest, MASTER)
        perform(change_password.TASK, guest, job(password="secret"))
        fields = row(guest, "root")
        assert fields[1].startswith(PREFIX[family_of(name)])
        assert verifies("secret", fields[1])
        assert fields[5] == "0"
        old = next(line for line in before.splitlines() if line.startswith("root:"))
        assert text(guest, MASTER) == before.replace(old, ":".join(fields))
        assert seen(guest, MASTER) == owned


@pytest.mark.row(157)
@pytest.mark.parametrize("name", GUESTS)
def test_no_database_is_left_that_knows_an_old_password(tmp_path: Path, name: str) -> None:
    with phony_bsd(tmp_path, name) as guest:
        perform(change_password.TASK, guest, job(password="secret"))
        assert not guest.exists("/etc/spwd.db")
        assert guest.exists("/etc/pwd.db"), "root's getpwnam(3) looks there when spwd.db is missing"
        assert "$" not in text(guest, "/etc/pwd.db")[4:]


@pytest.mark.row(157)
@pytest.mark.parametrize("name", GUESTS)
def test_the_first_boot_makes_the_database_and_only_the_first(tmp_path: Path, name: str) -> None:
    log = tmp_path / "log"
    with phony_bsd(tmp_path, name) as guest:
        perform(change_password.TASK, guest, job(password="secret"))
        path = "/etc/rc.snf_image_passwords" if name.startswith("phony-openbsd") else "/etc/rc.d/snf_image_passwords"
        assert run_script(guest, path, {"pwd_mkdb": f'echo "$@" >>{log}'}) == ""
        assert log.read_text() == f"-p {guest.root}{MASTER}\n"
        assert not guest.exists(path)
        assert "snf" not in (guest.read_text(SECURELEVEL, missing_ok=True) or "")


@pytest.mark.parametrize("name", GUESTS)
def test_done_again_nothing_changes(tmp_path: Path, name: str) -> None:
    wanted = job(password="secret", authorized_keys=KEY)
    with phony_bsd(tmp_path, name) as guest:
        first = perform(change_password.TASK, guest, wanted)
        before = files_of(guest)
        assert perform(change_password.TASK, guest, wanted).warnings == first.warnings
        assert files_of(guest) == before


def test_sha1_is_what_netbsd_calls_so(tmp_path: Path) -> None:
    with phony_bsd(tmp_path, "phony-netbsd-10.1") as guest:
        perform(change_password.TASK, guest, job(password="secret"))
        _, method, rounds, salt, digest = row(guest, "root")[1].split("$")
    # lib/libcrypt/crypt-sha1.c: PBKDF1 with HMAC-SHA1 over salt, "$sha1$" and the number of rounds.
    found = hmac.new(b"secret", f"{salt}$sha1${rounds}".encode(), hashlib.sha1).digest()
    for _ in range(int(rounds) - 1):
        found = hmac.digest(b"secret", found, "sha1")
    alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    encoded = ""
    for start in range(0, 21, 3):
        three = found[start : start + 3] if start < 18 else found[18:20] + found[:1]
        number = int.from_bytes(three)
        encoded += "".join(alphabet[number >> shift & 63] for shift in (0, 6, 12, 18))
    assert method == "sha1"
    assert digest == encoded


@pytest.mark.parametrize(
    ("family", "method", "prefix"),
    [
        (OsFamily.FREEBSD, "blowfish", "$2b$"),
        (OsFamily.FREEBSD, "MD5", "$1$"),
        (OsFamily.FREEBSD, "sha256", "$5$"),
        (OsFamily.NETBSD, "blowfish", "$2a$"),
        (OsFamily.OPENBSD, "blowfish", "$2b$"),
    ],
)
def test_a_method_that_the_family_knows_is_taken(tmp_path: Path, family: OsFamily, method: str, prefix: str) -> None:
    with minimal(tmp_path, family) as guest:
        perform(change_password.TASK, guest, job(password="secret"), PASSWD_HASHING_METHOD=method)
        assert row(guest, "root")[1].startswith(prefix)


@pytest.mark.parametrize(
    ("family", "method"),
    [(OsFamily.OPENBSD, "sha512"), (OsFamily.NETBSD, "sha512"), (OsFamily.FREEBSD, "sha1"), (OsFamily.FREEBSD, "x")],
)
def test_a_method_that_the_family_does_not_know_is_refused(tmp_path: Path, family: OsFamily, method: str) -> None:
    with minimal(tmp_path, family) as guest:
        with pytest.raises(GuestError, match=f"PASSWD_HASHING_METHOD: '{method}' is none that {family} knows"):
            perform(change_password.TASK, guest, job(password="secret"), PASSWD_HASHING_METHOD=method)
        assert text(guest, MASTER) == ROOT
        assert not guest.exists("/etc/rc.d/snf_image_passwords")


@pytest.mark.row(150)
@pytest.mark.parametrize(
    ("family", "hashed", "is_known"),
    [
        (OsFamily.NETBSD, "$argon2id$v=19$m=4096,t=3,p=1$c2FsdA$aGFzaA", True),
        (OsFamily.NETBSD, "$2a$10$hash", True),
        (OsFamily.NETBSD, "$6$salt$hash", False),
        (OsFamily.OPENBSD, "$2b$10$hash", True),
        (OsFamily.OPENBSD, "$6$salt$hash", False),
        (OsFamily.FREEBSD, "$y$j9T$salt$hash", False),
        (OsFamily.FREEBSD, "*", True),
    ],
)
def test_a_hash_is_taken_as_it_is_and_one_of_another_system_is_told(
    tmp_path: Path, family: OsFamily, hashed: str, is_known: bool
) -> None:
    with minimal(tmp_path, family) as guest:
        said = perform(change_password.TASK, guest, job(password_hash=hashed))
        assert row(guest, "root")[1] == hashed
    assert any("cannot verify such a hash" in warning for warning in said.warnings) is not is_known


def test_an_account_that_must_change_its_password_or_has_expired_is_told_or_freed(tmp_path: Path) -> None:
    old = "root:*:0:0:daemon:86400:86400:Charlie &:/root:/sbin/nologin\n"
    with minimal(tmp_path, OsFamily.OPENBSD, old) as guest:
        said = perform(change_password.TASK, guest, job(password_hash="*"))
        assert text(guest, MASTER) == "root:*:0:0:daemon:0:86400:Charlie &:/root:/sbin/nologin\n"
    assert any("has expired (86400" in warning for warning in said.warnings)
    assert any("/sbin/nologin lets nobody in" in warning for warning in said.warnings)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_that_pwd_mkdb_would_refuse_is_refused_before_the_old_database_is_gone(
    tmp_path: Path, family: OsFamily
) -> None:
    with minimal(tmp_path, family, f"{ROOT}broken:line\n") as guest:
        with pytest.raises(GuestError, match=r"master\.passwd: line 2 has 2 fields instead of 10"):
            perform(change_password.TASK, guest, job(password="secret"))
        assert guest.exists("/etc/spwd.db")


@pytest.mark.parametrize("line", ["# of the admin\n", "\n"])
@pytest.mark.parametrize("family", FAMILIES)
def test_comments_and_blank_lines_are_what_freebsds_pwd_mkdb_alone_takes(
    tmp_path: Path, family: OsFamily, line: str
) -> None:
    with minimal(tmp_path, family, f"{line}{ROOT}") as guest:
        if family is OsFamily.FREEBSD:
            perform(change_password.TASK, guest, job(password_hash="*"))
            assert text(guest, MASTER).startswith(f"{line}root:*:")
        else:
            with pytest.raises(GuestError, match=r"master\.passwd: line 1 has 1 fields instead of 10"):
                perform(change_password.TASK, guest, job(password_hash="*"))


def test_a_last_line_without_an_end_gets_one(tmp_path: Path) -> None:
    with minimal(tmp_path, OsFamily.NETBSD, ROOT.rstrip("\n")) as guest:
        perform(change_password.TASK, guest, job(password_hash="*"))
        assert text(guest, MASTER).endswith(":/root:/bin/sh\n")


@pytest.mark.row(152)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_user_that_is_not_there_is_named(tmp_path: Path, family: OsFamily) -> None:
    with minimal(tmp_path, family) as guest, pytest.raises(GuestError, match=r"'alice' is not in /etc/master\.passwd"):
        perform(change_password.TASK, guest, job(password="secret"), USERS="alice")


@pytest.mark.row(154)
def test_keys_alone_leave_the_passwords_as_they_are(tmp_path: Path) -> None:
    with phony_bsd(tmp_path, "phony-freebsd-lived-14.3") as guest:
        before = text(guest, MASTER)
        perform(change_password.TASK, guest, job(authorized_keys=KEY), USERS="admin")
        assert text(guest, MASTER) == before
        assert guest.exists("/etc/spwd.db")
        assert not guest.exists("/etc/rc.d/snf_image_passwords")
        assert text(guest, "/home/admin/.ssh/authorized_keys") == f"{KEY}\n"
        if seen(guest, "/home/admin")[0]:  # made as root
            assert seen(guest, "/home/admin/.ssh/authorized_keys") == (1001, 1001, 0o600)
            assert seen(guest, "/home/admin/.ssh") == (1001, 1001, 0o700)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("phony-freebsd-14.3", ["does not start sshd", "does not let root in"]),
        ("phony-freebsd-15.0", ["does not let root in"]),
        ("phony-openbsd-7.6", []),
        ("phony-netbsd-10.1", []),
    ],
)
def test_who_cannot_be_reached_by_ssh_is_told(tmp_path: Path, name: str, said: list[str]) -> None:
    with phony_bsd(tmp_path, name) as guest:
        found = perform(change_password.TASK, guest, job(authorized_keys=KEY))
    assert len(found.warnings) == len(said)
    assert all(words in warning for words, warning in zip(said, found.warnings, strict=True))


def test_a_locked_account_with_a_key_is_told(tmp_path: Path) -> None:
    with minimal(tmp_path, OsFamily.FREEBSD, ROOT.replace(":*:", ":*LOCKED*$6$x:")) as guest:
        found: Listener = perform(change_password.TASK, guest, job(authorized_keys=KEY))
    assert any("is locked" in warning for warning in found.warnings)


ROOT = "root:*:0:0::0:0:Charlie &:/root:/bin/sh\n"


def minimal(tmp_path: Path, family: OsFamily, master: str = ROOT) -> Guest:
    files = {MASTER: master, "/etc/spwd.db": "old", "/etc/rc.d/x": "", "/etc/ssh/sshd_config": ""}
    return bsd_with(tmp_path / "guest", family, files)
