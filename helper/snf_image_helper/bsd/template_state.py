# SPDX-License-Identifier: GPL-2.0-or-later
"""What an image of a BSD still has of the machine that it was made from, by the words of the property IDENTITY_RESET.

Seeds of the random generator are not only removed where their form is known: the host's randomness takes their place,
for a virtual machine that boots for the first time has little of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from snf_image_helper.bsd.network import leftovers
from snf_image_helper.files.removal import remove_files
from snf_image_helper.fresh import fresh_bytes
from snf_image_helper.guest import Guest
from snf_image_helper.linux import template_state
from snf_image_helper.linux.template_state import Word
from snf_image_helper.system import OsFamily
from snf_image_shared.job import Job

# Raw bytes: rc.d/random of FreeBSD, random_seed() of OpenBSD's rc. In bytes.
_SEEDS: Mapping[OsFamily, Mapping[str, int]] = {
    OsFamily.FREEBSD: {"/boot/entropy": 4096, "/entropy": 4096},
    OsFamily.OPENBSD: {"/etc/random.seed": 512, "/var/db/host.random": 65536},
    OsFamily.NETBSD: {},
}
# Directory -> names in it, that the next boot makes anew: libexec/save-entropy, rc.d/hostid and hostid_save, machine_id
# of FreeBSD; make_keys() of OpenBSD's rc.
_REMOVED: Mapping[OsFamily, Mapping[str, str]] = {
    OsFamily.FREEBSD: {
        "/var/db/entropy": r"saved-entropy\.[0-9]+",
        "/etc": r"hostid|machine-id",
        "/var/db": r"machine-id",
    },
    OsFamily.OPENBSD: {
        "/etc": r"soii\.key",
        "/etc/isakmpd": r"local\.pub",
        "/etc/isakmpd/private": r"local\.key",
        "/etc/iked": r"local\.pub",
        "/etc/iked/private": r"local\.key",
    },
    OsFamily.NETBSD: {},
}
_NETBSD_SEEDS = ("/var/db/entropy-file", "/etc/entropy-file")
_POOL = 512  # bytes: RND_SAVEWORDS of NetBSD's sys/rndio.h, in whose rndsave_t they follow their number of bits
_LOGINS = ("utx.log", "utx.lastlogin", "wtmp", "wtmpx", "lastlog", "lastlogx")
_LOG_DIRECTORY = "/var/log"
_SHARED = frozenset({Word.CLOUD_INIT, Word.LOGS, Word.AGENTS})


def reset(word: Word, guest: Guest, job: Job) -> int:
    """Do what a word stands for; how many things it found. Raises GuestError."""
    if word in _SHARED:
        return template_state.reset(word, guest, job)
    special = _SPECIAL.get(word)
    return special(guest, job) if special else 0


def seed_bytes(job: Job, purpose: str, size: int) -> bytes:
    """Bytes of the host's randomness, the same when a task of one deployment is done again."""
    parts = (fresh_bytes(job, f"{purpose}\0{number}", 64) for number in range(0, size, 64))
    return b"".join(parts)[:size]


def _reset_seeds(guest: Guest, job: Job) -> int:
    family = guest.system.family
    found = 0
    for path, size in _SEEDS[family].items():
        if guest.is_file(path):
            guest.write_bytes(path, seed_bytes(job, path, size))
            found += 1
    for path in _NETBSD_SEEDS if family is OsFamily.NETBSD else ():
        if guest.is_file(path):
            guest.write_bytes(path, _netbsd_seed(job, path))
            found += 1
    return found + remove_files(guest, _REMOVED[family])


def _netbsd_seed(job: Job, path: str) -> bytes:
    """As rndctl(8) saves it: number of bits, bytes, and the SHA-1 of both."""
    from hashlib import sha1  # noqa: PLC0415  # it loads OpenSSL, which takes long under emulation, for NetBSD alone

    pool = (_POOL * 8).to_bytes(4, "little") + seed_bytes(job, path, _POOL)
    return pool + sha1(pool, usedforsecurity=False).digest()


def _forget_leases(guest: Guest, job: Job) -> int:
    return leftovers.forget_leases(guest)


def _empty_logins(guest: Guest, job: Job) -> int:
    return sum(template_state.empty(guest, f"{_LOG_DIRECTORY}/{name}") for name in _LOGINS)


_SPECIAL: Mapping[Word, Callable[[Guest, Job], int]] = {
    Word.SEEDS: _reset_seeds,
    Word.LEASES: _forget_leases,
    Word.LOGINS: _empty_logins,
}
