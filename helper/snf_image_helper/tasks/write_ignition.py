# SPDX-License-Identifier: GPL-2.0-or-later
"""WriteIgnition: what is ordered, as a configuration that Ignition reads at the guest's first boot.

Flatcar takes it from config.ign of its partition OEM, CoreOS from ignition/config.ign of the one labelled boot, MicroOS
and its relatives from the same of one labelled ignition. Nothing else of these guests is changed: they grow by
themselves, and make their machine-id and SSH host keys anew. With CLOUD_INIT the user data, too, are such a document.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import check_writable, mount, probe, unmount
from snf_image_helper.fresh import fresh_bytes
from snf_image_helper.guest import Guest, Ownership
from snf_image_helper.linux import ignition, kernel_arguments, time_zones
from snf_image_helper.linux.asked_arguments import asked
from snf_image_helper.linux.ignition import File, Orders, User
from snf_image_helper.network import RENDERERS, Renderer
from snf_image_helper.network.cards import cards_of
from snf_image_helper.network.rendering import Facts
from snf_image_helper.reporter import Reporter
from snf_image_helper.system import Care, IgnitionGuest, System
from snf_image_helper.task import LINUX_ONLY, Task
from snf_image_helper.tasks.assign_hostname import host_name
from snf_image_helper.tasks.enforce_personality import contents
from snf_image_helper.users.passwords import ENTROPY, Method, check_hash, hash_password, parse_method
from snf_image_helper.users.public_keys import parse_keys
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

_MOUNTED_AT = "/run/snf-image/ignition"
_PRIVATE = Ownership(mode=0o600)  # it holds hashes and personality files
_HOSTNAME = "/etc/hostname"
_LOCALTIME = "/etc/localtime"
_USER_DATA = "OS parameter cloud_userdata"
# Ordered, and in nothing that a configuration says.
_UNABLE = ("SWAP", "CUSTOM_TASK", "LOCALE", "KEYMAP")


@dataclass(frozen=True)
class _Ways:
    """`config` is a path on the partition; `user` is who gets keys and password when nobody says who."""

    config: str
    user: str
    renderer: Renderer


_WAYS = {
    IgnitionGuest.FLATCAR: _Ways("/config.ign", "core", Renderer.NETWORKD),
    IgnitionGuest.COREOS: _Ways("/ignition/config.ign", "core", Renderer.NETWORKMANAGER),
    IgnitionGuest.MICROOS: _Ways("/ignition/config.ign", "root", Renderer.NETWORKMANAGER),
}


def write_ignition(disk: Disk, job: Job, report: Reporter) -> None:
    """A configuration that the image brings is kept, and merged with ours, which wins. Raises GuestError."""
    system = disk.system
    if system is None or system.ignition is None:
        raise ValueError("nobody has looked for the partition that Ignition reads")
    ways = _WAYS[system.ignition.guest]
    with _opened(disk, system, disk.partition_device(system.ignition.partition)) as place:
        old = place.read_text(ways.config, missing_ok=True)
        images = ignition.without_ours(old, ways.config) if old is not None else ()
        new = ignition.merged(_orders(job, ways, report).document, images, _user_data(job))
        place.make_directory(ways.config.rpartition("/")[0] or "/")
        place.write_text(ways.config, new, ownership=_PRIVATE)


@contextmanager
def _opened(disk: Disk, system: System, device: str) -> Iterator[Guest]:
    Path(_MOUNTED_AT).mkdir(parents=True, exist_ok=True)
    mount(device, _MOUNTED_AT, probe([device])[device].type)
    try:
        check_writable(device, _MOUNTED_AT)
        with Guest(_MOUNTED_AT, disk, system) as guest:
            yield guest
    finally:
        unmount(_MOUNTED_AT)


def _orders(job: Job, ways: _Ways, report: Reporter) -> Orders:
    for name in _UNABLE:
        if job.wishes.text(name) is not None:
            report.warning(f"The property {name} has no effect: this guest is set up by Ignition")
    files, links, users, arguments = list[File](), dict[str, str](), tuple[User, ...](), tuple[str, ...]()
    if _runs(job, "AssignHostname"):
        files.append(File(_HOSTNAME, f"{host_name(job, report)}\n".encode()))
    if _runs(job, "ConfigureNetwork"):
        files += _network(job, ways)
    if _runs(job, "ConfigureLocale") and (zone := job.wishes.text(time_zones.PROPERTY)):
        time_zones.check(zone)
        links[_LOCALTIME] = f"../usr/share/zoneinfo/{zone}"
    if _runs(job, "ConfigureBoot") and (wanted := asked(job)):
        serial = ("console=tty0", f"console={kernel_arguments.SERIAL_PORT},{kernel_arguments.SERIAL_SPEED}n8")
        arguments = (*wanted.words, *(serial if wanted.serial else ()))
    if _runs(job, "EnforcePersonality"):
        files += [
            File(item.path, contents(item), item.mode & 0o777, item.owner, item.group) for item in job.personality
        ]
    if _runs(job, "ChangePassword"):
        users = _users(job, ways.user, report)
    return Orders(users, tuple(files), links, arguments)


def _runs(job: Job, task: str) -> bool:
    """Whether the user has not turned off the task that would do this in another guest."""
    return not job.wishes.flag(f"EXCLUDE_TASK_{task.upper()}")


def _network(job: Job, ways: _Ways) -> Iterator[File]:
    rendered = RENDERERS[ways.renderer](cards_of(job.nics), Facts())
    for path, content in rendered.files.items():
        yield File(path, content.text.encode(), content.mode)


def _users(job: Job, default: str, report: Reporter) -> tuple[User, ...]:
    keys = tuple(key.line for key in parse_keys(job.secrets.authorized_keys or ""))
    if job.secrets.password is None and job.secrets.password_hash is None and not keys:
        return ()
    names = tuple(dict.fromkeys((job.wishes.text("USERS") or "").split()))
    if not names:
        report.warning(f"The property USERS is not set: {default} is taken")
    return tuple(User(name, _hash(job, name), keys) for name in names or (default,))


def _hash(job: Job, user: str) -> str | None:
    if job.secrets.password_hash is not None:
        return check_hash(job.secrets.password_hash)
    if job.secrets.password is None:
        return None
    chosen = job.wishes.text("PASSWD_HASHING_METHOD")
    salt = fresh_bytes(job, f"salt\0{user}", ENTROPY)
    return hash_password(job.secrets.password, parse_method(chosen) if chosen else Method.SHA512, salt)


def _user_data(job: Job) -> tuple[str, ...]:
    """Raises GuestError for user data that are not of Ignition."""
    given = job.secrets.cloud_userdata if job.wishes.flag("CLOUD_INIT") else None
    if not given:
        return ()
    try:
        text = binascii.a2b_base64("".join(given.split()), strict_mode=True).decode()
    except ValueError as error:
        raise GuestError(f"{_USER_DATA}: {error}; encode the configuration with base64") from error
    ignition.checked(text, _USER_DATA)
    return (text,)


TASK: Task[Disk] = Task(
    "WriteIgnition", write_ignition, families=LINUX_ONLY, care=Care.IGNITION, decides="for Ignition's first boot"
)
