# SPDX-License-Identifier: GPL-2.0-or-later
"""What an image still has of the machine that it was made from, by the words of the property IDENTITY_RESET.

A word's files are removed, or emptied where programs want to find them. The list was compared with the operations of
virt-sysprep(1). Not on it: what an image may well bring on purpose (users, keys of users, certificates, /etc/hostid,
which ZFS needs to import its pools), and what is no state of a machine (caches, histories).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from enum import StrEnum

from snf_image_helper import cloud_init
from snf_image_helper.files.removal import remove_files, remove_tree
from snf_image_helper.fresh import fresh_bytes
from snf_image_helper.guest import Guest
from snf_image_helper.network import leftovers
from snf_image_shared.job import Job


class Word(StrEnum):
    """The words of IDENTITY_RESET, in the order in which they are done."""

    SEEDS = "seeds"
    LEASES = "leases"
    CARDS = "cards"
    CLOUD_INIT = "cloud-init"
    JOURNAL = "journal"
    LOGINS = "logins"
    STORAGE = "storage"
    SUBSCRIPTION = "subscription"
    LOGS = "logs"
    AGENTS = "agents"
    DOMAIN = "domain"


def reset(word: Word, guest: Guest, job: Job) -> int:
    """Do what a word stands for; how many things it found. Raises GuestError."""
    special = _SPECIAL.get(word)
    found = special(guest, job) if special else 0
    found += remove_files(guest, _REMOVED.get(word, {}))
    for path in _TREES.get(word, ()):
        if guest.is_dir(path):
            remove_tree(guest, path)
            found += 1
    return found


# Directory -> names in it. systemd and its boot loader, Debian's and OpenRC's init scripts, Red Hat's of old, Gentoo's.
_REMOVED: Mapping[Word, Mapping[str, str]] = {
    Word.SEEDS: {
        # What credentials of the template were encrypted with is the same secret for all its clones.
        "/var/lib/systemd": r"random-seed|credential\.secret",
        "/var/lib/urandom": r"random-seed",
        "/var/lib/misc": r"random-seed",
        "/var/lib": r"random-seed",
        "/var/lib/seedrng": r"seed\.(no-)?credit",
        **dict.fromkeys(("/efi/loader", "/boot/loader", "/boot/efi/loader"), r"random-seed"),
    },
    # SQLite files that PAM's modules make when they are missing.
    Word.LOGINS: {"/var/lib/wtmpdb": r"wtmp\.db.*", "/var/lib/lastlog": r"lastlog2\.db.*"},
    # By it LVM of Red Hat's family takes no disk but the template's.
    Word.STORAGE: {"/etc/lvm/devices": r"system\.devices"},
    Word.SUBSCRIPTION: {
        "/etc/pki/consumer": r"(cert|key)\.pem",
        "/etc/pki/entitlement": r".*\.pem",
        "/etc/sysconfig/rhn": r"systemid",
        "/etc/insights-client": r"machine-id|\.registered",
    },
    Word.AGENTS: {
        "/etc/salt": r"minion_id",
        "/etc/salt/pki/minion": r"minion\.(pem|pub)",
        "/etc/chef": r"client\.pem",
    },
    Word.DOMAIN: {
        "/etc": r"krb5\.keytab",
        "/var/lib/sss/db": r".*\.ldb",
        "/var/lib/samba/private": r"secrets\.(tdb|ldb|keytab)",
    },
}
_TREES: Mapping[Word, tuple[str, ...]] = {
    Word.AGENTS: ("/etc/puppetlabs/puppet/ssl", "/etc/puppet/ssl", "/var/lib/puppet/ssl"),
}
_JOURNAL = "/var/log/journal"
_LOG_DIRECTORY = "/var/log"
_LOGINS = ("wtmp", "btmp", "lastlog", "faillog", "tallylog")
_ROTATED = re.compile(r".*[.-][0-9]+|.*\.(old|gz|xz|bz2|zst)")
_DEEPEST = 8  # directories below /var/log
_ISCSI = "/etc/iscsi/initiatorname.iscsi"
_ISCSI_NAME = re.compile(r"^([ \t]*InitiatorName[ \t]*=[ \t]*)(\S{1,223})", re.MULTILINE)
_NVME_NAME, _NVME_ID = "/etc/nvme/hostnqn", "/etc/nvme/hostid"


def _forget_leases(guest: Guest, job: Job) -> int:
    return leftovers.forget_leases(guest)


def _retire_rules(guest: Guest, job: Job) -> int:
    return leftovers.retire_rules(guest)


def _reset_cloud_init(guest: Guest, job: Job) -> int:
    """What cloud-init remembers of its work, so that it does it for this instance; the seed and scripts stay."""
    state = cloud_init.state_directory(guest)
    names = ("instance", "instances", "data", "sem")
    found = [f"{state}/{name}" for name in names if guest.exists(f"{state}/{name}") or guest.is_link(f"{state}/{name}")]
    for path in found:
        remove_tree(guest, path)
    return len(found)


def _remove_journals(guest: Guest, job: Job) -> int:
    """Those of machine-ids and namespaces; the directory stays, for it is how journald is told to keep journals."""
    names = [name for name in guest.list_directory(_JOURNAL, missing_ok=True) if re.match(r"[0-9a-f]{32}(\.|$)", name)]
    for name in names:
        remove_tree(guest, f"{_JOURNAL}/{name}")
    return len(names)


def _empty_logins(guest: Guest, job: Job) -> int:
    return sum(empty(guest, f"{_LOG_DIRECTORY}/{name}") for name in _LOGINS)


def _empty_logs(guest: Guest, job: Job) -> int:
    """Rotated ones go, all others are emptied; directories stay, programs need them."""
    found = 0
    left = [_LOG_DIRECTORY]
    while left:
        directory = left.pop()
        for name in guest.list_directory(directory, missing_ok=True):
            path = f"{directory}/{name}"
            if guest.is_link(path) or path == _JOURNAL:
                continue
            if guest.is_dir(path):
                left += [path] if path.count("/") <= _DEEPEST else []
            elif guest.is_file(path) and _ROTATED.fullmatch(name):
                guest.remove(path)
                found += 1
            else:
                found += empty(guest, path)
    return found


def empty(guest: Guest, path: str) -> int:
    """Leave a file of a template without content; 1 if it had any."""
    if guest.is_link(path) or not guest.is_file(path) or not guest.head(path, 1):
        return 0
    guest.write_bytes(path, b"")
    return 1


def _rename_initiators(guest: Guest, job: Job) -> int:
    """New names, for not every distribution makes them when they are missing."""
    found = 0
    number = fresh_bytes(job, "storage", 16)
    text = guest.read_text(_ISCSI, missing_ok=True) or ""
    new = _ISCSI_NAME.sub(lambda match: match[1] + _renamed(match[2], number[:6].hex()), text)
    if new != text:
        guest.write_text(_ISCSI, new)
        found += 1
    digits = binascii.hexlify(number[:16]).decode()
    uuid = "-".join((digits[:8], digits[8:12], f"4{digits[13:16]}", f"8{digits[17:20]}", digits[20:]))
    for path, content in ((_NVME_NAME, f"nqn.2014-08.org.nvmexpress:uuid:{uuid}\n"), (_NVME_ID, f"{uuid}\n")):
        if guest.is_file(path) and guest.read_text(path).strip() not in {"", content.strip()}:
            guest.write_text(path, content)
            found += 1
    return found


def _renamed(name: str, number: str) -> str:
    """iqn.YEAR-MONTH.AUTHORITY:OWN, the part before the last colon kept (RFC 3720, 3.2.6.3.1)."""
    authority = name.rpartition(":")[0] or name
    return f"{authority}:{number}"


_SPECIAL: Mapping[Word, Callable[[Guest, Job], int]] = {
    Word.LEASES: _forget_leases,
    Word.CARDS: _retire_rules,
    Word.CLOUD_INIT: _reset_cloud_init,
    Word.JOURNAL: _remove_journals,
    Word.LOGINS: _empty_logins,
    Word.LOGS: _empty_logs,
    Word.STORAGE: _rename_initiators,
}
