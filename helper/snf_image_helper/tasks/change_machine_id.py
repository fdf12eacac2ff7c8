# SPDX-License-Identifier: GPL-2.0-or-later
"""ChangeMachineId: no guest keeps its template's id, in /etc/machine-id and D-Bus's /var/lib/dbus/machine-id.

systemd fills an empty /etc/machine-id when it boots, even where /etc is read-only. "uninitialized" there, or no file,
makes it a first boot, which resets the list of enabled units and may ask questions on the console (machine-id(5),
systemd src/core/main.c): the word is removed, for other tasks have a say in that list; a missing file stays missing.
D-Bus's id becomes a link, for systemd would take an id that is kept there (src/shared/machine-id-setup.c). Guests
without systemd get a random id at once, and so do those of a systemd before 218, such as Debian 8's, which could not
keep what it made while / was still read-only, and all with MACHINE_ID=random; there only files that exist are written.
"""

from __future__ import annotations

from snf_image_helper.files.edits import Edits
from snf_image_helper.fresh import fresh_bytes
from snf_image_helper.guest import Guest
from snf_image_helper.linux.services import has_systemd, has_unit
from snf_image_helper.reporter import Reporter
from snf_image_helper.task import LINUX_ONLY, MOUNT_IMAGE, Task
from snf_image_shared.errors import GuestError
from snf_image_shared.job import Job

PROPERTY = "MACHINE_ID"
MACHINE_ID, DBUS = "/etc/machine-id", "/var/lib/dbus/machine-id"
_CHOICES = ("boot", "random")


def change_machine_id(guest: Guest, job: Job, report: Reporter) -> None:
    """Links are followed, so one that leads from one file to the other stays a link."""
    if has_systemd(guest) and not _is_forgetful(guest) and _choice(job) != "random":
        _leave_to_systemd(guest)
        return
    machine_id = random_id(job)
    present = [path for path in (MACHINE_ID, DBUS) if guest.is_file(path)]
    for path in present:
        if guest.read_text(path) != f"{machine_id}\n":
            guest.write_text(path, f"{machine_id}\n")
    if not present:
        report.warning(f"The guest has neither {MACHINE_ID} nor {DBUS}: it makes its machine-id when it boots")


def random_id(job: Job) -> str:
    """32 hexadecimal digits, a version 4 UUID without its dashes as machine-id(5) wants it."""
    number = bytearray(fresh_bytes(job, "machine-id", 16))
    number[6] = number[6] & 0x0F | 0x40
    number[8] = number[8] & 0x3F | 0x80
    return number.hex()


def _is_forgetful(guest: Guest) -> bool:
    """Whether systemd, of which every version has journald, has nothing that writes the id when / is writable."""
    return has_unit(guest, "systemd-journald.service") and not has_unit(guest, "systemd-machine-id-commit.service")


def _leave_to_systemd(guest: Guest) -> None:
    edits = Edits(guest)
    if guest.is_file(MACHINE_ID):
        edits.put(MACHINE_ID, "")
    if guest.is_file(DBUS) and not guest.is_link(DBUS):
        edits.link(DBUS, MACHINE_ID)
    edits.apply()


def _choice(job: Job) -> str:
    """Raises GuestError for a word that nobody knows."""
    word = (job.wishes.text(PROPERTY) or "boot").strip().lower()
    if word not in _CHOICES:
        raise GuestError(f"property {PROPERTY}: {word[:40]!r} is none of {', '.join(_CHOICES)}")
    return word


def _skip(job: Job) -> str | None:
    _choice(job)
    return None


TASK: Task[Guest] = Task(
    "ChangeMachineId",
    change_machine_id,
    families=LINUX_ONLY,
    after=(MOUNT_IMAGE,),
    skip=_skip,
    decides="for systemd, or only the files that are there",
)
