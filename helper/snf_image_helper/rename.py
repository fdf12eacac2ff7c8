# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of a rename: a guest that bears its instance's old name gets the new one; any other is left alone.

The guest is somebody's system that has lived: no partition or file system is changed, of its files only those that
tell the old name, all of them or none. What cannot be done is a warning, for Ganeti renames the instance all the same.
"""

from __future__ import annotations

from snf_image_helper import cloud_init
from snf_image_helper.bsd import host_names as bsd_names
from snf_image_helper.detection import detect
from snf_image_helper.disks.disk import Disk
from snf_image_helper.disks.filesystems import refuse_errors
from snf_image_helper.disks.volumes import refuse_suspended
from snf_image_helper.files.edits import Edits
from snf_image_helper.fstab import printable
from snf_image_helper.guest import Guest
from snf_image_helper.linux import host_names
from snf_image_helper.linux.distros import Distro
from snf_image_helper.linux.host_names import Renaming
from snf_image_helper.mounting import mounted
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import BSD, UNIX, reported
from snf_image_shared.deployment import Hooks
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job
from snf_image_shared.process import ProcessError
from snf_image_shared.report import CALLED, NOT_RENAMED

TASK = "AssignHostname"  # so that whoever follows the tasks knows it
_BY_HAND = "somebody has changed that by hand"
_ROOM = 1000  # characters of a reason; an event holds some more
# Where the files that tell a name, and what leads to them, may lie besides the root. Nothing else needs a mount.
_MOUNT_POINTS = frozenset({"/etc", "/usr", "/var", "/var/lib", "/var/lib/cloud"})


def rename(job: Job, report: Reporter) -> None:
    """Rename the guest on the first disk of the helper VM. Raises GuestError when there is no such disk at all."""
    rename_on(Disk.open(job.disks), job, report)


def rename_on(disk: Disk, job: Job, report: Reporter) -> None:
    """Rename the guest on this disk, or warn with NOT_RENAMED, the reason and the cure."""
    try:
        reason = _rename(disk, job, report)
    except (GuestError, ProcessError) as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename or disk.device}: {error.strerror}"
    if reason:
        report.end_tasks()
        report.warning(
            f"{NOT_RENAMED}: {reason[:_ROOM]}. To rename it by hand, start it and run in it: "
            f"hostnamectl set-hostname {job.hostname} (then look into /etc/hosts), or what its system has for that"
        )


def rename_guest(guest: Guest, renaming: Renaming, report: Reporter) -> str | None:
    """Exchange the name wherever the guest tells it; otherwise the answer is why it is left alone.

    Raises GuestError when a file cannot be read or replaced; none has been changed then.
    """
    if guest.system.family in BSD:
        edits = Edits(guest)
        reason = bsd_names.rename(edits, renaming)
        edits.apply()
        return reason
    places = host_names.places(Distro.of(guest).family)
    texts = {place.path: _text(guest, place.path) for place in places}
    seed = cloud_init.meta_data(guest)
    told = [place.name(texts[place.path]) for place in places]
    if not _has_begun(guest, seed):
        told.insert(0, _seed_name(seed))
    name = next((name for name in told if not host_names.is_unnamed(name)), "")
    if not name:
        empty = next((text for text in told if text), "")
        return f"it has no name of its own ({printable(empty) or 'nothing'} in {places[0].path})"
    if renaming.translated(name) is None and not renaming.is_new(name):
        return f"{CALLED} {printable(name)}, which is not the instance's old name {renaming.old}: {_BY_HAND}"
    if len(renaming.new) > host_names.LONGEST:
        report.warning(f"The instance name is longer than {host_names.LONGEST} characters; a guest gets its short form")
    _exchange(guest, renaming, {place.path: place.renamed(texts[place.path], renaming) for place in places}, seed)
    return None


def _rename(disk: Disk, job: Job, report: Reporter) -> str | None:
    renaming = Renaming(job.old_hostname.removesuffix("."), job.hostname.removesuffix("."))
    if not host_names.is_host_name(renaming.new):
        return f"{printable(renaming.new)} is no host name"
    system = detect(disk, job, report)
    if system.family not in UNIX:
        return f"its system is {system.family}, whose name it alone can change (Rename-Computer in its PowerShell)"
    if system.ignition:
        return "its first boot is still to come, and Ignition then calls it as it was deployed"
    refuse_suspended(disk, system, report)
    with mounted(disk, system, report, only=_MOUNT_POINTS) as guest, reported(TASK, report):
        for device in guest.mounts.values():
            refuse_errors(device)
        reason = rename_guest(guest, renaming, report)
        if reason is None and job.sends_name:
            _send_name(guest, renaming)
        if reason is None and job.hooks:
            _run_hooks(job.hooks, guest, job, report)
        return reason


def _send_name(guest: Guest, renaming: Renaming) -> None:
    # Not above: it has to know all kinds of networks, which few renames are about.
    from snf_image_helper.linux.dhcp_names import send_name  # noqa: PLC0415

    send_name(guest, host_names.short(renaming.new), only_renewed=True)


def _run_hooks(hooks: Hooks, guest: Guest, job: Job, report: Reporter) -> None:
    from snf_image_helper.hooks.running import run_hooks  # noqa: PLC0415 - few renames have any

    try:
        run_hooks(hooks.names, guest, job, report)
    except GuestError as error:
        raise GuestError(f"it is called {job.hostname} now, but {error}") from error


def _exchange(guest: Guest, renaming: Renaming, renamed: dict[str, str], seed: dict[str, cloud_init.Json]) -> None:
    renamed[host_names.HOSTS] = host_names.renamed_hosts(_text(guest, host_names.HOSTS), renaming)
    renamed[host_names.MAILNAME] = host_names.MAIL.renamed(_text(guest, host_names.MAILNAME), renaming)
    new = renaming.translated(_seed_name(seed))
    if new is not None:
        # instance-id stays: a new one would make cloud-init begin from the start, with new SSH host keys.
        renamed[cloud_init.seed_path(guest, cloud_init.META_DATA)] = cloud_init.as_text({**seed, cloud_init.NAME: new})
    guest.write_texts({path: text for path, text in renamed.items() if text != _text(guest, path)})


def _text(guest: Guest, path: str) -> str:
    return guest.read_text(path, missing_ok=True) or ""


def _seed_name(seed: dict[str, cloud_init.Json]) -> str:
    name = seed.get(cloud_init.NAME)
    return name if isinstance(name, str) else ""


def _has_begun(guest: Guest, seed: dict[str, cloud_init.Json]) -> bool:
    """Whether cloud-init has taken the name out of the seed: from then on it is the guest's own affair."""
    instance = seed.get(cloud_init.INSTANCE_ID)
    return (
        not isinstance(instance, str)
        or "\0" in instance
        or guest.is_dir(cloud_init.instance_directory(guest, instance))
    )
