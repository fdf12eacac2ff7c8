# SPDX-License-Identifier: GPL-2.0-or-later
"""CLOUD_INIT_SEED=partition: all that is ordered goes to cloud-init on a partition, in the place of all tasks.

The guest itself is not mounted: this is for images whose root the helper cannot read or write.
"""

from __future__ import annotations

from snf_image_helper.base64_text import decoded
from snf_image_helper.cloud_init import documents as cloud_init_documents
from snf_image_helper.cloud_init import nuageinit, seed_partition
from snf_image_helper.cloud_init.documents import Orders
from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import probe
from snf_image_helper.disks.ntfs import NTFS
from snf_image_helper.disks.partitions import MIB, SwapDisk, parse_swap
from snf_image_helper.fresh import fresh_bytes
from snf_image_helper.linux import host_names, languages, time_zones
from snf_image_helper.network import netplan
from snf_image_helper.network.cards import cards_of
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import OsFamily
from snf_image_helper.users.passwords import ENTROPY, Method, check_hash, hash_password, parse_method
from snf_image_helper.users.public_keys import parse_keys
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job, PersonalityFile

PROPERTY = "CLOUD_INIT_SEED"
REASON = f"{PROPERTY}=partition: cloud-init does it in the guest, which is not mounted"
_PLACES = ("root", "partition")
_DEFAULT_USER = "root"
# GPT, sys/sys/disk/gpt.h: freebsd, freebsd-boot, -swap, -ufs, -zfs; and an MBR's.
_FREEBSD = frozenset(f"516E7CB{digit}-6ECF-11D6-8FF8-00022D09712B" for digit in "456A") | {
    "83BD6B9D-7F41-11DC-BE0B-001560B84F0F",
    "a5",
}
FOR_WINDOWS = (
    f"property {PROPERTY}=partition: what may be a Windows takes another seed than others; set the property OSFAMILY "
    "to windows, or to what it is"
)
_OF_WINDOWS = frozenset({NTFS, "BitLocker"})
# Ordered, and in nothing that a seed says.
_UNABLE = ("CUSTOM_TASK", "KEYMAP", "CONSOLE", "KERNEL_ARGS", "CRON_RANDOMIZE")


def is_asked_for(job: Job) -> bool:
    """Whether the seed goes on a partition, and nothing else is done. Raises GuestError for a place that nobody knows.

    Windows' seed lies on one in any case, and cloudbase-init is told of it.
    """
    word = (job.wishes.text(PROPERTY) or _PLACES[0]).strip().lower()
    if word not in _PLACES:
        raise GuestError(f"property {PROPERTY}: {word[:40]!r} is none of {', '.join(_PLACES)}")
    if word == "partition" and not job.wishes.flag("CLOUD_INIT"):
        raise GuestError(f"property {PROPERTY}=partition is for images with cloud-init; set CLOUD_INIT=yes as well")
    return word == "partition" and not (job.wishes.text("OSFAMILY") or "").strip().lower().startswith("windows")


def write_seed(disk: Disk, job: Job, report: Reporter) -> None:
    """Nothing is written before all of it is known to be possible. Raises GuestError."""
    if job.wishes.text("OSFAMILY") is None:
        _refuse_windows(disk)
    orders = orders_of(job, report)
    if is_freebsd(disk, job):
        documents, warnings = nuageinit.seed(job, orders)
        for warning in warnings:
            report.warning(warning)
    else:
        documents = cloud_init_documents.documents(job, orders)
    seed_partition.put_seed(disk, documents)


def _refuse_windows(disk: Disk) -> None:
    """What only Windows has on a disk is enough: to know more the guest would have to be mounted."""
    disk.reload()
    found = probe([place.device for place in disk.places()])
    if any(system.type in _OF_WINDOWS for system in found.values()):
        raise GuestError(FOR_WINDOWS)


def is_freebsd(disk: Disk, job: Job) -> bool:
    """Whether nuageinit may have to understand the seed: told by the property OSFAMILY, or by types of partitions."""
    family = job.wishes.text("OSFAMILY")
    if family is not None:
        return family.strip().lower() == OsFamily.FREEBSD
    return any(item.type in _FREEBSD for item in disk.require_table().partitions)


def orders_of(job: Job, report: Reporter) -> Orders:
    """What the seed is to say; an excluded task is left out. Raises GuestError."""
    for name in _UNABLE:
        if job.wishes.text(name) is not None:
            report.warning(f"The property {name} has no effect: {REASON}")
    name = job.hostname.removesuffix(".")
    if not host_names.is_host_name(name):
        raise GuestError(f"the host name {name[:80]!r} is no host name; use letters, digits, dots and inner hyphens")
    keys = tuple(key.line for key in parse_keys(job.secrets.authorized_keys or ""))
    changes_users = _runs(job, "ChangePassword")
    return Orders(
        name,
        _hashes(job, report) if changes_users else {},
        keys if changes_users else (),
        _files(job) if _runs(job, "EnforcePersonality") else {},
        _swap(job, report) if _runs(job, "AddSwap") else None,
        netplan.for_cloud_init(cards_of(job.nics)) if _runs(job, "ConfigureNetwork") else {},
        decoded(job.secrets.cloud_userdata or "", "cloud_userdata", "user data"),
        _locale(job) if _runs(job, "ConfigureLocale") else {},
    )


def _runs(job: Job, task: str) -> bool:
    """Whether the user has not turned off the task that would do this in another guest."""
    return not job.wishes.flag(f"EXCLUDE_TASK_{task.upper()}")


def _hashes(job: Job, report: Reporter) -> dict[str, str]:
    """By user. SHA-512 is what every guest can verify, and what every cloud-init tells from a password."""
    if job.secrets.password is None and job.secrets.password_hash is None:
        return {}
    users = tuple(dict.fromkeys((job.wishes.text("USERS") or "").split()))
    if not users:
        report.warning(f"The property USERS is not set: {_DEFAULT_USER} is taken")
    method = parse_method(job.wishes.text("PASSWD_HASHING_METHOD") or Method.SHA512)
    found = {}
    for user in users or (_DEFAULT_USER,):
        if job.secrets.password_hash is not None:
            found[user] = check_hash(job.secrets.password_hash)
        else:
            salt = fresh_bytes(job, f"salt\0{user}", ENTROPY)
            found[user] = hash_password(job.secrets.password or "", method, salt)
    return found


def _files(job: Job) -> dict[PersonalityFile, bytes]:
    return {
        file: decoded(file.contents, f"img_personality: {file.path}: contents", "contents") for file in job.personality
    }


def _swap(job: Job, report: Reporter) -> int | None:
    text = job.wishes.text("SWAP")
    swap = parse_swap(text) if text else None
    if isinstance(swap, SwapDisk):
        report.warning(f"The property SWAP has no effect for another disk: {REASON}")
        return None
    return None if swap is None else swap.mib * MIB


def _locale(job: Job) -> dict[str, str]:
    zone, locale = job.wishes.text(time_zones.PROPERTY), job.wishes.text("LOCALE")
    if zone:
        time_zones.check(zone)
    if locale:
        languages.check(locale)
    return {name: value for name, value in (("timezone", zone), ("locale", locale)) if value}
